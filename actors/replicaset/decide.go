package replicaset

import (
	"cmp"
	"math/bits"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"
)

// burst is the most pods one pass creates or deletes.
const burst = 500

// missing says how many pods to create (positive) or to delete (negative).
func missing(rs *appsv1.ReplicaSet, active int) int {
	if rs.DeletionTimestamp != nil {
		return 0
	}
	return max(-burst, min(burst, int(ptr.Deref(rs.Spec.Replicas, 1))-active))
}

// active says that a pod counts: it neither ended nor is being deleted.
func active(pod *corev1.Pod) bool { return !ended(pod) && pod.DeletionTimestamp == nil }

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// readyCondition returns the pod's Ready condition, or an empty one.
func readyCondition(pod *corev1.Pod) corev1.PodCondition {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c
		}
	}
	return corev1.PodCondition{}
}

// victims picks the n pods whose end hurts least: not yet placed, pending and unready ones first,
// then by deletion cost, crowding of their node (perNode counts the active pods of all sets of the
// same controller), and age.
func victims(pods []*corev1.Pod, perNode map[string]int, n int, now time.Time) []*corev1.Pod {
	if n >= len(pods) {
		return pods
	}
	all := make([]candidate, len(pods))
	for i, pod := range pods {
		all[i] = weigh(pod, perNode[pod.Spec.NodeName], now)
	}
	slices.SortFunc(all, candidate.compare)
	out := make([]*corev1.Pod, n)
	for i := range out {
		out[i] = all[i].pod
	}
	return out
}

// candidate is what a pod's place in the order of deletion depends on; smaller goes first.
type candidate struct {
	pod                *corev1.Pod
	placed, phase      int
	ready              int
	cost               int64
	crowding, restarts int
	readyFor, age      int // powers of two in seconds: near ages count as equal and fall to chance
}

func weigh(pod *corev1.Pod, crowd int, now time.Time) candidate {
	c := candidate{pod: pod, crowding: crowd, age: magnitude(now.Sub(pod.CreationTimestamp.Time))}
	if pod.Spec.NodeName != "" {
		c.placed = 1
	}
	switch pod.Status.Phase {
	case corev1.PodUnknown:
		c.phase = 1
	case corev1.PodRunning:
		c.phase = 2
	}
	if cond := readyCondition(pod); cond.Status == corev1.ConditionTrue {
		c.ready, c.readyFor = 1, magnitude(now.Sub(cond.LastTransitionTime.Time))
	}
	c.cost, _ = strconv.ParseInt(pod.Annotations[corev1.PodDeletionCost], 10, 32)
	for _, s := range pod.Status.ContainerStatuses {
		c.restarts = max(c.restarts, int(s.RestartCount))
	}
	return c
}

func (a candidate) compare(b candidate) int {
	return cmp.Or(
		cmp.Compare(a.placed, b.placed),
		cmp.Compare(a.phase, b.phase),
		cmp.Compare(a.ready, b.ready),
		cmp.Compare(a.cost, b.cost),
		cmp.Compare(b.crowding, a.crowding),
		cmp.Compare(a.readyFor, b.readyFor),
		cmp.Compare(b.restarts, a.restarts),
		cmp.Compare(a.age, b.age),
		cmp.Compare(a.pod.UID, b.pod.UID),
	)
}

func magnitude(d time.Duration) int { return bits.Len64(uint64(max(d, 0) / time.Second)) }

// count returns the status of a set with these pods, its own ReplicaFailure condition left as it
// was, and when the next pod becomes available by time alone (0: none).
func count(rs *appsv1.ReplicaSet, pods []*corev1.Pod, now time.Time) (appsv1.ReplicaSetStatus, time.Duration) {
	out := appsv1.ReplicaSetStatus{ObservedGeneration: rs.Generation, Conditions: rs.Status.Conditions}
	wanted := labels.SelectorFromSet(rs.Spec.Template.Labels)
	least := time.Duration(rs.Spec.MinReadySeconds) * time.Second
	var next time.Duration
	var leaving int32
	for _, pod := range pods {
		if !active(pod) {
			if !ended(pod) {
				leaving++
			}
			continue
		}
		out.Replicas++
		if wanted.Matches(labels.Set(pod.Labels)) {
			out.FullyLabeledReplicas++
		}
		cond := readyCondition(pod)
		if cond.Status != corev1.ConditionTrue {
			continue
		}
		out.ReadyReplicas++
		if left := cond.LastTransitionTime.Add(least).Sub(now); least == 0 || left <= 0 {
			out.AvailableReplicas++
		} else if next == 0 || left < next {
			next = left
		}
	}
	out.TerminatingReplicas = &leaving
	return out, next
}

// setFailure sets or takes away the ReplicaFailure condition.
func setFailure(status *appsv1.ReplicaSetStatus, reason, message string, now time.Time) {
	at := slices.IndexFunc(status.Conditions, func(c appsv1.ReplicaSetCondition) bool { return c.Type == appsv1.ReplicaSetReplicaFailure })
	switch {
	case reason == "" && at >= 0:
		status.Conditions = slices.Delete(slices.Clone(status.Conditions), at, at+1)
	case reason != "" && at < 0:
		status.Conditions = append(slices.Clone(status.Conditions), appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Reason: reason, Message: message,
			LastTransitionTime: metav1.NewTime(now)})
	case reason != "":
		status.Conditions = slices.Clone(status.Conditions)
		status.Conditions[at].Reason, status.Conditions[at].Message = reason, message
	}
}

// podOf returns a new pod of the set. It shares the set's template: who stores it makes a copy.
func podOf(rs *appsv1.ReplicaSet) *corev1.Pod {
	t := &rs.Spec.Template
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: rs.Namespace, GenerateName: rs.Name + "-",
			Labels: t.Labels, Annotations: t.Annotations, Finalizers: t.Finalizers,
			OwnerReferences: []metav1.OwnerReference{controllerRef(rs)},
		},
		Spec: t.Spec,
	}
}

func controllerRef(rs *appsv1.ReplicaSet) metav1.OwnerReference {
	return *metav1.NewControllerRef(rs, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
}
