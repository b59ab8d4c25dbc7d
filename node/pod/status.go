package pod

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubectl/pkg/util/qos"
)

// nodeFacts is what a pod's status says about its node.
type nodeFacts struct {
	runtime string   // scheme of container IDs
	hostIPs []string // addresses of the node
}

// statusOf derives the pod's status from what is known, as the kubelet words it. It changes
// nothing; conditions keep their transition times from the last status (s.pod.Status).
func statusOf(s *state, now time.Time, facts nodeFacts) corev1.PodStatus {
	pod := s.pod
	if isTerminal(pod.Status.Phase) && len(s.containers) == 0 { // told before, and nothing is here that could tell more
		st := *pod.Status.DeepCopy()
		st.ObservedGeneration = pod.Generation
		return st
	}
	ended := !s.stopping.IsZero() && allExited(s)
	st := corev1.PodStatus{
		ObservedGeneration: pod.Generation,
		StartTime:          &metav1.Time{Time: s.start.Truncate(time.Second)},
		QOSClass:           pod.Status.QOSClass,
		Reason:             s.failed.reason,
		Message:            s.failed.message,
		NominatedNodeName:  pod.Status.NominatedNodeName,
	}
	if st.QOSClass == "" {
		st.QOSClass = qos.GetPodQOS(pod)
	}
	v := statusView{s: s, now: now, facts: facts, ended: ended, round: s.round()}
	if s.rejected {
		st.Phase, st.Message = corev1.PodFailed, "Pod was rejected: "+s.failed.message
		v.addresses(&st)
		st.Conditions = conditions(s, &st, now)
		return st
	}
	over := v.initOver()
	for i := range pod.Spec.InitContainers {
		st.InitContainerStatuses = append(st.InitContainerStatuses, v.container(&pod.Spec.InitContainers[i], true, over))
	}
	for i := range pod.Spec.Containers {
		st.ContainerStatuses = append(st.ContainerStatuses, v.container(&pod.Spec.Containers[i], false, over))
	}
	for i := range pod.Spec.EphemeralContainers {
		st.EphemeralContainerStatuses = append(st.EphemeralContainerStatuses, v.ephemeral(ephemeral(pod, i)))
	}
	st.Phase = phaseOf(&pod.Spec, st.InitContainerStatuses, st.ContainerStatuses, ended)
	if s.failed.reason != "" {
		st.Phase = corev1.PodFailed
	}
	if isTerminal(st.Phase) && !allExited(s) { // not final while anything runs
		if st.Phase = pod.Status.Phase; st.Phase == "" {
			st.Phase = corev1.PodPending
		}
	}
	if isTerminal(pod.Status.Phase) { // what was told once stays
		st.Phase, st.Reason, st.Message = pod.Status.Phase, pod.Status.Reason, pod.Status.Message
	}
	v.addresses(&st)
	st.Conditions = conditions(s, &st, now, v.restartCondition(&st)...)
	return st
}

// allExited says whether no container runs and none is being worked on.
func allExited(s *state) bool {
	for i := range s.containers {
		if c := &s.containers[i]; !c.exited() || !c.read {
			return false
		}
	}
	for name := range s.lanes {
		if name != laneSandbox && name != laneVolumes {
			return false
		}
	}
	return true
}

type statusView struct {
	s     *state
	now   time.Time
	facts nodeFacts
	ended bool
	round uint32
}

func (v *statusView) addresses(st *corev1.PodStatus) {
	for _, ip := range v.facts.hostIPs {
		st.HostIPs = append(st.HostIPs, corev1.HostIP{IP: ip})
	}
	if len(v.facts.hostIPs) > 0 {
		st.HostIP = v.facts.hostIPs[0]
	}
	var ips []string
	if b := v.s.live(); b != nil {
		ips = b.ips
		if v.s.pod.Spec.HostNetwork {
			ips = v.facts.hostIPs
		}
	} else { // a pod that ended keeps the address it had
		for _, ip := range v.s.pod.Status.PodIPs {
			ips = append(ips, ip.IP)
		}
	}
	for _, ip := range ips {
		st.PodIPs = append(st.PodIPs, corev1.PodIP{IP: ip})
	}
	if len(ips) > 0 {
		st.PodIP = ips[0]
	}
}

// initOver says whether init is over: a regular container exists.
func (v *statusView) initOver() bool {
	for i := range v.s.pod.Spec.Containers {
		if v.s.current(v.s.pod.Spec.Containers[i].Name) != nil {
			return true
		}
	}
	return false
}

