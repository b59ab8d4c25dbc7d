package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/node/eviction"
	"github.com/troupe-run/troupe/node/link"
	"github.com/troupe-run/troupe/node/pod"
)

// Agent is a running node.
type Agent struct {
	name  string
	stage *stage.System
	pid   *actor.PID
	link  *link.Link
	facts *atomic.Pointer[pod.Facts]
	pods  *atomic.Pointer[pod.Pods]
	// conditions are those of pressure, evictor who finds them out.
	conditions atomic.Pointer[[]corev1.NodeConditionType]
	evictor    atomic.Pointer[actor.PID]
	// closers end what Start began, called in reverse order.
	mu      sync.Mutex
	closers []func(context.Context) error
	closed  bool
}

// Name returns the node's name.
func (a *Agent) Name() string { return a.name }

// Pods returns the pods of the node, nil before its network is up.
func (a *Agent) Pods() *pod.Pods { return a.pods.Load() }

// onClose adds a step to Close; one added too late runs at once.
func (a *Agent) onClose(fn func(context.Context) error) {
	a.mu.Lock()
	closed := a.closed
	if !closed {
		a.closers = append(a.closers, fn)
	}
	a.mu.Unlock()
	if closed {
		_ = fn(context.Background()) //nolint:forbidigo // its owner has gone already
	}
}

// Close ends the agent in the reverse order of its start. The pods go on.
func (a *Agent) Close(ctx context.Context) error {
	a.mu.Lock()
	list := a.closers
	a.closers, a.closed = nil, true
	a.mu.Unlock()
	var errs []error
	for i := len(list) - 1; i >= 0; i-- {
		errs = append(errs, list[i](ctx))
	}
	return errors.Join(errs...)
}

// admit says why a new pod is not let in.
func (a *Agent) admit(p *corev1.Pod) (reason, message string) {
	if list := a.conditions.Load(); list != nil {
		if message = eviction.Refusal(*list, p); message != "" {
			return eviction.Reason, message
		}
	}
	return "", ""
}

// find looks a pod up; the agent may not have any yet.
func (a *Agent) find(namespace, name string) (pod.View, bool) {
	if p := a.pods.Load(); p != nil {
		return p.Find(namespace, name)
	}
	return pod.View{}, false
}

// agentConfig is what the agent's actor needs, whatever the node is made of.
type agentConfig struct {
	name string
	log  *slog.Logger
	// up brings up network and pods once the control plane has said which range the node has.
	up func(ctx context.Context, r link.Registered) (*pod.Pods, error)
	// measure looks how the machine fares; nil means always well.
	measure func(ctx context.Context) health
	// images lists the images on the node as its status shows them; nil means never.
	images func(ctx context.Context) ([]corev1.ContainerImage, error)
	// collect removes unused images when the disk runs full; nil means never.
	collect func(ctx context.Context) error
	// gauge measures what the node has left; rules say when that is too little, and pressEvery how
	// often to look: 0 means only when the agent is asked to.
	gauge      gauge
	rules      eviction.Rules
	pressEvery time.Duration
	status     corev1.NodeStatus
	clock      clock.PassiveClock
}

// How often the machine is looked at, how often while it is ill, and when to retry to come up.
const (
	lookEvery = 10 * time.Second
	lookIll   = time.Second
	upRetry   = 2 * time.Second
)

// agentActor brings a node up step by step and reports how it fares.
//
// Accepts: said (what the link says), runtimeHealth from the pods, imagePulled from the puller,
// pressed from the evictor, its child, its own timers.
// Sends:   what the link says on to the pods, once they are there.
// Restart: comes up again; pods are adopted.
type agentActor struct {
	agentConfig
	a        *Agent
	waiting  []link.Message // for the pods, until they are there
	known    *link.Registered
	rising   bool
	looking  bool
	runtime  string // why the runtime does not answer
	network  string // why the network is not up
	machine  health
	pressure []corev1.NodeConditionType
	look     *stage.Timer

	imagesTimer *stage.Timer
	imagesSoon  bool // the timer is that of a pull
}

type (
	// said is a message of the link.
	said struct{ msg link.Message }
	// pressed says what the node is short of.
	pressed struct{ conditions []corev1.NodeConditionType }
	// runtimeHealth is what the pods hear of the runtime.
	runtimeHealth struct{ err error }
	lookDue       struct{}
	upDue         struct{}
)

// startAgent starts the actor and the link of a node whose object is given.
func startAgent(a *Agent, cfg agentConfig, lc link.Config) error {
	// The link is there before anybody uses it, and speaks only when there is somebody to hear it.
	var err error
	lc.Stage = a.stage
	lc.Deliver = func(m link.Message) { a.stage.Send(a.pid, said{m}) }
	if a.link, err = link.New(lc); err != nil {
		return fmt.Errorf("open link of %s: %w", a.name, err)
	}
	props := stage.Props(func() actor.Actor { return &agentActor{agentConfig: cfg, a: a} })
	if a.pid, err = a.stage.Spawn(props, "node-"+a.name); err != nil {
		return errors.Join(err, a.link.Close(context.Background())) //nolint:forbidigo // it has not begun: nothing to wait for
	}
	a.onClose(func(ctx context.Context) error { return a.stage.Stop(ctx, a.pid) })
	a.onClose(a.link.Close)
	a.link.Begin()
	return nil
}

