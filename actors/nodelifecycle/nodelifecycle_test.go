package nodelifecycle

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/controller/controllertest"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/messages"
)

var nodeKey = messages.KeyOf(messages.Nodes, "", "n")

// node has the conditions given as type and status in turns.
func node(conditions ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	for i := 0; i < len(conditions); i += 2 {
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeConditionType(conditions[i]), Status: corev1.ConditionStatus(conditions[i+1])})
	}
	return n
}

func names(taints []corev1.Taint) (out []string) {
	for _, t := range taints {
		out = append(out, strings.TrimPrefix(t.Key, "node.kubernetes.io/")+":"+string(t.Effect))
	}
	return out
}

func TestWantedTaints(t *testing.T) {
	t.Parallel()
	theirs := corev1.Taint{Key: "dedicated", Value: "gpu", Effect: corev1.TaintEffectNoSchedule}
	for _, tc := range []struct {
		name   string
		node   *corev1.Node
		taints []corev1.Taint
		cordon bool
		want   []string
	}{
		{name: "ready", node: node("Ready", "True")},
		{name: "not ready", node: node("Ready", "False"), want: []string{"not-ready:NoSchedule", "not-ready:NoExecute"}},
		{name: "silent", node: node("Ready", "Unknown"), want: []string{"unreachable:NoSchedule", "unreachable:NoExecute"}},
		{name: "new", node: node(), want: []string{"not-ready:NoSchedule"}},
		{name: "pressures", node: node("Ready", "True", "MemoryPressure", "True", "DiskPressure", "True", "PIDPressure", "True", "NetworkUnavailable", "True"),
			want: []string{"memory-pressure:NoSchedule", "disk-pressure:NoSchedule", "pid-pressure:NoSchedule", "network-unavailable:NoSchedule"}},
		{name: "pressure not known", node: node("Ready", "True", "MemoryPressure", "Unknown")},
		{name: "cordoned", node: node("Ready", "True"), cordon: true, want: []string{"unschedulable:NoSchedule"}},
		{name: "of others stay, ours go", node: node("Ready", "True"), taints: []corev1.Taint{theirs, {Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute}}, want: []string{"dedicated:NoSchedule"}},
		{name: "from not ready to silent", node: node("Ready", "Unknown"), taints: []corev1.Taint{{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute}}, want: []string{"unreachable:NoSchedule", "unreachable:NoExecute"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n := tc.node
			n.Spec.Taints, n.Spec.Unschedulable = tc.taints, tc.cordon
			if diff := cmp.Diff(tc.want, names(wantedTaints(n, time.Unix(1, 0)))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTaintsKeepTheirTime(t *testing.T) {
	t.Parallel()
	n := node("Ready", "False")
	n.Spec.Taints = []corev1.Taint{{Key: "maintenance", Effect: corev1.TaintEffectNoExecute}}
	n.Spec.Taints = wantedTaints(n, time.Unix(100, 0))
	for _, taint := range wantedTaints(n, time.Unix(200, 0)) {
		if !taint.TimeAdded.Time.Equal(time.Unix(100, 0)) {
			t.Errorf("%s was added at %s", taint.Key, taint.TimeAdded)
		}
	}
}

func TestEvictionDue(t *testing.T) {
	t.Parallel()
	at := func(s int64) *metav1.Time { return ptr.To(metav1.NewTime(time.Unix(s, 0))) }
	a := corev1.Taint{Key: "a", Effect: corev1.TaintEffectNoExecute, TimeAdded: at(100)}
	b := corev1.Taint{Key: "b", Effect: corev1.TaintEffectNoExecute, TimeAdded: at(150)}
	tolerates := func(key string, seconds ...int64) corev1.Toleration {
		t := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}
		if len(seconds) > 0 {
			t.TolerationSeconds = &seconds[0]
		}
		return t
	}
	for _, tc := range []struct {
		name        string
		taints      []corev1.Taint
		tolerations []corev1.Toleration
		placed      int64
		want        int64 // 0: never
	}{
		{name: "no taint"},
		{name: "not tolerated", taints: []corev1.Taint{a}, want: 1000},
		{name: "tolerated for ever", taints: []corev1.Taint{a}, tolerations: []corev1.Toleration{tolerates("a")}},
		{name: "for a while", taints: []corev1.Taint{a}, tolerations: []corev1.Toleration{tolerates("a", 300)}, want: 400},
		{name: "placed after the taint", taints: []corev1.Taint{a}, tolerations: []corev1.Toleration{tolerates("a", 300)}, placed: 900, want: 1200},
		{name: "the sooner of two", taints: []corev1.Taint{a, b}, tolerations: []corev1.Toleration{tolerates("a", 300), tolerates("b", 10)}, want: 160},
		{name: "one of two not tolerated", taints: []corev1.Taint{a, b}, tolerations: []corev1.Toleration{tolerates("a")}, want: 1000},
		{name: "negative is at once", taints: []corev1.Taint{a}, tolerations: []corev1.Toleration{tolerates("a", -5)}, want: 100},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			pod := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: tc.tolerations}}
			if tc.placed > 0 {
				pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: *at(tc.placed)}}
			}
			due, ok := evictionDue(pod, tc.taints, time.Unix(1000, 0))
			if ok != (tc.want != 0) || ok && due.Unix() != tc.want {
				t.Errorf("due at %d, %v; want %d", due.Unix(), ok, tc.want)
			}
		})
	}
}