// container builds the status of one container.
func (v *statusView) container(c *corev1.Container, init, initOver bool) corev1.ContainerStatus {
	s := v.s
	out := corev1.ContainerStatus{Name: c.Name, Image: c.Image}
	started := false
	slot := s.glance(c.Name)
	x, prev := s.current(c.Name), s.previous(c.Name)
	if l := s.busy(c.Name); x != nil && !x.exited() && l != nil && l.kind == startContainer {
		// Until its postStart hook has returned the container does not count as running.
		x, prev = prev, nil
		if x == nil && initOver && !init && len(s.pod.Spec.InitContainers) > 0 {
			initOver = false
		}
	}
	var old corev1.ContainerStatus
	if x == nil {
		list := s.pod.Status.ContainerStatuses
		if init {
			list = s.pod.Status.InitContainerStatuses
		}
		old = oldStatus(list, c.Name)
	}
	switch {
	case x == nil && old.ContainerID != "" && (v.ended || isTerminal(s.pod.Status.Phase) || s.pod.DeletionTimestamp != nil):
		old.Ready, old.Started = false, &started
		if old.State.Terminated == nil { // its end was not witnessed
			old.LastTerminationState, old.State = old.State, corev1.ContainerState{Terminated: unwitnessed(old.ContainerID)}
		}
		return old
	case x == nil:
		out.State.Waiting = v.waiting(c, slot, initOver)
		if s.stopping.IsZero() || !isTerminal(s.pod.Status.Phase) {
			out.LastTerminationState = old.LastTerminationState
		}
	case x.running():
		out.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(x.started)}
		started = isStarted(s, c, x)
		out.Ready = v.ready(c, x, started, init)
		v.describe(&out, c, x)
		if prev != nil && prev.exited() {
			out.LastTerminationState.Terminated = v.terminated(prev)
		}
		v.resources(&out, c, x)
	case x.exited() && v.restartsSoon(c, x, init):
		v.describe(&out, c, x)
		out.State.Waiting = v.waiting(c, slot, true)
		if out.State.Waiting.Reason == "" || out.State.Waiting.Reason == reasonCreating || out.State.Waiting.Reason == reasonInitializing {
			// About to start: the kubelet shows the last end until then.
			out.State = corev1.ContainerState{Terminated: v.terminated(x)}
			if prev != nil && prev.exited() {
				out.LastTerminationState.Terminated = v.terminated(prev)
			}
		} else {
			out.LastTerminationState.Terminated = v.terminated(x)
		}
	case x.exited():
		v.describe(&out, c, x)
		out.State.Terminated = v.terminated(x)
		out.Ready = init && !sidecar(c) && x.code == 0
		if prev != nil && prev.exited() {
			out.LastTerminationState.Terminated = v.terminated(prev)
		}
	default: // created or unknown
		v.describe(&out, c, x)
		out.State.Waiting = v.waiting(c, slot, initOver)
		if prev != nil && prev.exited() {
			out.LastTerminationState.Terminated = v.terminated(prev)
		}
	}
	out.Started = &started
	return out
}

// unwitnessed is the end of a container that is gone from the runtime's records.
func unwitnessed(id string) *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{
		ExitCode: 137, Reason: "ContainerStatusUnknown", ContainerID: id,
		Message: "The container could not be located when the pod was terminated",
	}
}

func oldStatus(list []corev1.ContainerStatus, name string) corev1.ContainerStatus {
	for i := range list {
		if list[i].Name == name {
			return list[i]
		}
	}
	return corev1.ContainerStatus{}
}

func (v *statusView) describe(out *corev1.ContainerStatus, c *corev1.Container, x *container) {
	out.VolumeMounts = mountStatuses(c.VolumeMounts)
	if u := x.user; u != nil && x.running() {
		out.User = &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: u.Uid, GID: u.Gid, SupplementalGroups: u.SupplementalGroups}}
	}
	out.ContainerID = v.facts.runtime + "://" + x.id
	out.RestartCount = int32(x.attempt)
	out.ImageID = x.imageRef
	if x.image != "" {
		out.Image = x.image
	}
}

// mountStatuses says how volumes are mounted: what is read-only is so for the mount itself, and for
// what is mounted below only if that was asked for.
func mountStatuses(list []corev1.VolumeMount) []corev1.VolumeMountStatus {
	var out []corev1.VolumeMountStatus
	for _, m := range list {
		st := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := corev1.RecursiveReadOnlyDisabled
			if m.RecursiveReadOnly != nil && *m.RecursiveReadOnly == corev1.RecursiveReadOnlyEnabled {
				mode = corev1.RecursiveReadOnlyEnabled
			}
			st.RecursiveReadOnly = &mode
		}
		out = append(out, st)
	}
	return out
}

func (v *statusView) resources(out *corev1.ContainerStatus, c *corev1.Container, x *container) {
	if len(c.Resources.Requests) > 0 {
		out.AllocatedResources = c.Resources.Requests
	}
	if len(c.Resources.Requests) > 0 || len(c.Resources.Limits) > 0 {
		out.Resources = actual(c, x.resources)
	}
}

