package pod

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// kind says what an action does.
type kind int

const (
	setUpVolumes kind = iota + 1
	refreshVolumes
	runSandbox
	stopSandbox
	removeSandbox
	ensureImage
	startContainer
	stopContainer
	removeContainer
	readContainer   // exit code and termination message of an exited container
	sweepPod        // volumes, cgroup, logs
	updateContainer // resources of a running container
	fitPod          // the pod's cgroup, after its containers
)

// action is one step the actor takes off its goroutine.
type action struct {
	kind kind
	// name is the container of the spec the action is about.
	name string
	// id is the sandbox or container acted on.
	id string
	// attempt numbers what is created.
	attempt uint32
	// grace bounds a stop; hook says whether preStop runs.
	grace time.Duration
	hook  bool
	// reason goes into the Killing event.
	reason string
	// resize says that a container is stopped to start with other resources.
	resize bool
	// delay is the crash back-off this start has waited for; fresh says that it is no restart of a
	// crashed container.
	delay time.Duration
	fresh bool
	// round is the restart of all containers that the start belongs to.
	round uint32
}

// plan is what decide wants done now, and when to decide again at the latest.
type plan struct {
	actions []action
	wake    time.Time
	// fail ends the pod for good.
	fail failure
	// stop says that the pod has run its course: what is left of it is to be stopped.
	stop bool
	// finished says that nothing of the pod is left and its actor may go.
	finished bool
}

func (p *plan) at(t time.Time) {
	if p.wake.IsZero() || t.Before(p.wake) {
		p.wake = t
	}
}

// Lanes other than those of containers, which bear the container's name (a DNS label).
const (
	laneSandbox = "/sandbox"
	laneVolumes = "/volumes"
)

func (a *action) lane() string {
	switch a.kind {
	case setUpVolumes, refreshVolumes, sweepPod, fitPod:
		return laneVolumes
	case runSandbox, stopSandbox, removeSandbox:
		return laneSandbox
	}
	return a.name
}

// decide compares what is wanted with what is known and says what to do next. It changes nothing;
// the same state gives the same plan.
func decide(s *state, now time.Time) plan {
	d := decision{s: s, now: now, round: s.round()}
	d.readExited()
	switch {
	case s.pod == nil || s.unwanted || s.pod.DeletionTimestamp != nil:
		d.dismantle(true)
	case s.failed.reason != "" || !s.stopping.IsZero() || isTerminal(s.pod.Status.Phase):
		d.dismantle(false)
	case d.pastDeadline():
		d.fail = failure{"DeadlineExceeded", "Pod was active on the node longer than the specified deadline"}
	default:
		if f, over := overLimit(&s.pod.Spec, s.usage, s.disk); over {
			d.fail = f
			break
		}
		d.run()
	}
	return d.plan
}

func isTerminal(p corev1.PodPhase) bool { return p == corev1.PodSucceeded || p == corev1.PodFailed }

type decision struct {
	plan
	s   *state
	now time.Time
	// round is the restart of all containers that is due; see restart.go.
	round uint32
}

func (d *decision) do(a action) { d.actions = append(d.actions, a) }

// free says whether a lane has no work, neither running nor planned.
func (d *decision) free(lane string) bool {
	if d.s.busy(lane) != nil {
		return false
	}
	for i := range d.actions {
		if d.actions[i].lane() == lane {
			return false
		}
	}
	return true
}

func (d *decision) readExited() {
	for i := range d.s.containers {
		if c := &d.s.containers[i]; c.exited() && !c.read && d.free(c.name) {
			d.do(action{kind: readContainer, name: c.name, id: c.id})
		}
	}
}

func (d *decision) pastDeadline() bool {
	limit := d.s.pod.Spec.ActiveDeadlineSeconds
	if limit == nil {
		return false
	}
	end := d.s.start.Add(time.Duration(*limit) * time.Second)
	if d.now.Before(end) {
		d.at(end)
		return false
	}
	return true
}

// run brings a pod that should run one step further.
func (d *decision) run() {
	d.tidy()
	if d.restartAll() {
		return
	}
	if d.done() {
		d.stop = true
		return
	}
	d.prepare()
	d.killUnhealthy()
	d.resize()
	d.startEphemeral()
	if !d.initialized() {
		return
	}
	d.regular()
}

