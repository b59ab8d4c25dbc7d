package disruption

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// deletionTimeout is how long an evicted pod may take until its deletion is seen; after that it
// counts as healthy again. A stale promise to disrupt a pod is taken back after the same time.
const deletionTimeout = 2 * time.Minute

// scale is how many pods the owners of a budget's pods want, as far as it is known.
type scale struct {
	pods      int32
	unmanaged []string // pods without a controller
	err       error    // of an owner whose scale nobody knows
}

// outcome is what a look at a budget and its pods gives.
type outcome struct {
	status policyv1.PodDisruptionBudgetStatus
	// again is when the next pod counts as not deleted after all; zero when there is none.
	again time.Time
	// undeleted are pods that were evicted and are not being deleted.
	undeleted []*corev1.Pod
}

// count computes the status of a budget. The scale is asked for only where the budget is relative
// to it.
func count(b *policyv1.PodDisruptionBudget, pods []*corev1.Pod, wanted func() scale, now time.Time) (outcome, scale, error) {
	expected, desired, s, err := expect(&b.Spec, int32(len(pods)), wanted)
	if err != nil {
		return outcome{}, s, err
	}
	out := disrupted(b, pods, now)
	st := &out.status
	st.CurrentHealthy = healthy(pods, st.DisruptedPods)
	st.DesiredHealthy, st.ExpectedPods, st.ObservedGeneration = desired, expected, b.Generation
	if st.DisruptionsAllowed = st.CurrentHealthy - desired; expected <= 0 || st.DisruptionsAllowed < 0 {
		st.DisruptionsAllowed = 0
	}
	c := metav1.Condition{
		Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.InsufficientPodsReason,
		ObservedGeneration: b.Generation, LastTransitionTime: metav1.NewTime(now),
	}
	if st.DisruptionsAllowed > 0 {
		c.Status, c.Reason = metav1.ConditionTrue, policyv1.SufficientPodsReason
	}
	apimeta.SetStatusCondition(&st.Conditions, c)
	return out, s, nil
}

// expect says how many pods there should be, and how many of them healthy.
func expect(spec *policyv1.PodDisruptionBudgetSpec, pods int32, wanted func() scale) (expected, desired int32, s scale, err error) {
	switch {
	case spec.MaxUnavailable != nil:
		if s = wanted(); s.err != nil {
			return 0, 0, s, s.err
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(spec.MaxUnavailable, int(s.pods), true)
		if err != nil {
			return 0, 0, s, err
		}
		return s.pods, max(s.pods-int32(n), 0), s, nil
	case spec.MinAvailable != nil && spec.MinAvailable.Type == intstr.Int:
		return pods, spec.MinAvailable.IntVal, s, nil
	case spec.MinAvailable != nil:
		if s = wanted(); s.err != nil {
			return 0, 0, s, s.err
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(spec.MinAvailable, int(s.pods), true)
		if err != nil {
			return 0, 0, s, err
		}
		return s.pods, int32(n), s, nil
	}
	return 0, 0, s, nil
}

// disrupted keeps of the evicted pods those whose deletion is still to be seen.
func disrupted(b *policyv1.PodDisruptionBudget, pods []*corev1.Pod, now time.Time) outcome {
	out := outcome{status: policyv1.PodDisruptionBudgetStatus{Conditions: append([]metav1.Condition(nil), b.Status.Conditions...)}}
	for _, p := range pods {
		at, ok := b.Status.DisruptedPods[p.Name]
		if !ok || p.DeletionTimestamp != nil {
			continue
		}
		end := at.Add(deletionTimeout)
		if !end.After(now) {
			out.undeleted = append(out.undeleted, p)
			continue
		}
		if out.status.DisruptedPods == nil {
			out.status.DisruptedPods = make(map[string]metav1.Time)
		}
		out.status.DisruptedPods[p.Name] = at
		if out.again.IsZero() || end.Before(out.again) {
			out.again = end
		}
	}
	return out
}

// healthy counts pods that are ready and will stay.
func healthy(pods []*corev1.Pod, disrupted map[string]metav1.Time) (n int32) {
	for _, p := range pods {
		if _, leaving := disrupted[p.Name]; !leaving && p.DeletionTimestamp == nil && ready(p) {
			n++
		}
	}
	return n
}

func ready(p *corev1.Pod) bool {
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// failed is the status of a budget that could not be computed: nothing may be evicted, and its
// newest spec has not been observed.
func failed(b *policyv1.PodDisruptionBudget, why error, now time.Time) policyv1.PodDisruptionBudgetStatus {
	st := *b.Status.DeepCopy()
	st.DisruptionsAllowed = 0
	apimeta.SetStatusCondition(&st.Conditions, metav1.Condition{
		Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason,
		Message: why.Error(), ObservedGeneration: st.ObservedGeneration, LastTransitionTime: metav1.NewTime(now),
	})
	return st
}

// unmanaged warns of pods whose number nobody decides.
func unmanaged(b *policyv1.PodDisruptionBudget) string {
	return fmt.Sprintf("Pods selected by this PodDisruptionBudget (selector: %v) were found to be unmanaged. As a result, the status of the PDB "+
		"cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" "+
		"field of the PDB to an integer value.", b.Spec.Selector)
}

// stale says whether a pod was promised a disruption that does not come, or when that will be so;
// ok is false when there is no such promise. The node's own promises hold until the pod ends.
func stale(p *corev1.Pod, now time.Time) (left time.Duration, ok bool) {
	if p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return 0, false
	}
	for i := range p.Status.Conditions {
		c := &p.Status.Conditions[i]
		if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason != corev1.PodReasonTerminationByKubelet {
			return max(c.LastTransitionTime.Add(deletionTimeout).Sub(now), 0), true
		}
	}
	return 0, false
}
