package nodes

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/messages"
)

// mergePodStatus returns what is to be stored when a node reports a status: the node's word, but
// conditions and fields that others write stay, and a pod that has reached its end does not come
// back. write is false when nothing would change.
func mergePodStatus(stored, reported corev1.PodStatus) (out corev1.PodStatus, write bool) {
	if terminal(stored.Phase) && !terminal(reported.Phase) {
		return stored, false
	}
	out = reported
	out.Conditions = mergePodConditions(stored.Conditions, reported.Conditions)
	if out.QOSClass == "" {
		out.QOSClass = stored.QOSClass
	}
	if stored.StartTime != nil {
		out.StartTime = stored.StartTime // a node that lost its memory of the pod starts nothing anew
	}
	if out.NominatedNodeName == "" {
		out.NominatedNodeName = stored.NominatedNodeName
	}
	if out.ResourceClaimStatuses == nil {
		out.ResourceClaimStatuses = stored.ResourceClaimStatuses
	}
	return out, !samePodStatus(stored, out)
}

// samePodStatus compares two statuses but for the order of their conditions: the merge may have
// moved them, which is no change.
func samePodStatus(a, b corev1.PodStatus) bool {
	if len(a.Conditions) != len(b.Conditions) {
		return false
	}
	for i := range a.Conditions {
		other := &b.Conditions[i]
		if other.Type != a.Conditions[i].Type {
			if other = podCondition(b.Conditions, a.Conditions[i].Type); other == nil {
				return false
			}
		}
		if !apiequality.Semantic.DeepEqual(&a.Conditions[i], other) {
			return false
		}
	}
	a.Conditions, b.Conditions = nil, nil
	return apiequality.Semantic.DeepEqual(&a, &b)
}

// mergePodConditions takes the node's conditions as it reports them and the others' as they are
// stored: a node repeats those it knows, which may be old. Only some conditions of the node have
// passed when it reports them no more. The time of a transition that nobody saw does not move: a
// node that lost its memory reports conditions as if they had come about just now.
func mergePodConditions(stored, reported []corev1.PodCondition) []corev1.PodCondition {
	out := messages.MergePodConditions(reported, stored)
	for i := range out {
		c := &out[i]
		if old := podCondition(stored, c.Type); old != nil && old.Status == c.Status && !old.LastTransitionTime.IsZero() {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
	for _, c := range stored {
		if podCondition(out, c.Type) == nil && !passing[c.Type] {
			out = append(out, c)
		}
	}
	return out
}

// Conditions whose absence in a node's report means that they have passed.
var passing = map[corev1.PodConditionType]bool{
	corev1.PodResizePending: true, corev1.PodResizeInProgress: true,
}

func podCondition(list []corev1.PodCondition, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range list {
		if list[i].Type == t {
			return &list[i]
		}
	}
	return nil
}

// mergeNodeStatus returns what is to be stored when a node reports its status. Conditions of types
// the node does not report stay; a newer heartbeat time alone is not worth a write.
func mergeNodeStatus(stored, reported corev1.NodeStatus, now metav1.Time) (out corev1.NodeStatus, write bool) {
	out = reported
	out.Conditions = make([]corev1.NodeCondition, 0, len(reported.Conditions))
	for _, c := range reported.Conditions {
		old := nodeCondition(stored.Conditions, c.Type)
		switch {
		case old != nil && old.Status == c.Status:
			c.LastTransitionTime = old.LastTransitionTime
		case c.LastTransitionTime.IsZero() || old != nil:
			c.LastTransitionTime = now
		}
		out.Conditions = append(out.Conditions, c)
	}
	for _, c := range stored.Conditions {
		if nodeCondition(reported.Conditions, c.Type) == nil {
			out.Conditions = append(out.Conditions, c)
		}
	}
	if out.Images == nil { // not listed yet
		out.Images = stored.Images
	}
	if out.VolumesAttached == nil {
		out.VolumesAttached = stored.VolumesAttached
	}
	if out.VolumesInUse == nil {
		out.VolumesInUse = stored.VolumesInUse
	}
	return out, !apiequality.Semantic.DeepEqual(timeless(stored), timeless(out))
}

func nodeCondition(list []corev1.NodeCondition, t corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range list {
		if list[i].Type == t {
			return &list[i]
		}
	}
	return nil
}

// timeless drops what does not count as a difference between two statuses of a node.
func timeless(s corev1.NodeStatus) corev1.NodeStatus {
	s.Conditions = slices.SortedFunc(slices.Values(s.Conditions), func(a, b corev1.NodeCondition) int {
		return cmp.Compare(a.Type, b.Type)
	})
	for i := range s.Conditions {
		s.Conditions[i].LastHeartbeatTime = metav1.Time{}
	}
	return s
}

// The conditions a node answers for, and thus those nobody knows when it is silent.
var ownConditions = []corev1.NodeConditionType{
	corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure,
}

// unknownStatus is the status of a node that is silent.
func unknownStatus(stored corev1.NodeStatus, now metav1.Time) (out corev1.NodeStatus, write bool) {
	out = stored
	out.Conditions = slices.Clone(stored.Conditions)
	for _, t := range ownConditions {
		c := nodeCondition(out.Conditions, t)
		switch {
		case c == nil:
			out.Conditions = append(out.Conditions, corev1.NodeCondition{
				Type: t, Status: corev1.ConditionUnknown, Reason: "NodeStatusNeverUpdated",
				Message: "Node agent never posted node status.", LastTransitionTime: now,
			})
		case c.Status != corev1.ConditionUnknown:
			c.Status, c.LastTransitionTime = corev1.ConditionUnknown, now
			c.Reason, c.Message = "NodeStatusUnknown", "Node agent stopped posting node status."
		default:
			continue
		}
		write = true
	}
	return out, write
}
