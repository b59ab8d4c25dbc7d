package pod

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// conditions derives the conditions the kubelet owns, more among them, and keeps the others.
func conditions(s *state, st *corev1.PodStatus, now time.Time, more ...corev1.PodCondition) []corev1.PodCondition {
	network := corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionFalse}
	if s.live() != nil {
		network.Status = corev1.ConditionTrue
	}
	containers := containersReady(s.pod, st)
	list := []corev1.PodCondition{
		network,
		initializedCondition(s.pod, st),
		readyCondition(s.pod, containers),
		containers,
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
	}
	if s.disrupted {
		list = append(list, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
			Reason: corev1.PodReasonTerminationByKubelet, Message: s.failed.message,
		})
	}
	list = append(append(list, more...), resizeConditions(s)...)
	old := s.pod.Status.Conditions
	for i := range list {
		c := &list[i]
		if c.ObservedGeneration == 0 {
			c.ObservedGeneration = s.pod.Generation
		}
		c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
		if o := findCondition(old, c.Type); o != nil && o.Status == c.Status && !o.LastTransitionTime.IsZero() {
			c.LastTransitionTime = o.LastTransitionTime
		}
	}
	for _, o := range old {
		ours := o.Type == corev1.PodResizePending || o.Type == corev1.PodResizeInProgress // over
		if !ours && !slices.ContainsFunc(list, func(c corev1.PodCondition) bool { return c.Type == o.Type }) {
			list = append(list, o)
		}
	}
	return list
}

func findCondition(list []corev1.PodCondition, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range list {
		if list[i].Type == t {
			return &list[i]
		}
	}
	return nil
}

func initializedCondition(pod *corev1.Pod, st *corev1.PodStatus) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}
	if st.Phase == corev1.PodSucceeded {
		c.Reason = "PodCompleted"
		return c
	}
	var left []string
	for i := range st.InitContainerStatuses {
		x := &st.InitContainerStatuses[i]
		if sidecar(&pod.Spec.InitContainers[i]) {
			if x.Started == nil || !*x.Started {
				left = append(left, x.Name)
			}
		} else if !x.Ready {
			left = append(left, x.Name)
		}
	}
	for i := range st.ContainerStatuses { // once begun, init is over for good
		if x := &st.ContainerStatuses[i]; x.State.Running != nil || x.ContainerID != "" {
			left = nil
		}
	}
	if len(left) > 0 {
		c.Status, c.Reason = corev1.ConditionFalse, "ContainersNotInitialized"
		c.Message = fmt.Sprintf("containers with incomplete status: %s", left)
	}
	return c
}

func containersReady(pod *corev1.Pod, st *corev1.PodStatus) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionFalse}
	switch st.Phase {
	case corev1.PodSucceeded:
		c.Reason = "PodCompleted"
		return c
	case corev1.PodFailed:
		c.Reason = "PodFailed"
		return c
	}
	var unready []string
	for i := range st.InitContainerStatuses {
		if x := &st.InitContainerStatuses[i]; sidecar(&pod.Spec.InitContainers[i]) && !x.Ready {
			unready = append(unready, x.Name)
		}
	}
	for i := range st.ContainerStatuses {
		if x := &st.ContainerStatuses[i]; !x.Ready {
			unready = append(unready, x.Name)
		}
	}
	if len(unready) > 0 {
		c.Reason, c.Message = "ContainersNotReady", fmt.Sprintf("containers with unready status: %s", unready)
		return c
	}
	c.Status = corev1.ConditionTrue
	return c
}

func readyCondition(pod *corev1.Pod, containers corev1.PodCondition) corev1.PodCondition {
	c := containers
	c.Type = corev1.PodReady
	if c.Status != corev1.ConditionTrue {
		return c
	}
	var gates []string
	for _, g := range pod.Spec.ReadinessGates {
		o := findCondition(pod.Status.Conditions, g.ConditionType)
		switch {
		case o == nil:
			gates = append(gates, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", g.ConditionType))
		case o.Status != corev1.ConditionTrue:
			gates = append(gates, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", g.ConditionType, o.Status))
		}
	}
	if len(gates) > 0 {
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, "ReadinessGatesNotReady", strings.Join(gates, ", ")
	}
	return c
}
