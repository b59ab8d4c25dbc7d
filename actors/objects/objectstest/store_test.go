package objectstest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	testclock "k8s.io/utils/clock/testing"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

var podKey = messages.KeyOf(messages.Pods, "default", "web")

func fixedClock() *testclock.FakePassiveClock {
	return testclock.NewFakePassiveClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
}

func pod(change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
	for _, fn := range change {
		fn(p)
	}
	return p
}

func TestUpdateOfAnOldVersionConflicts(t *testing.T) {
	t.Parallel()
	s := New(fixedClock(), pod())
	stale := Must[*corev1.Pod](t, s, podKey)
	_, err := s.Mutate(t.Context(), podKey, "", func(o objects.Object) (objects.Object, error) {
		o.SetLabels(map[string]string{"a": "b"})
		return o, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(t.Context(), stale); !apierrors.IsConflict(err) {
		t.Errorf("update of a stale copy: %v, want a conflict", err)
	}
}

func TestGenerationGrowsWithTheSpecOnly(t *testing.T) {
	t.Parallel()
	s := New(fixedClock())
	obj, err := s.Create(t.Context(), &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}})
	if err != nil {
		t.Fatal(err)
	}
	rs := obj.DeepCopyObject().(*appsv1.ReplicaSet)
	rs.Status.Replicas = 3
	rs.Spec.MinReadySeconds = 7
	obj, err = s.UpdateStatus(t.Context(), rs)
	if err != nil {
		t.Fatal(err)
	}
	rs = obj.DeepCopyObject().(*appsv1.ReplicaSet)
	if rs.Generation != 1 || rs.Status.Replicas != 3 || rs.Spec.MinReadySeconds != 0 {
		t.Errorf("after a status update: generation %d, status %d, spec %d", rs.Generation, rs.Status.Replicas, rs.Spec.MinReadySeconds)
	}
	rs.Spec.MinReadySeconds, rs.Status.Replicas = 7, 0
	obj, err = s.Update(t.Context(), rs)
	if err != nil {
		t.Fatal(err)
	}
	rs = obj.(*appsv1.ReplicaSet)
	if rs.Generation != 2 || rs.Status.Replicas != 3 {
		t.Errorf("after a spec update: generation %d, status %d", rs.Generation, rs.Status.Replicas)
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	none := int64(0)
	foreground := metav1.DeletePropagationForeground
	for _, tc := range []struct {
		name  string
		obj   *corev1.Pod
		opts  metav1.DeleteOptions
		stays bool
		grace int64
		final []string
	}{
		{name: "unscheduled goes at once", obj: pod()},
		{name: "bound gets its grace", obj: pod(func(p *corev1.Pod) { p.Spec.NodeName = "n" }), stays: true, grace: 30},
		{name: "bound with grace 0 goes", obj: pod(func(p *corev1.Pod) { p.Spec.NodeName = "n" }), opts: metav1.DeleteOptions{GracePeriodSeconds: &none}},
		{name: "finalizer holds", obj: pod(func(p *corev1.Pod) { p.Finalizers = []string{"x/y"} }), stays: true, final: []string{"x/y"}},
		{name: "foreground", obj: pod(), opts: metav1.DeleteOptions{PropagationPolicy: &foreground}, stays: true, final: []string{"foregroundDeletion"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := New(fixedClock(), tc.obj)
			if err := s.Delete(t.Context(), podKey, tc.opts); err != nil {
				t.Fatal(err)
			}
			p, ok := objects.Get[*corev1.Pod](s, podKey)
			if ok != tc.stays {
				t.Fatalf("exists %v, want %v", ok, tc.stays)
			}
			if ok && (p.DeletionTimestamp == nil || *p.DeletionGracePeriodSeconds != tc.grace || !cmp.Equal(p.Finalizers, tc.final)) {
				t.Errorf("at %v, grace %d, finalizers %v", p.DeletionTimestamp, *p.DeletionGracePeriodSeconds, p.Finalizers)
			}
		})
	}
}

func TestLastFinalizerTakesTheObjectAway(t *testing.T) {
	t.Parallel()
	now := metav1.NewTime(time.Unix(1, 0))
	s := New(fixedClock(), pod(func(p *corev1.Pod) { p.Finalizers, p.DeletionTimestamp = []string{"x/y"}, &now }))
	_, err := s.Mutate(t.Context(), podKey, "", func(o objects.Object) (objects.Object, error) {
		o.SetFinalizers(nil)
		return o, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Get(podKey); ok {
		t.Error("the pod is still there")
	}
}

func TestFollowTellsWhatIsAndWhatChanges(t *testing.T) {
	t.Parallel()
	s := New(fixedClock(), pod())
	var got []string
	stop := s.Follow([]messages.Resource{messages.Pods}, func(ch objects.Change) {
		switch {
		case ch.Old == nil:
			got = append(got, "+"+string(ch.New.GetUID()))
		case ch.New == nil:
			got = append(got, "-"+string(ch.Old.GetUID()))
		default:
			got = append(got, "~"+string(ch.New.GetUID()))
		}
	})
	s.Put(pod(func(p *corev1.Pod) { p.UID = "other" }))
	s.Put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}})
	s.Put(pod(func(p *corev1.Pod) { p.UID = "other"; p.Spec.NodeName = "n" }))
	if got, want := len(s.Index(messages.Pods, objects.IndexNode, "n")), 1; got != want {
		t.Errorf("%d pods on the node, want %d", got, want)
	}
	stop()
	stop()
	s.Drop(podKey)
	if diff := cmp.Diff([]string{"+uid-1", "-uid-1", "+other", "~other"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestUnstructuredObjectsAreServedByTheirGuessedName(t *testing.T) {
	t.Parallel()
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "stable.example.com/v1", "kind": "CronTab"}}
	u.SetName("x")
	u.SetOwnerReferences([]metav1.OwnerReference{{UID: "o"}})
	s := New(fixedClock(), u)
	res := messages.Resource{Group: "stable.example.com", Resource: "crontabs"}
	if got := s.Index(res, objects.IndexOwner, "o"); len(got) != 1 {
		t.Errorf("index has %d objects, want 1", len(got))
	}
}
