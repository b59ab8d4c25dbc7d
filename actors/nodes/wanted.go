package nodes

import (
	"bytes"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/proto/nodepb"
)

// wantedSet is what a node should have, as the control plane knows it: identities and hashes, not
// the objects, which the replica holds. It has no lock and does no I/O.
type wantedSet struct {
	pods    map[messages.Key]*wantedPod
	objects map[messages.Key]*wantedObject // ConfigMaps and Secrets, also ones that do not exist
	digest  uint64
}

type wantedPod struct {
	uid  types.UID
	hash uint64
	part uint64 // in the digest
	refs []messages.Key
}

type wantedObject struct {
	users int // pods that refer to it
	ref   *nodepb.Ref
	rev   string // resourceVersion and uid seen last; empty when it does not exist
	hash  uint64
	part  uint64
}

// change is a difference to be sent.
type change struct {
	objects []*nodepb.Entry
	pods    []*nodepb.Entry
	remove  []*nodepb.Ref
	// follow and unfollow are objects that pods began or ceased to refer to.
	follow, unfollow []messages.Key
}

func (c *change) empty() bool { return len(c.objects)+len(c.pods)+len(c.remove) == 0 }

func newWantedSet() *wantedSet {
	return &wantedSet{pods: make(map[messages.Key]*wantedPod), objects: make(map[messages.Key]*wantedObject)}
}

// pod takes a pod's newest state, nil when it is gone or not on this node, and adds to out what
// has to be sent.
func (w *wantedSet) pod(key messages.Key, pod *corev1.Pod, lookup func(messages.Key) (objects.Object, bool), out *change) error {
	old := w.pods[key]
	if old != nil && (pod == nil || pod.UID != old.uid) {
		out.remove = append(out.remove, podRef(key, old.uid))
		w.digest -= old.part
		delete(w.pods, key)
	}
	if pod == nil {
		w.release(old, out)
		return nil
	}
	entry, err := encodePod(pod)
	if err != nil {
		return err
	}
	if old != nil && old.uid == pod.UID {
		if old.hash == entry.Hash {
			return nil
		}
		w.digest -= old.part
	}
	p := &wantedPod{uid: pod.UID, hash: entry.Hash, part: messages.EntryDigest(entry.Ref, entry.Hash), refs: references(pod)}
	w.pods[key] = p
	w.digest += p.part
	out.pods = append(out.pods, entry)
	for _, ref := range p.refs {
		o := w.objects[ref]
		if o == nil {
			o = &wantedObject{}
			w.objects[ref] = o
			out.follow = append(out.follow, ref)
			if err := w.object(ref, lookup, out); err != nil {
				return err
			}
		}
		o.users++
	}
	w.release(old, out)
	return nil
}

// release takes back the references of a pod's former state.
func (w *wantedSet) release(old *wantedPod, out *change) {
	if old == nil {
		return
	}
	for _, ref := range old.refs {
		o := w.objects[ref]
		if o.users--; o.users > 0 {
			continue
		}
		w.forget(o, out)
		delete(w.objects, ref)
		out.unfollow = append(out.unfollow, ref)
	}
}

// object takes the newest state of a ConfigMap or Secret, if a pod refers to it.
func (w *wantedSet) object(key messages.Key, lookup func(messages.Key) (objects.Object, bool), out *change) error {
	o := w.objects[key]
	if o == nil {
		return nil
	}
	obj, ok := lookup(key)
	if !ok {
		w.forget(o, out)
		return nil
	}
	rev := obj.GetResourceVersion() + " " + string(obj.GetUID())
	if o.rev == rev {
		return nil
	}
	entry, err := encodeObject(key, obj)
	if err != nil {
		return err
	}
	o.rev = rev
	if o.ref != nil && o.hash == entry.Hash && o.ref.Uid == entry.Ref.Uid {
		return nil
	}
	w.digest -= o.part
	o.ref, o.hash, o.part = entry.Ref, entry.Hash, messages.EntryDigest(entry.Ref, entry.Hash)
	w.digest += o.part
	out.objects = append(out.objects, entry)
	return nil
}

func (w *wantedSet) forget(o *wantedObject, out *change) {
	if o.ref == nil {
		return
	}
	out.remove = append(out.remove, o.ref)
	w.digest -= o.part
	o.ref, o.rev, o.hash, o.part = nil, "", 0, 0
}

