package pod

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/messages"
)

// podActor owns one pod on this node.
//
// Accepts: wanted, unwanted, observed, objectsChanged, evicted, released from the supervisor; probed from its probes;
// its own timers.
// Sends:   finished and resend to the supervisor; reports and Events to the control plane.
// Restart: asks the runtime and the supervisor anew; running containers are not touched.
type podActor struct {
	cfg *Config
	fx  *effects
	log *slog.Logger
	s   state

	// known is what the supervisor found on the runtime; nil after a restart.
	known  *observed
	loaded bool

	wake, report, refresh *stage.Timer
	retryResize           *stage.Timer
	asked                 *corev1.Pod       // the newest version wanted, as it came
	told                  bool              // something was reported in this life
	last                  *corev1.PodStatus // newest status computed, told or not
	done                  bool
	probes                map[string]*actor.PID // by probe actor name
}

func newPod(cfg *Config, views *views, uid types.UID, known observed) *actor.Props {
	first := &known
	return stage.Props(func() actor.Actor {
		p := &podActor{cfg: cfg, fx: &effects{cfg: cfg, views: views}, log: cfg.Log.With("actor", "pod", "key", string(uid)), known: first}
		p.s.uid = uid
		first = nil
		return p
	})
}

func (p *podActor) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started, loadDue:
		p.start(c)
	case *actor.Stopping, *actor.Restarting:
		p.fx.views.drop(p.s.uid)
		p.cfg.promised.drop(p.s.uid)
	case wanted:
		p.want(c, m.pod)
	case unwanted:
		p.unwant(c)
	case observed:
		p.observe(c, m)
	case objectsChanged:
		p.objectsChanged(c)
	case evicted:
		p.evict(c, m.message)
	case released:
		p.s.released = true
		p.reconcile(c)
	case probed:
		p.probed(c, m)
	case wakeDue:
		p.reconcile(c)
	case reportDue:
		p.tell(c, true)
	case resizeDue:
		p.want(c, p.asked)
	case refreshDue:
		p.refreshVolumes(c)
	}
}

func (p *podActor) start(c actor.Context) {
	if p.known != nil {
		p.adopt(*p.known)
		p.known, p.loaded = nil, true
		return // the first wanted or unwanted follows at once
	}
	stage.Go(c, nil, 0, func(ctx context.Context) (observed, error) { return p.fx.list(ctx, p.s.uid) },
		func(found observed, err error) {
			if err != nil {
				p.log.Warn("pod cannot be read from the runtime, will retry", "err", err)
				stage.After(c, time.Second, loadDue{})
				return
			}
			p.adopt(found)
			p.loaded = true
			c.Send(c.Parent(), resend{p.s.uid})
		})
}

// adopt takes over what an earlier life of the agent left running.
func (p *podActor) adopt(found observed) {
	for _, b := range found.sandboxes {
		p.s.upsertSandbox(b)
	}
	for _, x := range found.containers {
		p.s.upsert(x)
	}
	for i := range p.s.containers {
		if x := &p.s.containers[i]; p.s.current(x.name) == x {
			p.s.slot(x.name).crash = crash{x.backoff}
		}
	}
}

// want takes a new version of the pod. The actor keeps a shallow copy whose status is the one it
// reported last, with the conditions others own.
func (p *podActor) want(c actor.Context, in *corev1.Pod) {
	own := *in
	ended := false
	if p.s.pod != nil && p.told {
		own.Status = messages.NewestPodStatus(p.s.pod.Status, own.Status)
		ended = isTerminal(own.Status.Phase) && !isTerminal(p.s.pod.Status.Phase)
	}
	relabelled := p.s.pod != nil && !equality.Semantic.DeepEqual([]map[string]string{p.s.pod.Labels, p.s.pod.Annotations}, []map[string]string{own.Labels, own.Annotations})
	if p.s.start.IsZero() {
		p.s.start = p.cfg.Clock.Now()
		if t := own.Status.StartTime; t != nil {
			p.s.start = t.Time
		}
	}
	p.asked = in
	if p.s.pod == nil && p.isNew(&own) {
		p.s.failed = p.admit(&own)
		p.s.rejected = p.s.failed.reason != ""
	}
	p.allot(&own)
	p.retryResize.Stop()
	if p.retryResize = nil; p.s.resize.pending.reason == corev1.PodReasonDeferred {
		p.retryResize = stage.After(c, retryResize, resizeDue{})
	}
	p.s.pod = &own
	if own.DeletionTimestamp != nil || ended || p.s.rejected {
		p.halt()
	}
	if every := p.cfg.refreshEvery(&own.Spec); p.refresh == nil && every > 0 {
		p.refresh = stage.After(c, every, refreshDue{})
	}
	if relabelled && p.s.volumes.done {
		p.refreshVolumes(c)
	}
	p.reconcile(c)
}