func (g *agentActor) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		g.check(c)
		g.imagePulled(c)
		stage.After(c, collectEvery, collectDue{})
		g.startEvictor(c)
	case said:
		g.said(c, m.msg)
	case runtimeHealth:
		g.runtimeHealth(c, m.err)
	case pressed:
		g.pressure = m.conditions
		g.report()
	case lookDue:
		g.check(c)
	case upDue:
		g.rise(c)
	case imagePulled:
		g.imagePulled(c)
	case imagesDue:
		g.lookAtImages(c)
	case collectDue:
		g.collectImages(c)
	}
}

func (g *agentActor) said(c actor.Context, m link.Message) {
	if r, ok := m.(link.Registered); ok {
		g.registered(c, r)
		return
	}
	if p := g.a.pods.Load(); p != nil {
		p.Deliver(m)
		return
	}
	g.waiting = append(g.waiting, m)
}

func (g *agentActor) registered(c actor.Context, r link.Registered) {
	g.known = &r
	f := *g.a.facts.Load()
	f.Cluster = r.Cluster
	g.a.facts.Store(&f)
	g.rise(c)
}

// rise brings network and pods up, again and again until it works.
func (g *agentActor) rise(c actor.Context) {
	if g.rising || g.known == nil || g.a.pods.Load() != nil {
		return
	}
	g.rising = true
	r := *g.known
	stage.Go(c, nil, 0, func(ctx context.Context) (*pod.Pods, error) {
		p, err := g.up(ctx, r)
		if err == nil && ctx.Err() != nil { // closed meanwhile: nobody will take them
			return nil, p.Close(context.WithoutCancel(ctx))
		}
		return p, err
	}, func(p *pod.Pods, err error) {
		g.rising = false
		if err != nil {
			g.log.Warn("pod network is not up, will retry", "node", g.name, "err", err)
			g.network = err.Error()
			g.report()
			stage.After(c, upRetry, upDue{})
			return
		}
		g.network = ""
		g.a.pods.Store(p)
		g.a.onClose(p.Close)
		for _, m := range g.waiting {
			p.Deliver(m)
		}
		g.waiting = nil
		g.report()
	})
}

func (g *agentActor) runtimeHealth(c actor.Context, err error) {
	was := g.runtime
	g.runtime = ""
	if err != nil {
		g.runtime = err.Error()
	}
	if (was == "") != (g.runtime == "") {
		g.check(c)
	}
}

// startEvictor lets a child watch over what the node has left.
func (g *agentActor) startEvictor(c actor.Context) {
	self := c.Self()
	pid, err := c.SpawnNamed(newEvictor(evictorConfig{
		node: g.name, rules: g.rules, gauge: g.gauge, every: g.pressEvery, pods: g.a.pods.Load, record: g.a.link.Record,
		pressed:    func(list []corev1.NodeConditionType) { g.a.stage.Send(self, pressed{list}) },
		conditions: &g.a.conditions, clock: g.clock, log: g.log,
	}), "evictor")
	if err != nil {
		panic(fmt.Errorf("spawn evictor of %s: %w", g.name, err)) // names of children are ours alone
	}
	g.a.evictor.Store(pid)
}

// check measures the machine, now and regularly, and reports what changed.
func (g *agentActor) check(c actor.Context) {
	if g.measure == nil || g.looking {
		g.report()
		return
	}
	g.looking = true
	g.look.Stop()
	stage.Go(c, nil, lookEvery, func(ctx context.Context) (health, error) { return g.measure(ctx), nil }, func(h health, err error) {
		g.looking = false
		if err != nil {
			h.notReady = err.Error()
		}
		g.machine = h
		g.report()
		next := lookEvery
		if h.notReady != "" {
			next = lookIll
		}
		g.look = stage.After(c, next, lookDue{})
	})
}

// report tells the control plane about conditions that changed.
func (g *agentActor) report() {
	h := g.machine
	h.pressure = g.pressure
	switch {
	case h.notReady != "":
	case g.runtime != "":
		h.notReady = "container runtime is down: " + g.runtime
	case g.network != "":
		h.notReady = "container runtime network not ready: " + g.network
	}
	next := nodeConditions(h, metav1.NewTime(g.clock.Now().Truncate(time.Second)), g.status.Conditions)
	if sameConditions(next, g.status.Conditions) {
		return
	}
	g.status.Conditions = next
	g.a.link.ReportNode(*g.status.DeepCopy())
}

func sameConditions(a, b []corev1.NodeCondition) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Type != b[i].Type || a[i].Status != b[i].Status || a[i].Reason != b[i].Reason || a[i].Message != b[i].Message {
			return false
		}
	}
	return true
}
