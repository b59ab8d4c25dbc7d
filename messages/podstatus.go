package messages

import corev1 "k8s.io/api/core/v1"

// NodesCondition says whether a condition of a pod is its node's to set. All others belong to
// whoever sets them, such as controllers that open readiness gates.
func NodesCondition(t corev1.PodConditionType) bool {
	switch t {
	case corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled,
		corev1.PodResizePending, corev1.PodResizeInProgress:
		return true
	}
	return false
}

// MergePodConditions takes the node's conditions from one list and all others from another, so
// that neither side undoes the other's newest word by repeating an old one.
func MergePodConditions(nodes, others []corev1.PodCondition) []corev1.PodCondition {
	var out []corev1.PodCondition
	for _, c := range nodes {
		if NodesCondition(c.Type) {
			out = append(out, c)
		}
	}
	for _, c := range others {
		if !NodesCondition(c.Type) {
			out = append(out, c)
		}
	}
	return out
}
