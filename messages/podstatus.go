package messages

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// nodesCondition says whether a condition of a pod is its node's to set. All others belong to
// whoever sets them, such as controllers that open readiness gates.
func nodesCondition(c corev1.PodCondition) bool {
	switch c.Type {
	case corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled,
		corev1.PodResizePending, corev1.PodResizeInProgress:
		return true
	case corev1.DisruptionTarget: // of whoever disrupts the pod
		return c.Reason == corev1.PodReasonTerminationByKubelet
	}
	return false
}

// SetPodCondition returns conditions with c in place of the one of its type. The time of the last
// transition stays where the status does.
func SetPodCondition(conditions []corev1.PodCondition, c corev1.PodCondition) []corev1.PodCondition {
	out := slices.Clone(conditions)
	for i, have := range out {
		if have.Type != c.Type {
			continue
		}
		if have.Status == c.Status {
			c.LastTransitionTime = have.LastTransitionTime
		}
		out[i] = c
		return out
	}
	return append(out, c)
}

// MergePodConditions takes the node's conditions from one list and all others from another, so
// that neither side undoes the other's newest word by repeating an old one.
func MergePodConditions(nodes, others []corev1.PodCondition) []corev1.PodCondition {
	var out []corev1.PodCondition
	for _, c := range nodes {
		if nodesCondition(c) {
			out = append(out, c)
		}
	}
	for _, c := range others {
		known := slices.ContainsFunc(out, func(o corev1.PodCondition) bool { return o.Type == c.Type })
		if !nodesCondition(c) && !known {
			out = append(out, c)
		}
	}
	return out
}

// NewestPodStatus is what a node goes on with: its own word on a pod, but the others' conditions
// and an end that others have set are theirs.
func NewestPodStatus(own, newest corev1.PodStatus) corev1.PodStatus {
	ended := func(p corev1.PodPhase) bool { return p == corev1.PodSucceeded || p == corev1.PodFailed }
	if ended(newest.Phase) && !ended(own.Phase) {
		own.Phase, own.Reason, own.Message = newest.Phase, newest.Reason, newest.Message
	}
	own.Conditions = MergePodConditions(own.Conditions, newest.Conditions)
	return own
}
