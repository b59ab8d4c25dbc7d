package pod

import (
	"context"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/node/probe"
)

// syncProbes keeps exactly the probe actors that the running containers need.
func (p *podActor) syncProbes(c actor.Context) {
	want := map[string]bool{}
	if p.s.pod != nil {
		d := decision{s: &p.s}
		d.each(func(k *corev1.Container, init bool) {
			if !init || sidecar(k) {
				p.probesOf(c, k, want)
			}
		})
	}
	for name, pid := range p.probes {
		if !want[name] {
			c.Stop(pid)
			delete(p.probes, name)
		}
	}
}

func (p *podActor) probesOf(c actor.Context, k *corev1.Container, want map[string]bool) {
	if k.StartupProbe == nil && k.ReadinessProbe == nil && k.LivenessProbe == nil {
		return
	}
	x := p.s.current(k.Name)
	if x == nil || !x.running() || p.s.lanes[k.Name] != nil && p.s.lanes[k.Name].kind == startContainer {
		return
	}
	slot := p.s.slot(k.Name)
	if slot.probes.id != x.id {
		slot.probes = p.before(k, x)
	}
	ending := !p.s.stopping.IsZero()
	switch {
	case k.StartupProbe != nil && !slot.probes.started:
		if !ending {
			p.probe(c, k, x, probe.Startup, k.StartupProbe, want)
		}
	default:
		if k.ReadinessProbe != nil {
			p.probe(c, k, x, probe.Readiness, k.ReadinessProbe, want)
		}
		if k.LivenessProbe != nil && !ending {
			p.probe(c, k, x, probe.Liveness, k.LivenessProbe, want)
		}
	}
}

// before is where the probes of a run begin: where an earlier life of the agent left them, so that
// a restart of the agent makes no pod unready.
func (p *podActor) before(k *corev1.Container, x *container) probes {
	out := probes{id: x.id}
	for _, list := range [][]corev1.ContainerStatus{p.s.pod.Status.ContainerStatuses, p.s.pod.Status.InitContainerStatuses} {
		for i := range list {
			if st := &list[i]; st.Name == k.Name && st.ContainerID == p.cfg.RuntimeName+"://"+x.id {
				out.ready, out.started = st.Ready, isTrue(st.Started)
			}
		}
	}
	return out
}

// probe makes sure that the probe actor of one kind for one run exists.
func (p *podActor) probe(c actor.Context, k *corev1.Container, x *container, kind probe.Kind, spec *corev1.Probe, want map[string]bool) {
	name := string(kind) + "-" + x.id
	want[name] = true
	if p.probes[name] != nil {
		return
	}
	slot := p.s.slot(k.Name)
	cfg := probeConfig{
		cfg: p.cfg, spec: spec, good: kind == probe.Readiness && slot.probes.ready,
		target: probe.Target{
			Kind: kind, Handler: spec.ProbeHandler, Timeout: max(time.Duration(spec.TimeoutSeconds)*time.Second, time.Second),
			Pod: p.s.pod, Container: k, ID: x.id, Started: x.started,
		},
	}
	if b := p.s.live(); b != nil {
		cfg.target.Host = podHost(p.s.pod, b.ips, p.cfg.Facts().HostIPs)
	}
	pid, err := c.SpawnNamed(newProbe(cfg), name)
	if err != nil {
		delete(want, name) // the one before is still stopping; the next reconcile tries again
		return
	}
	if p.probes == nil {
		p.probes = make(map[string]*actor.PID, 2)
	}
	p.probes[name] = pid
}

// probed takes in a verdict.
func (p *podActor) probed(c actor.Context, m probed) {
	slot := p.s.slot(m.name)
	if slot.probes.id != m.id {
		return // of an earlier run
	}
	switch {
	case m.kind == probe.Readiness:
		slot.probes.ready = m.ok
	case m.ok && m.kind == probe.Startup:
		slot.probes.started = true
	case !m.ok && slot.probes.unhealthy == "":
		what := "liveness"
		if m.kind == probe.Startup {
			what = "startup"
		}
		slot.probes.unhealthy = fmt.Sprintf("Container %s failed %s probe, will be restarted", m.name, what)
	}
	p.reconcile(c)
}

type probeConfig struct {
	cfg    *Config
	spec   *corev1.Probe
	target probe.Target
	good   bool // what the pod believes until the first verdict
}