// restartsSoon says whether an exited container is going to run again.
func (v *statusView) restartsSoon(c *corev1.Container, x *container, init bool) bool {
	if !x.read || !v.s.stopping.IsZero() || v.s.unwanted || v.s.pod.DeletionTimestamp != nil || isTerminal(v.s.pod.Status.Phase) {
		return false
	}
	if init && !sidecar(c) && x.code == 0 && x.round == v.round {
		return false
	}
	return v.s.again(c, x, v.round)
}

func (v *statusView) ready(c *corev1.Container, x *container, started, init bool) bool {
	if !started || init && !sidecar(c) {
		return false
	}
	if c.ReadinessProbe == nil {
		return true
	}
	p := v.s.glance(c.Name).probes
	return p.id == x.id && p.ready
}

// waiting says why a container does not run.
func (v *statusView) waiting(c *corev1.Container, slot slot, initOver bool) *corev1.ContainerStateWaiting {
	s := v.s
	if slot.wait.reason != "" && slot.wait.reason != reasonKill {
		return &corev1.ContainerStateWaiting{Reason: slot.wait.reason, Message: slot.wait.message}
	}
	if x := s.current(c.Name); x != nil && x.exited() && x.read && s.busy(c.Name) == nil {
		if delay, at := slot.crash.next(x.started, x.finished); v.now.Before(at) {
			return &corev1.ContainerStateWaiting{Reason: reasonCrashLoop, Message: fmt.Sprintf(
				"back-off %s restarting failed container=%s pod=%s", delay, c.Name, fullName(s.pod))}
		}
	}
	if x := s.current(c.Name); x != nil && x.exited() && x.round < v.round {
		return &corev1.ContainerStateWaiting{Reason: reasonRestartingAll, Message: messageRestartingAll}
	}
	if len(s.pod.Spec.InitContainers) > 0 && !initOver {
		return &corev1.ContainerStateWaiting{Reason: reasonInitializing}
	}
	return &corev1.ContainerStateWaiting{Reason: reasonCreating}
}

// fullName names a pod in messages the way the kubelet does.
func fullName(p *corev1.Pod) string { return fmt.Sprintf("%s_%s(%s)", p.Name, p.Namespace, p.UID) }

func (v *statusView) terminated(x *container) *corev1.ContainerStateTerminated {
	reason := x.reason
	if reason == "" {
		if reason = "Completed"; x.code != 0 {
			reason = "Error"
		}
	}
	message := x.message
	if x.code == 137 && x.round < v.round && reason == "Error" {
		if reason = reasonRestartingAll; message == "" {
			message = messageRestartingAll
		}
	}
	return &corev1.ContainerStateTerminated{
		ExitCode: x.code, Reason: reason, Message: message, ContainerID: v.facts.runtime + "://" + x.id,
		StartedAt: metav1.NewTime(x.started), FinishedAt: metav1.NewTime(x.finished),
	}
}

// phaseOf folds the containers' states into the pod's phase. ended says that nothing of the pod
// runs or will run again.
func phaseOf(spec *corev1.PodSpec, init, regular []corev1.ContainerStatus, ended bool) corev1.PodPhase {
	pendingInit, failedInit := 0, 0
	for i := range init {
		c := &spec.InitContainers[i]
		switch t := init[i].State.Terminated; {
		case sidecar(c):
			if init[i].Started == nil || !*init[i].Started {
				pendingInit++
			}
		case t != nil && t.ExitCode == 0:
		case t != nil && !ended && restarts(spec, c, t.ExitCode):
			pendingInit++
		case t != nil:
			failedInit++
		default:
			pendingInit++
		}
	}
	running, waiting, stopped, succeeded := 0, 0, 0, 0
	for i := range regular {
		st := &regular[i]
		switch {
		case st.State.Running != nil:
			running++
		case st.State.Terminated != nil:
			stopped++
			if st.State.Terminated.ExitCode == 0 {
				succeeded++
			}
		case st.LastTerminationState.Terminated != nil:
			stopped++
		default:
			waiting++
		}
	}
	begun := running+stopped > 0
	switch {
	case ended && failedInit == 0 && stopped == len(regular) && stopped == succeeded:
		return corev1.PodSucceeded
	case ended:
		return corev1.PodFailed
	case failedInit > 0:
		return corev1.PodFailed
	case pendingInit > 0 && !begun:
		return corev1.PodPending
	case waiting > 0:
		return corev1.PodPending
	case running > 0:
		return corev1.PodRunning
	}
	if again(spec, regular) {
		return corev1.PodRunning
	}
	if stopped == succeeded {
		return corev1.PodSucceeded
	}
	return corev1.PodFailed
}

// again says whether any of the ended containers starts again.
func again(spec *corev1.PodSpec, regular []corev1.ContainerStatus) bool {
	for i := range regular {
		t := regular[i].State.Terminated
		if t == nil || restarts(spec, &spec.Containers[i], t.ExitCode) {
			return true
		}
	}
	return false
}