// done says whether the pod has run its course: every container ended and none starts again, or
// an init container failed for good.
func (d *decision) done() bool {
	spec := &d.s.pod.Spec
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		if x := d.s.current(c.Name); !sidecar(c) && x != nil && x.exited() && x.read && x.code != 0 && !d.again(c, x) {
			return true
		}
	}
	for i := range spec.Containers {
		c := &spec.Containers[i]
		x := d.s.current(c.Name)
		if x == nil || !x.exited() || !x.read || d.again(c, x) {
			return false
		}
	}
	return true
}

// prepare gets volumes, sandbox and images ready, all at the same time.
func (d *decision) prepare() {
	s := d.s
	if !s.volumes.done && d.free(laneVolumes) {
		if s.volumes.waits(d.now) {
			d.at(s.volumes.until)
		} else {
			d.do(action{kind: setUpVolumes})
		}
	}
	if s.live() == nil && d.free(laneSandbox) {
		switch {
		case s.network.waits(d.now):
			d.at(s.network.until)
		case d.oldSandboxStopped():
			d.do(action{kind: runSandbox, attempt: d.nextSandbox()})
		}
	}
}

func (d *decision) nextSandbox() uint32 {
	if len(d.s.sandboxes) == 0 {
		return 0
	}
	return d.s.sandboxes[0].attempt + 1
}

// oldSandboxStopped stops what still runs in sandboxes that are not ready any more.
func (d *decision) oldSandboxStopped() bool {
	for i := range d.s.containers {
		if !d.s.containers[i].exited() && len(d.s.sandboxes) > 0 {
			d.do(action{kind: stopSandbox, id: d.s.containers[i].sandbox})
			return false
		}
	}
	return true
}

// tidy stops sandboxes beside the newest, and removes dead containers and sandboxes that nobody
// looks at any more: of each container the newest attempt and the one before it (its logs) stay.
func (d *decision) tidy() {
	s := d.s
	for i := range s.sandboxes {
		if b := &s.sandboxes[i]; i > 0 && b.ready && d.free(laneSandbox) {
			d.do(action{kind: stopSandbox, id: b.id})
		}
	}
	seen := map[string]int{}
	kept := map[string]bool{}
	for i := range s.containers {
		c := &s.containers[i]
		switch {
		case c.state == cri.ContainerState_CONTAINER_CREATED && d.free(c.name):
			// Left half-made by a crash between create and start.
			d.do(action{kind: removeContainer, name: c.name, id: c.id})
			continue
		case c.exited() && seen[c.name] >= 2 && d.free(c.name):
			d.do(action{kind: removeContainer, name: c.name, id: c.id})
			continue
		}
		seen[c.name]++
		kept[c.sandbox] = true
	}
	for i := range s.sandboxes {
		if b := &s.sandboxes[i]; !b.ready && !kept[b.id] && d.free(laneSandbox) {
			d.do(action{kind: removeSandbox, id: b.id})
		}
	}
}

// killUnhealthy stops running containers that failed a probe or whose definition changed.
func (d *decision) killUnhealthy() {
	d.each(func(c *corev1.Container, _ bool) {
		x := d.s.current(c.Name)
		if x == nil || !d.free(c.Name) {
			return
		}
		if x.state == cri.ContainerState_CONTAINER_UNKNOWN {
			d.do(action{kind: stopContainer, name: c.Name, id: x.id, reason: fmt.Sprintf("Container %s is in unknown state, try killing it before restart", c.Name)})
			return
		}
		if !x.running() {
			return
		}
		grace := grace(d.s.pod)
		if slot := d.s.glance(c.Name); slot.probes.id == x.id && slot.probes.unhealthy != "" {
			if g := probeGrace(c, slot.probes.started); g > 0 {
				grace = g
			}
			d.do(action{kind: stopContainer, name: c.Name, id: x.id, grace: grace, hook: true, reason: slot.probes.unhealthy})
		} else if x.hash != "" && x.hash != hashOf(c) {
			d.do(action{kind: stopContainer, name: c.Name, id: x.id, grace: grace, hook: true,
				reason: fmt.Sprintf("Container %s definition changed, will be restarted", c.Name)})
		}
	})
}

