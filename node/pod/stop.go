package pod

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// minGrace is what a container gets to end even when a hook or the containers before it have used
// the grace period up.
const minGrace = 2 * time.Second

// defaultGrace is for orphans whose own is not known.
const defaultGrace = 30 * time.Second

// grace returns how long the pod's containers may take to end.
func grace(p *corev1.Pod) time.Duration {
	switch {
	case p == nil:
		return defaultGrace
	case p.DeletionGracePeriodSeconds != nil:
		return time.Duration(*p.DeletionGracePeriodSeconds) * time.Second
	case p.Spec.TerminationGracePeriodSeconds != nil:
		return time.Duration(*p.Spec.TerminationGracePeriodSeconds) * time.Second
	}
	return defaultGrace
}

// probeGrace returns the grace period the probe that failed asks for, 0 when it asks for none.
func probeGrace(c *corev1.Container, started bool) time.Duration {
	p := c.LivenessProbe
	if !started && c.StartupProbe != nil {
		p = c.StartupProbe
	}
	if p == nil || p.TerminationGracePeriodSeconds == nil {
		return 0
	}
	return time.Duration(*p.TerminationGracePeriodSeconds) * time.Second
}

// dismantle takes a pod down in order: regular containers, then sidecars from the last to the
// first, the sandbox, the volumes; and when the object is on its way out, every trace.
func (d *decision) dismantle(entirely bool) {
	s := d.s
	// Starts in flight are cancelled by the actor; wait until they have ended.
	for name, l := range s.lanes {
		if l.kind != stopContainer && name != laneSandbox && name != laneVolumes {
			return
		}
	}
	if l := s.busy(laneSandbox); l != nil && l.kind == runSandbox {
		return
	}
	if d.stopContainers() {
		return
	}
	for name := range s.lanes {
		if name != laneSandbox && name != laneVolumes {
			return // has ended, but its last words are still to be read
		}
	}
	if !d.free(laneSandbox) || !d.free(laneVolumes) || len(d.actions) > 0 {
		return
	}
	for i := range s.sandboxes {
		if s.sandboxes[i].ready {
			if s.network.waits(d.now) {
				d.at(s.network.until)
				return
			}
			d.do(action{kind: stopSandbox, id: s.sandboxes[i].id})
			return
		}
	}
	if (entirely || s.released) && len(s.sandboxes) > 0 {
		if s.network.waits(d.now) {
			d.at(s.network.until)
			return
		}
		d.do(action{kind: removeSandbox, id: s.sandboxes[0].id})
		return
	}
	if s.swept == 0 || (entirely || s.released) && s.swept < 2 {
		if s.volumes.waits(d.now) {
			d.at(s.volumes.until)
			return
		}
		d.do(action{kind: sweepPod})
		return
	}
	d.finished = entirely
}

// stopContainers stops what runs; it says whether anything still does.
func (d *decision) stopContainers() bool {
	s := d.s
	left := grace(s.pod)
	if s.failed.reason == reasonEvicted {
		left = min(left, evictionGrace)
	}
	total := left
	if !s.stopping.IsZero() {
		left -= d.now.Sub(s.stopping)
	}
	if left = max(left, minGrace); total == 0 {
		left = 0
	}
	main := false
	for i := range s.containers {
		c := &s.containers[i]
		if c.exited() || d.sidecarRank(c.name) >= 0 {
			continue
		}
		main = true
		d.stopOne(c, left, total)
	}
	if main {
		return true
	}
	last := -1
	for i := range s.containers {
		if c := &s.containers[i]; !c.exited() {
			last = max(last, d.sidecarRank(c.name))
		}
	}
	if last < 0 {
		return false
	}
	for i := range s.containers {
		if c := &s.containers[i]; !c.exited() && d.sidecarRank(c.name) == last {
			d.stopOne(c, left, total)
		}
	}
	return true
}

// stopOne stops a container, again and harder when the grace period was cut short meanwhile.
func (d *decision) stopOne(c *container, left, total time.Duration) {
	if c.state == cri.ContainerState_CONTAINER_CREATED {
		if d.free(c.name) {
			d.do(action{kind: removeContainer, name: c.name, id: c.id})
		}
		return
	}
	slot := d.s.glance(c.name)
	if l := d.s.busy(c.name); l != nil {
		if l.kind != stopContainer || l.id != c.id || total >= l.grace {
			return
		}
	} else if slot.wait.waits(d.now) && slot.wait.reason == reasonKill {
		d.at(slot.wait.until)
		return
	}
	d.do(action{kind: stopContainer, name: c.name, id: c.id, grace: left, hook: total > 0, reason: "Stopping container " + c.name})
}

// sidecarRank returns the place of a sidecar among the init containers, -1 for other containers.
func (d *decision) sidecarRank(name string) int {
	if d.s.pod == nil {
		return -1
	}
	for i := range d.s.pod.Spec.InitContainers {
		if c := &d.s.pod.Spec.InitContainers[i]; c.Name == name && sidecar(c) {
			return i
		}
	}
	return -1
}
