package pod

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Ephemeral containers are added to a pod that runs, to look into it. They need no more than the
// sandbox, start once and count for nothing: neither phase nor readiness of the pod depend on them.

// ephemeral returns an ephemeral container as the container it is.
func ephemeral(p *corev1.Pod, i int) *corev1.Container {
	return (*corev1.Container)(&p.Spec.EphemeralContainers[i].EphemeralContainerCommon)
}

// startEphemeral starts the ephemeral containers that have never run.
func (d *decision) startEphemeral() {
	p := d.s.pod
	for i := range p.Spec.EphemeralContainers {
		c := ephemeral(p, i)
		if d.s.current(c.Name) == nil && oldStatus(p.Status.EphemeralContainerStatuses, c.Name).ContainerID == "" {
			d.start(c)
		}
	}
}

// target is the container whose processes an ephemeral container wants to see: no name when it
// wants none, no ID while that container does not exist.
type target struct{ name, id string }

func targetOf(s *state, name string) (t target) {
	for i := range s.pod.Spec.EphemeralContainers {
		if e := &s.pod.Spec.EphemeralContainers[i]; e.Name == name && e.TargetContainerName != "" {
			t.name = e.TargetContainerName
			if x := s.current(t.name); x != nil {
				t.id = x.id
			}
		}
	}
	return t
}

// join lets a container see the processes of another one, unless the whole pod or the machine
// shares them anyway.
func join(o *cri.NamespaceOption, target string) {
	if target != "" && o.GetPid() == cri.NamespaceMode_CONTAINER {
		o.Pid, o.TargetId = cri.NamespaceMode_TARGET, target
	}
}

// ephemeral builds the status of an ephemeral container: it is never ready and never restarts.
func (v *statusView) ephemeral(c *corev1.Container) corev1.ContainerStatus {
	out := corev1.ContainerStatus{Name: c.Name, Image: c.Image}
	x := v.s.current(c.Name)
	if x == nil {
		if old := oldStatus(v.s.pod.Status.EphemeralContainerStatuses, c.Name); old.ContainerID != "" {
			if old.State.Terminated == nil {
				old.State = corev1.ContainerState{Terminated: unwitnessed(old.ContainerID)}
			}
			return old
		}
		out.State.Waiting = v.waiting(c, v.s.glance(c.Name), true)
		return out
	}
	v.describe(&out, c, x)
	switch {
	case x.running():
		out.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(x.started)}
	case x.exited():
		out.State.Terminated = v.terminated(x)
	default:
		out.State.Waiting = v.waiting(c, v.s.glance(c.Name), true)
	}
	return out
}

// errNoTarget says that the container to look at does not exist.
func errNoTarget(name string) *Trouble {
	return &Trouble{Reason: reasonConfig, Message: fmt.Sprintf("unable to find target container %s", name)}
}