// each visits every container of the spec; init is true for init containers and sidecars.
func (d *decision) each(visit func(c *corev1.Container, init bool)) {
	spec := &d.s.pod.Spec
	for i := range spec.InitContainers {
		visit(&spec.InitContainers[i], true)
	}
	for i := range spec.Containers {
		visit(&spec.Containers[i], false)
	}
}

// initialized runs init containers one after the other and keeps sidecars up; it says whether the
// regular containers may start.
func (d *decision) initialized() bool {
	spec := &d.s.pod.Spec
	over := d.regularBegun()
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		x := d.inLive(c.Name)
		switch {
		case sidecar(c):
			if x == nil || x.exited() {
				d.start(c)
			}
			if !over && !(x != nil && x.running() && d.isStarted(c, x)) {
				return false
			}
		case over:
		case x == nil:
			d.start(c)
			return false
		case !x.exited() || !x.read:
			return false
		case x.code != 0:
			d.start(c)
			return false
		}
	}
	return true
}

// inLive returns the newest attempt of a container when it belongs to the sandbox that is ready and
// to the restart of all that is due.
func (d *decision) inLive(name string) *container {
	b, x := d.s.live(), d.s.current(name)
	if b == nil || x == nil || x.sandbox != b.id || x.round < d.round {
		return nil
	}
	return x
}

// regularBegun says whether a regular container exists in the live sandbox: init is over then.
func (d *decision) regularBegun() bool {
	for i := range d.s.pod.Spec.Containers {
		if d.inLive(d.s.pod.Spec.Containers[i].Name) != nil {
			return true
		}
	}
	return false
}

func (d *decision) isStarted(c *corev1.Container, x *container) bool { return isStarted(d.s, c, x) }

// isStarted says whether a running container has passed its startup probe.
func isStarted(s *state, c *corev1.Container, x *container) bool {
	if c.StartupProbe == nil {
		return true
	}
	p := s.glance(c.Name).probes
	return p.id == x.id && p.started
}

// regular starts the containers in their order: none before the one before it is started.
func (d *decision) regular() {
	spec := &d.s.pod.Spec
	for i := range spec.Containers {
		c := &spec.Containers[i]
		x := d.inLive(c.Name)
		if x == nil {
			if old := d.s.current(c.Name); old == nil || !old.exited() || !old.read || d.again(c, old) {
				d.start(c)
			}
		} else if x.exited() && x.read && d.again(c, x) {
			d.start(c)
		}
		if l := d.s.busy(c.Name); l != nil && l.kind == startContainer || d.plans(startContainer, c.Name) {
			return
		}
	}
}

func (d *decision) plans(k kind, name string) bool {
	for i := range d.actions {
		if d.actions[i].kind == k && d.actions[i].name == name {
			return true
		}
	}
	return false
}

// start takes the next step towards a run of the container: its image, then the start itself when
// sandbox and volumes are there, not before any back-off is over.
func (d *decision) start(c *corev1.Container) {
	s := d.s
	if !d.free(c.Name) {
		return
	}
	next := action{kind: startContainer, name: c.Name, round: d.round}
	x := s.current(c.Name)
	slot := s.glance(c.Name)
	if x != nil {
		if !x.exited() || !x.read {
			return
		}
		next.attempt = x.attempt + 1
		if next.fresh = d.pulledAlong(c, x); !next.fresh {
			var at time.Time
			if next.delay, at = slot.crash.next(x.started, x.finished); d.now.Before(at) {
				d.at(at)
				return
			}
		}
	}
	if slot.wait.waits(d.now) {
		d.at(slot.wait.until)
		return
	}
	if slot.image == "" {
		d.do(action{kind: ensureImage, name: c.Name})
		return
	}
	if s.live() != nil && s.volumes.done && d.free(laneSandbox) {
		next.id = s.live().id
		d.do(next)
	}
}

// sidecar says whether an init container runs beside the others for the pod's whole life.
func sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}
