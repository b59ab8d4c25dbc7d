package core

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// podRow is the line of a pod in kubectl's table.
func podRow(pod *corev1.Pod) []any {
	sum := summarizePod(pod)
	restarts := strconv.Itoa(sum.restarts)
	if sum.restarts > 0 && !sum.lastRestart.IsZero() {
		restarts = fmt.Sprintf("%d (%s ago)", sum.restarts, table.Since(sum.lastRestart))
	}
	ip := pod.Status.PodIP
	if len(pod.Status.PodIPs) > 0 {
		ip = pod.Status.PodIPs[0].IP
	}
	gates := table.None
	if n := len(pod.Spec.ReadinessGates); n > 0 {
		open := 0
		for _, gate := range pod.Spec.ReadinessGates {
			if conditionTrue(pod, gate.ConditionType) {
				open++
			}
		}
		gates = fmt.Sprintf("%d/%d", open, n)
	}
	return []any{
		pod.Name, fmt.Sprintf("%d/%d", sum.ready, sum.total), sum.reason, restarts, table.Since(pod.CreationTimestamp),
		orNone(ip), orNone(pod.Spec.NodeName), orNone(pod.Status.NominatedNodeName), gates,
	}
}

func orNone(s string) string {
	if s == "" {
		return table.None
	}
	return s
}

func conditionTrue(pod *corev1.Pod, t corev1.PodConditionType) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == t {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// podSummary is a pod in a few words: the reason is the most telling one among its containers.
type podSummary struct {
	ready, total int
	restarts     int
	lastRestart  metav1.Time
	reason       string
}

// later keeps the newest end of a container's earlier life.
func later(t metav1.Time, s *corev1.ContainerStatus) metav1.Time {
	if end := s.LastTerminationState.Terminated; end != nil && t.Before(&end.FinishedAt) {
		return end.FinishedAt
	}
	return t
}

// exitReason says why a container ended.
func exitReason(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}

func summarizePod(pod *corev1.Pod) podSummary {
	sum := podSummary{total: len(pod.Spec.Containers), reason: string(pod.Status.Phase)}
	if pod.Status.Reason != "" {
		sum.reason = pod.Status.Reason
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated {
			sum.reason = corev1.PodReasonSchedulingGated
		}
	}
	sidecars := make(map[string]bool)
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecars[c.Name] = true
			sum.total++
		}
	}
	initializing, sidecarRestarts, sidecarLast := sum.initContainers(pod, sidecars)
	if !initializing || conditionTrue(pod, corev1.PodInitialized) {
		// Restarts of init containers matter no more; those of sidecars do.
		sum.restarts, sum.lastRestart = sidecarRestarts, sidecarLast
		sum.containers(pod)
	}
	if pod.DeletionTimestamp != nil {
		switch {
		case pod.Status.Reason == "NodeLost":
			sum.reason = string(corev1.PodUnknown)
		case pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed:
			sum.reason = "Terminating"
		}
	}
	return sum
}

// initContainers takes the init containers in; it returns whether one of them is not done yet.
func (sum *podSummary) initContainers(pod *corev1.Pod, sidecars map[string]bool) (initializing bool, sidecarRestarts int, sidecarLast metav1.Time) {
	for i := range pod.Status.InitContainerStatuses {
		s := &pod.Status.InitContainerStatuses[i]
		sum.restarts += int(s.RestartCount)
		sum.lastRestart = later(sum.lastRestart, s)
		if sidecars[s.Name] {
			sidecarRestarts += int(s.RestartCount)
			sidecarLast = later(sidecarLast, s)
		}
		switch {
		case s.State.Terminated != nil && s.State.Terminated.ExitCode == 0:
			continue
		case sidecars[s.Name] && s.Started != nil && *s.Started:
			if s.Ready {
				sum.ready++
			}
			continue
		case s.State.Terminated != nil:
			sum.reason = "Init:" + exitReason(s.State.Terminated)
		case s.State.Waiting != nil && s.State.Waiting.Reason != "" && s.State.Waiting.Reason != "PodInitializing":
			sum.reason = "Init:" + s.State.Waiting.Reason
		default:
			sum.reason = fmt.Sprintf("Init:%d/%d", i, len(pod.Spec.InitContainers))
		}
		return true, sidecarRestarts, sidecarLast
	}
	return false, sidecarRestarts, sidecarLast
}

// containers takes the containers in; the first one with a reason wins, so they go backwards.
func (sum *podSummary) containers(pod *corev1.Pod) {
	running := false
	for i := len(pod.Status.ContainerStatuses) - 1; i >= 0; i-- {
		s := &pod.Status.ContainerStatuses[i]
		sum.restarts += int(s.RestartCount)
		sum.lastRestart = later(sum.lastRestart, s)
		switch {
		case s.State.Waiting != nil && s.State.Waiting.Reason != "":
			sum.reason = s.State.Waiting.Reason
		case s.State.Terminated != nil:
			sum.reason = exitReason(s.State.Terminated)
		case s.Ready && s.State.Running != nil:
			running = true
			sum.ready++
		}
	}
	// One container is done, another goes on.
	if sum.reason == "Completed" && running {
		if conditionTrue(pod, corev1.PodReady) {
			sum.reason = "Running"
		} else {
			sum.reason = "NotReady"
		}
	}
}
