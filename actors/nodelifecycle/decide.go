package nodelifecycle

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
)

// own are the taints this package gives and takes.
var own = []string{
	corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeUnschedulable,
	corev1.TaintNodeMemoryPressure, corev1.TaintNodeDiskPressure, corev1.TaintNodePIDPressure, corev1.TaintNodeNetworkUnavailable,
}

// byCondition are the taints of conditions that are bad when true.
var byCondition = []struct {
	condition corev1.NodeConditionType
	key       string
}{
	{corev1.NodeMemoryPressure, corev1.TaintNodeMemoryPressure},
	{corev1.NodeDiskPressure, corev1.TaintNodeDiskPressure},
	{corev1.NodePIDPressure, corev1.TaintNodePIDPressure},
	{corev1.NodeNetworkUnavailable, corev1.TaintNodeNetworkUnavailable},
}

// wantedTaints returns all taints a node is to have: those of others and ours by its conditions.
// NoExecute taints that somebody gave without a time get one, for tolerations are counted from it.
func wantedTaints(node *corev1.Node, now time.Time) []corev1.Taint {
	var ours []corev1.Taint
	add := func(key string, effects ...corev1.TaintEffect) {
		for _, effect := range effects {
			ours = append(ours, corev1.Taint{Key: key, Effect: effect})
		}
	}
	switch c := condition(node, corev1.NodeReady); {
	case c == nil:
		add(corev1.TaintNodeNotReady, corev1.TaintEffectNoSchedule) // has not reported yet
	case c.Status == corev1.ConditionFalse:
		add(corev1.TaintNodeNotReady, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute)
	case c.Status == corev1.ConditionUnknown:
		add(corev1.TaintNodeUnreachable, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute)
	}
	for _, b := range byCondition {
		if c := condition(node, b.condition); c != nil && c.Status == corev1.ConditionTrue {
			add(b.key, corev1.TaintEffectNoSchedule)
		}
	}
	if node.Spec.Unschedulable {
		add(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)
	}
	at := metav1.NewTime(now)
	var out []corev1.Taint
	for _, have := range node.Spec.Taints {
		i := slices.IndexFunc(ours, func(t corev1.Taint) bool { return t.MatchTaint(&have) })
		switch {
		case i >= 0:
			ours = slices.Delete(ours, i, i+1)
		case slices.Contains(own, have.Key):
			continue
		}
		if have.Effect == corev1.TaintEffectNoExecute && have.TimeAdded == nil {
			have.TimeAdded = &at
		}
		out = append(out, have)
	}
	for _, t := range ours {
		t.TimeAdded = &at
		out = append(out, t)
	}
	return out
}

func condition(node *corev1.Node, t corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == t {
			return &node.Status.Conditions[i]
		}
	}
	return nil
}

// silent says that a node was lost sight of.
func silent(node *corev1.Node) bool {
	c := condition(node, corev1.NodeReady)
	return c != nil && c.Status == corev1.ConditionUnknown
}

func noExecute(node *corev1.Node) (out []corev1.Taint) {
	for _, t := range node.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute {
			out = append(out, t)
		}
	}
	return out
}

func ready(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// grace is how long a node that is heard of again has to report its pods.
const grace = 5 * time.Second

// notReadyReason marks pods that were taken for not ready because their node was silent.
const notReadyReason = "NodeNotReady"

func marked(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionFalse && c.Reason == notReadyReason
	})
}

// readyByItself says that a pod's containers and readiness gates are what makes it ready.
func readyByItself(pod *corev1.Pod) bool {
	is := func(t corev1.PodConditionType) bool {
		return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == t && c.Status == corev1.ConditionTrue })
	}
	return is(corev1.ContainersReady) && !slices.ContainsFunc(pod.Spec.ReadinessGates, func(g corev1.PodReadinessGate) bool { return !is(g.ConditionType) })
}

// evictionDue returns when a pod has to leave because of taints, ok is false when never. A pod's
// toleration runs from when the taint was added or, if later, from when the pod was placed.
func evictionDue(pod *corev1.Pod, taints []corev1.Taint, now time.Time) (due time.Time, ok bool) {
	placed := pod.CreationTimestamp.Time
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue {
			placed = c.LastTransitionTime.Time
		}
	}
	for _, taint := range taints {
		at, leaves := leaving(pod, taint, placed, now)
		if leaves && (!ok || at.Before(due)) {
			due, ok = at, true
		}
	}
	return due, ok
}

// leaving is evictionDue for one taint: at once when it is not tolerated.
func leaving(pod *corev1.Pod, taint corev1.Taint, placed, now time.Time) (time.Time, bool) {
	for _, t := range pod.Spec.Tolerations {
		if !t.ToleratesTaint(klog.Logger{}, &taint, false) {
			continue
		}
		if t.TolerationSeconds == nil {
			return time.Time{}, false
		}
		from := now
		if taint.TimeAdded != nil {
			from = taint.TimeAdded.Time
		}
		if placed.After(from) {
			from = placed
		}
		return from.Add(time.Duration(max(*t.TolerationSeconds, 0)) * time.Second), true
	}
	return now, true
}