// pod runs on the node, is ready, and tolerates what Kubernetes' admission makes pods tolerate.
func pod(name string, tolerations ...corev1.Toleration) *corev1.Pod {
	if tolerations == nil {
		for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
			tolerations = append(tolerations, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](300)})
		}
	}
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: "n", Tolerations: tolerations},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
}

func report(t *testing.T, w *controllertest.World, ready corev1.ConditionStatus) {
	t.Helper()
	_, err := w.Mutate(t.Context(), nodeKey, "status", func(o objects.Object) (objects.Object, error) {
		c := &o.(*corev1.Node).Status.Conditions[0]
		c.Status, c.LastTransitionTime = ready, metav1.Now()
		return o, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Settle()
}

func get(t *testing.T, w *controllertest.World, name string) *corev1.Pod {
	t.Helper()
	return objectstest.Must[*corev1.Pod](t, w.Store, messages.KeyOf(messages.Pods, "default", name))
}

func TestASilentNodesPodsAreNotReadyAtOnceAndEvictedLater(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		report(t, w, corev1.ConditionUnknown)
		if p := get(t, w, "web"); ready(p) || p.DeletionTimestamp != nil {
			t.Errorf("ready %v, deleted %v", ready(p), p.DeletionTimestamp)
		}
		time.Sleep(298 * time.Second)
		if p := get(t, w, "web"); p.DeletionTimestamp != nil {
			t.Error("evicted before its toleration ran out")
		}
		time.Sleep(3 * time.Second)
		if p := get(t, w, "web"); p.DeletionTimestamp == nil || p.Status.Conditions[1].Reason != "DeletionByTaintManager" {
			t.Errorf("not evicted: %+v", p.Status)
		}
		if p := get(t, w, "daemon"); p.DeletionTimestamp != nil {
			t.Error("a pod that tolerates everything was evicted")
		}
	}, node("Ready", "True"), pod("web"), pod("daemon", corev1.Toleration{Operator: corev1.TolerationOpExists}))
}

// TestAMarkThatCrossedTheNodesReportIsTakenOff: nobody else would, for the report is done with.
func TestAMarkThatCrossedTheNodesReportIsTakenOff(t *testing.T) {
	t.Parallel()
	held := pod("broken")
	held.Status.Conditions = append(held.Status.Conditions, corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionFalse})
	fine := pod("web")
	fine.Status.Conditions = append(fine.Status.Conditions, corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionTrue})
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		report(t, w, corev1.ConditionUnknown)
		report(t, w, corev1.ConditionTrue)
		if ready(get(t, w, "web")) {
			t.Error("marked as ready before the node had its time to say so")
		}
		time.Sleep(5 * time.Second)
		if !ready(get(t, w, "web")) || ready(get(t, w, "broken")) {
			t.Errorf("web ready %v, broken ready %v", ready(get(t, w, "web")), ready(get(t, w, "broken")))
		}
		late := get(t, w, "web")
		late.Status.Conditions[0].Status, late.Status.Conditions[0].Reason = corev1.ConditionFalse, notReadyReason
		w.Put(late)
		w.Settle()
		if !ready(get(t, w, "web")) {
			t.Error("a mark that came late stays")
		}
	}, node("Ready", "True"), fine, held)
}

func TestANodeThatComesBackKeepsItsPods(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		report(t, w, corev1.ConditionUnknown)
		time.Sleep(200 * time.Second)
		report(t, w, corev1.ConditionTrue)
		time.Sleep(time.Hour)
		if p := get(t, w, "web"); p.DeletionTimestamp != nil {
			t.Error("evicted from a node that came back")
		}
		if n := objectstest.Must[*corev1.Node](t, w.Store, nodeKey); len(n.Spec.Taints) != 0 {
			t.Errorf("taints %v", n.Spec.Taints)
		}
	}, node("Ready", "True"), pod("web"))
}

func TestARestartDoesNotBeginTheTolerationAnew(t *testing.T) {
	t.Parallel()
	old := pod("web")
	old.CreationTimestamp = metav1.NewTime(time.Unix(1, 0))
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		n := objectstest.Must[*corev1.Node](t, w.Store, nodeKey)
		n.Spec.Taints = wantedTaints(n, time.Now().Add(-250*time.Second))
		w.Put(n)
		w.Start(Spec(w.Deps()))
		time.Sleep(51 * time.Second)
		if p := get(t, w, "web"); p.DeletionTimestamp == nil {
			t.Error("not evicted 300 s after the taint")
		}
	}, node("Ready", "Unknown"), old)
}

func TestEvents(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		report(t, w, corev1.ConditionUnknown)
		time.Sleep(time.Hour)
		want := []string{
			"nodes/n Normal NodeNotReady: Node n status is now: NodeNotReady",
			"pods/default/web Normal TaintManagerEviction: Marking for deletion Pod default/web",
			"pods/default/web Warning NodeNotReady: Node is not ready",
		}
		got := w.Recorder.Events()
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}, node("Ready", "True"), pod("web"))
}