func (p *podActor) unwant(c actor.Context) {
	p.s.unwanted = true
	p.halt()
	p.reconcile(c)
}

// halt begins to stop the pod: what is being started or pulled is given up.
func (p *podActor) halt() {
	p.cfg.promised.drop(p.s.uid)
	if p.s.stopping.IsZero() {
		p.s.stopping = p.cfg.Clock.Now()
		if p.s.start.IsZero() {
			p.s.start = p.s.stopping
		}
	}
	for _, l := range p.s.lanes {
		switch l.kind {
		case ensureImage, startContainer, setUpVolumes, refreshVolumes:
			l.cancel()
		}
	}
}

func (p *podActor) observe(c actor.Context, m observed) {
	news := false
	for _, b := range m.sandboxes {
		if cur := p.s.live(); cur != nil && cur.id == b.id && !b.ready && p.s.stopping.IsZero() {
			p.cfg.record(p.s.pod, corev1.EventTypeNormal, eventSandboxChanged, "Pod sandbox changed, it will be killed and re-created.")
		}
		// What a lane is busy with comes back through its own outcome.
		news = p.s.upsertSandbox(b) && p.s.lanes[laneSandbox] == nil || news
	}
	for _, x := range m.containers {
		news = p.s.upsert(x) && p.s.lanes[x.name] == nil || news
	}
	if m.all {
		news = p.forget(m) || news
	}
	if news {
		p.reconcile(c)
	}
}

// forget drops what was there before a full list was taken and is not in it.
func (p *podActor) forget(m observed) (news bool) {
	for _, b := range slices.Clone(p.s.sandboxes) {
		if b.created.Before(m.since) && p.s.lanes[laneSandbox] == nil &&
			!slices.ContainsFunc(m.sandboxes, func(o sandbox) bool { return o.id == b.id }) {
			p.s.dropSandbox(b.id)
			news = true
		}
	}
	for _, x := range slices.Clone(p.s.containers) {
		if x.created.Before(m.since) && p.s.lanes[x.name] == nil &&
			!slices.ContainsFunc(m.containers, func(o container) bool { return o.id == x.id }) {
			p.s.dropContainer(x.id)
			news = true
		}
	}
	return news
}

// objectsChanged lets whatever waits for a missing object try again at once.
func (p *podActor) objectsChanged(c actor.Context) {
	for _, x := range p.s.slots {
		if x.wait.reason == reasonConfig {
			x.wait.until = time.Time{}
		}
	}
	p.s.volumes.until = time.Time{}
	if p.s.volumes.done {
		p.refreshVolumes(c)
	}
	p.reconcile(c)
}

func (p *podActor) refreshVolumes(c actor.Context) {
	p.refresh.Stop()
	p.refresh = nil
	if p.s.pod == nil || !p.s.stopping.IsZero() || p.cfg.Refresh <= 0 {
		return
	}
	if every := p.cfg.refreshEvery(&p.s.pod.Spec); every > 0 {
		p.refresh = stage.After(c, every, refreshDue{})
	}
	if p.s.volumes.done && p.s.lanes[laneVolumes] == nil {
		p.act(c, action{kind: refreshVolumes})
	}
}

// reconcile decides and acts until nothing is left to do now, then reports.
func (p *podActor) reconcile(c actor.Context) {
	if !p.loaded || p.done || p.s.pod == nil && !p.s.unwanted {
		return
	}
	now := p.cfg.Clock.Now()
	plan := decide(&p.s, now)
	if plan.fail.reason != "" || plan.stop {
		if p.s.failed.reason == "" && plan.fail.reason != "" {
			p.s.failed = plan.fail
			kind := corev1.EventTypeNormal
			if plan.fail.reason == reasonEvicted {
				kind = corev1.EventTypeWarning
			}
			p.cfg.record(p.s.pod, kind, plan.fail.reason, "%s", plan.fail.message)
		}
		p.halt()
		plan = decide(&p.s, now)
	}
	for _, a := range plan.actions {
		p.act(c, a)
	}
	p.wake.Stop()
	p.wake = nil
	if !plan.wake.IsZero() {
		p.wake = stage.After(c, max(plan.wake.Sub(now), 0), wakeDue{})
	}
	p.syncProbes(c)
	p.backOffEvents(now)
	if plan.finished {
		p.finish(c)
		return
	}
	p.tell(c, false)
}