func podRef(key messages.Key, uid types.UID) *nodepb.Ref {
	return &nodepb.Ref{Kind: nodepb.Kind_KIND_POD, Namespace: key.Namespace, Name: key.Name, Uid: string(uid)}
}

// encodePod strips what changes without meaning to the node, so that a pod's own status does not
// come back to it as news; of it only what others decide counts.
func encodePod(pod *corev1.Pod) (*nodepb.Entry, error) {
	p := *pod
	p.TypeMeta, p.Status = metav1.TypeMeta{}, corev1.PodStatus{}
	p.ManagedFields, p.ResourceVersion = nil, ""
	object, err := p.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	status, err := pod.Status.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode status of pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	return &nodepb.Entry{
		Ref:  podRef(messages.KeyOf(messages.Pods, p.Namespace, p.Name), p.UID),
		Hash: messages.ContentHash(object, decided(pod)), Object: object, Status: status,
	}, nil
}

// decided is what of a pod's status its node has to know from others: that the pod has reached its
// end, and where its readiness gates stand.
func decided(pod *corev1.Pod) []byte {
	var out []byte
	if terminal(pod.Status.Phase) {
		out = append(out, 1)
	}
	for _, g := range pod.Spec.ReadinessGates {
		if c := podCondition(pod.Status.Conditions, g.ConditionType); c != nil {
			out = append(append(append(out, c.Type...), '='), c.Status...)
		}
		out = append(out, 0)
	}
	return out
}

func encodeObject(key messages.Key, obj objects.Object) (*nodepb.Entry, error) {
	ref := &nodepb.Ref{Namespace: key.Namespace, Name: key.Name, Uid: string(obj.GetUID())}
	var out interface{ Marshal() ([]byte, error) }
	switch o := obj.(type) {
	case *corev1.ConfigMap:
		c := *o
		c.TypeMeta, c.ManagedFields, c.ResourceVersion = metav1.TypeMeta{}, nil, ""
		ref.Kind, out = nodepb.Kind_KIND_CONFIG_MAP, &c
	case *corev1.Secret:
		c := *o
		c.TypeMeta, c.ManagedFields, c.ResourceVersion = metav1.TypeMeta{}, nil, ""
		ref.Kind, out = nodepb.Kind_KIND_SECRET, &c
	default:
		return nil, fmt.Errorf("encode %s: type %T: %w", key, obj, messages.ErrInvalid)
	}
	data, err := out.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", key, err)
	}
	return &nodepb.Entry{Ref: ref, Hash: messages.ContentHash(data, nil), Object: data}, nil
}

func terminal(p corev1.PodPhase) bool { return p == corev1.PodSucceeded || p == corev1.PodFailed }

// matters says whether a pod's change can concern its node. It only spares work: a wrong yes costs
// an encoding. Generation covers the spec; pods of a store that does not count it always matter.
func matters(old, now *corev1.Pod) bool {
	return now.Generation == 0 || old.Generation != now.Generation || old.UID != now.UID ||
		old.Spec.NodeName != now.Spec.NodeName ||
		old.DeletionTimestamp.IsZero() != now.DeletionTimestamp.IsZero() ||
		!now.DeletionTimestamp.IsZero() && !old.DeletionTimestamp.Equal(now.DeletionTimestamp) ||
		!bytes.Equal(decided(old), decided(now)) ||
		!maps.Equal(old.Labels, now.Labels) || !maps.Equal(old.Annotations, now.Annotations)
}

// pack splits a change into deltas of bounded size, numbered from seq on. Objects go before the
// pods that use them; the last delta carries the digest of the set.
func pack(ch change, whole bool, seq, digest uint64, maxBytes int) []*nodepb.Delta {
	d := &nodepb.Delta{Seq: seq, Reset_: whole, Remove: ch.remove}
	out := []*nodepb.Delta{d}
	size := 64 * len(ch.remove)
	for _, entries := range [][]*nodepb.Entry{ch.objects, ch.pods} {
		for _, e := range entries {
			n := len(e.Object) + len(e.Status) + 256
			if size > 0 && size+n > maxBytes {
				d.More = true
				d = &nodepb.Delta{Seq: d.Seq + 1}
				out, size = append(out, d), 0
			}
			d.Put = append(d.Put, e)
			size += n
		}
	}
	d.Digest = digest
	return out
}
