package api_test

import (
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api"
)

// beats are heartbeats that a test makes.
type beats struct {
	mu    sync.Mutex
	heard map[string]time.Time
}

func (b *beats) Heard(node string) (time.Time, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, ok := b.heard[node]
	return at, ok
}

func (b *beats) beat(node string, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard[node] = at
}

func TestLeasesOfNodesAreMadeFromHeartbeats(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_800_000_000, 123_000)
	b := &beats{heard: make(map[string]time.Time)}
	clk := clocktesting.NewFakeClock(time.Now())
	c, ctx := start(t, func(cfg *api.Config) { cfg.Heartbeats, cfg.Clock = b, clk }), t.Context()
	node := func(name string) *corev1.Node {
		t.Helper()
		n, err := c.client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	leases := c.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	n1 := node("n1")
	if _, err := leases.Get(ctx, "n1", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a node that was never heard: %v", err)
	}
	w, err := leases.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	next := func(how watch.EventType, name string) *coordinationv1.Lease {
		t.Helper()
		for range 100 {
			select {
			case e := <-w.ResultChan():
				l, ok := e.Object.(*coordinationv1.Lease)
				if !ok || e.Type != how || l.Name != name {
					t.Fatalf("watch: %s %v, want %s %s", e.Type, e.Object, how, name)
				}
				return l
			case <-time.After(100 * time.Millisecond):
				clk.Step(time.Second) // renewals are told of now and then
			}
		}
		t.Fatalf("watch: nothing came, want %s %s", how, name)
		return nil
	}

	b.beat("n1", at)
	b.beat("n2", at)
	rev := c.store.Revision()
	l, err := leases.Get(ctx, "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if *l.Spec.HolderIdentity != "n1" || *l.Spec.LeaseDurationSeconds != 40 || !l.Spec.RenewTime.Time.Equal(at) || l.UID == "" || l.UID == n1.UID ||
		len(l.OwnerReferences) != 1 || l.OwnerReferences[0].UID != n1.UID || l.OwnerReferences[0].Kind != "Node" {
		t.Errorf("lease = %+v", l)
	}
	next(watch.Modified, "n1")
	b.beat("n1", at.Add(time.Minute))
	if l := next(watch.Modified, "n1"); !l.Spec.RenewTime.Time.Equal(at.Add(time.Minute)) {
		t.Errorf("renewed at %s", l.Spec.RenewTime)
	}
	if now := c.store.Revision(); now != rev {
		t.Errorf("heartbeats wrote: revision %d became %d", rev, now)
	}
	node("n2")
	next(watch.Added, "n2")

	// One that is kept by somebody else is left alone, in every namespace.
	own := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "n2"}, Spec: coordinationv1.LeaseSpec{HolderIdentity: ptr.To("me")}}
	if _, err := leases.Create(ctx, own, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	next(watch.Added, "n2")
	if _, err := c.client.CoordinationV1().Leases("default").Create(ctx, own, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		namespace, selector string
		want                int
	}{{"", "", 3}, {corev1.NamespaceNodeLease, "", 2}, {"default", "", 1}, {corev1.NamespaceNodeLease, "metadata.name=n1", 1}, {corev1.NamespaceNodeLease, "metadata.name=n3", 0}} {
		list, err := c.client.CoordinationV1().Leases(tc.namespace).List(ctx, metav1.ListOptions{FieldSelector: tc.selector})
		if err != nil || len(list.Items) != tc.want {
			t.Errorf("list %q %q: %d leases, want %d: %v", tc.namespace, tc.selector, len(list.Items), tc.want, err)
			continue
		}
		for _, l := range list.Items {
			if l.Name == "n2" && *l.Spec.HolderIdentity != "me" {
				t.Errorf("list %q: n2 is held by %s", tc.namespace, *l.Spec.HolderIdentity)
			}
		}
	}
	if err := c.client.CoreV1().Nodes().Delete(ctx, "n1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	next(watch.Deleted, "n1")
	if _, err := leases.Get(ctx, "n1", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("lease of a node that is gone: %v", err)
	}

	// A watch that begins with everything.
	node("n1")
	again, err := leases.Watch(ctx, metav1.ListOptions{ResourceVersion: "0", FieldSelector: "metadata.name=n1"})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Stop()
	if e := <-again.ResultChan(); e.Type != watch.Added || e.Object.(*coordinationv1.Lease).Name != "n1" {
		t.Errorf("watch of one: %s %v", e.Type, e.Object)
	}
}