// act starts an action in its lane. A lane that is busy is taken over: its work is cancelled.
func (p *podActor) act(c actor.Context, a action) {
	name := a.lane()
	if old := p.s.lanes[name]; old != nil {
		old.cancel()
	}
	ctx, cancel := context.WithCancel(stage.Context(c))
	l := &lane{kind: a.kind, id: a.id, grace: a.grace, cancel: cancel}
	if p.s.lanes == nil {
		p.s.lanes = make(map[string]*lane, 4)
	}
	p.s.lanes[name] = l
	in := p.input(a)
	stage.Go(c, nil, 0, func(context.Context) (outcome, error) {
		defer cancel()
		return p.fx.do(ctx, a, in)
	}, func(o outcome, err error) {
		if p.s.lanes[name] == l {
			delete(p.s.lanes, name)
		}
		p.settle(c, a, o, err)
	})
}

// input is what work may read: immutable values only, for it runs off the actor.
func (p *podActor) input(a action) input {
	in := input{pod: p.s.pod, uid: p.s.uid, all: a.kind == sweepPod && (p.s.released || p.s.unwanted || p.s.pod == nil || p.s.pod.DeletionTimestamp != nil)}
	if b := p.s.live(); b != nil {
		in.ips = b.ips
		in.sandboxAttempt = b.attempt
	}
	if a.name != "" {
		slot := p.s.slot(a.name)
		in.image, in.crash = slot.image, slot.crash
		if x := p.s.byID(a.id); x != nil {
			in.container = *x
		}
		if a.kind == startContainer {
			in.target = targetOf(&p.s, a.name)
		}
	}
	return in
}

// settle takes in what an action brought and goes on.
func (p *podActor) settle(c actor.Context, a action, o outcome, err error) {
	now := p.cfg.Clock.Now()
	for _, b := range o.sandboxes {
		p.s.upsertSandbox(b)
	}
	for _, x := range o.containers {
		p.s.upsert(x)
	}
	if o.gone != "" {
		p.s.dropContainer(o.gone)
		p.s.dropSandbox(o.gone)
		p.s.remember(o.gone)
	}
	switch a.kind {
	case setUpVolumes:
		settleStep(&p.s.volumes, now, err)
	case refreshVolumes:
		if o.usage != nil {
			p.s.usage = o.usage
		}
		if o.disk != nil {
			p.s.disk = o.disk
		}
	case runSandbox, stopSandbox, removeSandbox:
		settleStep(&p.s.network, now, err)
	case sweepPod:
		settleStep(&p.s.volumes, now, err)
		if err == nil {
			p.s.swept = 1
			if o.all {
				p.s.swept = 2
			}
		}
	case ensureImage:
		slot := p.s.slot(a.name)
		settleRetry(&slot.wait, now, err)
		slot.image = o.image
	case startContainer:
		slot := p.s.slot(a.name)
		settleRetry(&slot.wait, now, err)
		slot.image = ""
		if len(o.containers) > 0 {
			slot.crash = o.crash
		}
	case updateContainer, fitPod:
		p.resized(a, now, err)
	case stopContainer:
		slot := p.s.slot(a.name)
		switch {
		case err == nil:
			slot.wait = retry{}
			if a.resize {
				slot.resized = a.id
			}
		case context.Cause(stage.Context(c)) == nil && p.s.lanes[a.name] == nil:
			slot.wait.fail(now, reasonKill, err.Error())
		}
	}
	if err != nil && a.kind == refreshVolumes && !errors.Is(err, messages.ErrNotFound) && !errors.Is(err, context.Canceled) { // a deleted source leaves its last content
		p.log.Warn("mounted content is stale, will retry", "err", err)
	}
	if err != nil {
		p.log.Debug("action failed", "kind", int(a.kind), "container", a.name, "err", err)
	}
	p.reconcile(c)
}

func settleStep(s *step, now time.Time, err error) {
	s.done = err == nil
	settleRetry(&s.retry, now, err)
}

func settleRetry(r *retry, now time.Time, err error) {
	switch {
	case err == nil:
		*r = retry{}
		return
	case errors.Is(err, context.Canceled): // given up on purpose
		return
	}
	t := asTrouble(err)
	r.fail(now, t.Reason, t.Message)
	if t.After > 0 {
		r.until = now.Add(t.After)
	}
}

// backOffEvents records once per run that a crashed container waits.
func (p *podActor) backOffEvents(now time.Time) {
	if p.s.pod == nil || !p.s.stopping.IsZero() {
		return
	}
	for name, x := range p.s.slots {
		run := p.s.current(name)
		if run == nil || !run.exited() || !run.read || x.backOffTold == run.id {
			continue
		}
		if _, at := x.crash.next(run.started, run.finished); now.Before(at) {
			x.backOffTold = run.id
			p.cfg.recordOf(p.s.pod, name, corev1.EventTypeWarning, eventBackOff, "Back-off restarting failed container %s in pod %s", name, fullName(p.s.pod))
		}
	}
}
