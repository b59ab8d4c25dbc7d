package replicaset

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }

// running is a pod that has been ready on node-1 for an hour.
func running(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), CreationTimestamp: ago(2 * time.Hour), Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: "node-1"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: ago(time.Hour)}}},
	}
	for _, fn := range change {
		fn(p)
	}
	return p
}

func unready(p *corev1.Pod)                     { p.Status.Conditions[0].Status = corev1.ConditionFalse }
func leaving(p *corev1.Pod)                     { p.DeletionTimestamp = ptr.To(ago(time.Second)) }
func phase(x corev1.PodPhase) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Status.Phase = x } }
func readyFor(d time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.Conditions[0].LastTransitionTime = ago(d) }
}

func TestMissing(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		replicas *int32
		active   int
		leaving  bool
		want     int
	}{
		{name: "too few", replicas: ptr.To[int32](3), active: 1, want: 2},
		{name: "too many", replicas: ptr.To[int32](1), active: 3, want: -2},
		{name: "unset means one", active: 0, want: 1},
		{name: "a burst is bounded", replicas: ptr.To[int32](2000), want: 500},
		{name: "so is a massacre", replicas: ptr.To[int32](0), active: 2000, want: -500},
		{name: "a leaving set does nothing", replicas: ptr.To[int32](3), leaving: true, want: 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			rs := &appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Replicas: tc.replicas}}
			if tc.leaving {
				rs.DeletionTimestamp = ptr.To(ago(0))
			}
			if got := missing(rs, tc.active); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}

func TestVictims(t *testing.T) {
	t.Parallel()
	perNode := map[string]int{"node-1": 1, "crowded": 5}
	for _, tc := range []struct {
		name        string
		goes, stays *corev1.Pod
	}{
		{"unplaced before placed", running("x", func(p *corev1.Pod) { p.Spec.NodeName = "" }), running("a", phase(corev1.PodPending), unready)},
		{"pending before running", running("x", phase(corev1.PodPending)), running("a", unready)},
		{"unready before ready", running("x", unready), running("a", func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.PodDeletionCost: "-5"} })},
		{"lower cost first", running("x", func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.PodDeletionCost: "-5"} }), running("a", func(p *corev1.Pod) { p.Spec.NodeName = "crowded" })},
		{"crowded node first", running("x", func(p *corev1.Pod) { p.Spec.NodeName = "crowded" }), running("a", readyFor(time.Second))},
		{"shorter ready first", running("x", readyFor(time.Minute)), running("a", func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 9}} })},
		{"nearly as long falls to restarts", running("x", readyFor(70*time.Minute), func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 9}} }), running("a", readyFor(69*time.Minute))},
		{"younger first", running("x", func(p *corev1.Pod) { p.CreationTimestamp = ago(time.Minute) }), running("a")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for _, pods := range [][]*corev1.Pod{{tc.goes, tc.stays}, {tc.stays, tc.goes}} {
				if got := victims(pods, perNode, 1, now); len(got) != 1 || got[0] != tc.goes {
					t.Errorf("picked %s, want %s", got[0].Name, tc.goes.Name)
				}
			}
		})
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Generation: 7}, Spec: appsv1.ReplicaSetSpec{MinReadySeconds: 60,
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web", "tier": "front"}}}}}
	pods := []*corev1.Pod{
		running("available", func(p *corev1.Pod) { p.Labels["tier"] = "front" }),
		running("soon", readyFor(50*time.Second)),
		running("later", readyFor(20*time.Second)),
		running("unready", unready),
		running("leaving", leaving),
		running("done", phase(corev1.PodSucceeded)),
		running("failed and leaving", phase(corev1.PodFailed), leaving),
	}
	got, after := count(rs, pods, now)
	want := appsv1.ReplicaSetStatus{Replicas: 4, FullyLabeledReplicas: 1, ReadyReplicas: 3, AvailableReplicas: 1, TerminatingReplicas: ptr.To[int32](1), ObservedGeneration: 7}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if after != 10*time.Second {
		t.Errorf("looks again after %s, want 10s", after)
	}
}