// firstRetry is when a readiness or startup probe that failed at once is tried again, and then
// ever later, within its first period: a container that is up soon need not wait a period to be
// noticed. Failures of these early tries do not count. A kubelet begins at a random moment of that
// period.
const firstRetry = 100 * time.Millisecond

// probeActor runs one probe of one run of a container.
//
// Accepts: probeDue from its own timer.
// Sends:   probed to its pod when the verdict changes.
// Restart: begins to count anew.
type probeActor struct {
	probeConfig
	told     bool // a verdict has been sent
	last     bool // the newest result
	inARow   int
	verdict  bool
	finished bool
	first    time.Time     // when the first try began
	early    time.Duration // until the next early try; 0 once they are over
}

func newProbe(cfg probeConfig) *actor.Props {
	return stage.Props(func() actor.Actor { return &probeActor{probeConfig: cfg, verdict: cfg.good} })
}

func (p *probeActor) Receive(c actor.Context) {
	switch c.Message().(type) {
	case *actor.Started:
		since := p.cfg.Clock.Now().Sub(p.target.Started)
		stage.After(c, max(p.begin()-since, 0), probeDue{})
	case probeDue:
		p.run(c)
	}
}

// begin is how long after the start of the container the first try is. A liveness probe that nobody
// wants delayed waits for half its period: a container that is just starting is not ill.
func (p *probeActor) begin() time.Duration {
	delay := time.Duration(p.spec.InitialDelaySeconds) * time.Second
	if delay == 0 && p.target.Kind == probe.Liveness {
		delay = p.period() / 2
	}
	return delay
}

func (p *probeActor) period() time.Duration {
	return max(time.Duration(p.spec.PeriodSeconds)*time.Second, time.Second)
}

func (p *probeActor) run(c actor.Context) {
	begin := p.cfg.Clock.Now()
	if p.first.IsZero() {
		p.first = begin
		if p.target.Kind != probe.Liveness && !p.good {
			p.early = firstRetry
		}
	}
	early := p.early > 0 // this try is one
	var output string    // written before done runs, read after
	stage.Go(c, nil, p.target.Timeout+5*time.Second, func(ctx context.Context) (r probe.Result, err error) {
		r, output = p.cfg.Prober.Probe(ctx, p.target)
		return r, nil
	}, func(r probe.Result, err error) {
		switch {
		case err != nil || r == probe.Unknown: // of the prober, not of the container
			p.cfg.recordOf(p.target.Pod, p.target.Container.Name, corev1.EventTypeWarning, eventUnhealthy, "%s probe errored and resulted in unknown state: %s", p.target.Kind, output)
		case r == probe.Success || !early:
			p.count(c, r == probe.Success, output)
		}
		if !p.finished {
			stage.After(c, max(p.next(r, begin)-p.cfg.Clock.Now().Sub(begin), 0), probeDue{})
		}
	})
}

// next is how long after its begin this try is followed by another: a period, or sooner while
// early tries fail.
func (p *probeActor) next(r probe.Result, begin time.Time) time.Duration {
	period := p.period()
	if r == probe.Success {
		p.early = 0
	}
	if p.early == 0 {
		return period
	}
	left := p.first.Add(period).Sub(begin)
	if d := p.early; d < left {
		p.early *= 2
		return d
	}
	p.early = 0
	return left
}

// count folds one result into the verdict and tells the pod when it changes.
func (p *probeActor) count(c actor.Context, ok bool, output string) {
	if !ok {
		p.cfg.recordOf(p.target.Pod, p.target.Container.Name, corev1.EventTypeWarning, eventUnhealthy, "%s probe failed: %s", p.target.Kind, output)
	}
	if ok == p.last && p.inARow > 0 {
		p.inARow++
	} else {
		p.last, p.inARow = ok, 1
	}
	need := int(max(p.spec.SuccessThreshold, 1))
	if !ok {
		need = int(max(p.spec.FailureThreshold, 1))
	}
	if p.inARow < need || p.told && p.verdict == ok {
		return
	}
	p.told, p.verdict = true, ok
	// A failed startup or liveness probe ends this run, a passed startup probe ends the probe.
	p.finished = p.target.Kind == probe.Startup || p.target.Kind == probe.Liveness && !ok
	c.Send(c.Parent(), probed{name: p.target.Container.Name, id: p.target.ID, kind: p.target.Kind, ok: ok})
}
