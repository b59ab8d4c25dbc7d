package api

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

const (
	// leaseDuration is what Kubernetes' nodes promise: to renew their Lease before that many seconds.
	leaseDuration = 40
	// leaseRefresh is how often watchers of Leases hear of renewals.
	leaseRefresh = 10 * time.Second
)

// Heartbeats tells when nodes were heard last.
type Heartbeats interface {
	// Heard returns when a node was heard last; ok is false when it never was.
	Heard(node string) (at time.Time, ok bool)
}

// nodeLeases adds the Leases of nodes to those that are stored. They are made from the Node and its
// heartbeats whenever somebody looks, so that heartbeats are never written. A node has a Lease when
// its agent was heard and no Lease of its name is stored: one who keeps it himself, as agents of
// other makes do, is not disturbed.
type nodeLeases struct {
	apistorage.Interface
	store  *state.Store
	beats  Heartbeats
	clock  clock.WithTicker
	prefix string // of all keys, with a trailing slash
}

// lease returns a node's Lease, nil when it has none.
func (l *nodeLeases) lease(node *corev1.Node, rev string) *coordinationv1.Lease {
	at, ok := l.beats.Heard(node.Name)
	if !ok {
		return nil
	}
	if l.stored(node.Name) {
		return nil
	}
	return leaseOf(node, at, rev)
}

func (l *nodeLeases) stored(node string) bool {
	_, ok := l.store.Get(messages.KeyOf(messages.Leases, corev1.NamespaceNodeLease, node))
	return ok
}

// leaseOf makes the Lease of a node. Its UID is always the same for the same Node.
func leaseOf(node *corev1.Node, at time.Time, rev string) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: corev1.NamespaceNodeLease, Name: node.Name, ResourceVersion: rev,
			UID:               types.UID(uuid.NewSHA1(uuid.NameSpaceOID, []byte("lease of node "+node.UID)).String()),
			CreationTimestamp: node.CreationTimestamp,
			OwnerReferences:   []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}},
		},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: ptr.To(node.Name), LeaseDurationSeconds: ptr.To[int32](leaseDuration), RenewTime: ptr.To(metav1.NewMicroTime(at)),
		},
	}
}

// selected says which Leases of nodes a key means: all of them, or that of one node.
func (l *nodeLeases) selected(key string, recursive bool) (node string, any bool) {
	rest := strings.TrimPrefix(strings.TrimSuffix(key, "/")+"/", l.prefix)
	namespace, name, _ := strings.Cut(strings.TrimSuffix(rest, "/"), "/")
	switch {
	case namespace == "":
		return "", recursive
	case namespace != corev1.NamespaceNodeLease:
		return "", false
	}
	return name, recursive || name != ""
}

// list returns the Leases of nodes that a request means.
func (l *nodeLeases) list(node string, pred *apistorage.SelectionPredicate, rev string) []*coordinationv1.Lease {
	var out []*coordinationv1.Lease
	for _, n := range objects.List[*corev1.Node](l.store, messages.Nodes, "") {
		if node != "" && n.Name != node {
			continue
		}
		if lease := l.lease(n, rev); lease != nil && matches(pred, lease) {
			out = append(out, lease)
		}
	}
	return out
}

func matches(pred *apistorage.SelectionPredicate, lease *coordinationv1.Lease) bool {
	ok, err := pred.Matches(lease)
	return err == nil && ok
}

func (l *nodeLeases) revision() string { return strconv.FormatUint(l.store.Revision(), 10) }

// Get implements storage.Interface.
func (l *nodeLeases) Get(ctx context.Context, key string, opts apistorage.GetOptions, out runtime.Object) error {
	if name, ok := l.selected(key, false); ok {
		if node, exists := objects.Get[*corev1.Node](l.store, messages.KeyOf(messages.Nodes, "", name)); exists {
			if lease := l.lease(node, l.revision()); lease != nil {
				lease.DeepCopyInto(out.(*coordinationv1.Lease))
				return nil
			}
		}
	}
	return l.Interface.Get(ctx, key, opts, out)
}

// GetList implements storage.Interface. Leases of nodes come after all others, with the last part
// of a list that is asked for in parts.
func (l *nodeLeases) GetList(ctx context.Context, key string, opts apistorage.ListOptions, out runtime.Object) error {
	if err := l.Interface.GetList(ctx, key, opts, out); err != nil {
		return err
	}
	list := out.(*coordinationv1.LeaseList)
	if node, ok := l.selected(key, opts.Recursive); ok && list.Continue == "" {
		for _, lease := range l.list(node, &opts.Predicate, list.ResourceVersion) {
			list.Items = append(list.Items, *lease)
		}
	}
	return nil
}
