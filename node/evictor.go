package node

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/node/eviction"
	"github.com/troupe-run/troupe/node/link"
	"github.com/troupe-run/troupe/node/pod"
)

// Times of the evictor, as kubelets have them, but for evictedLook.
const (
	pressEvery     = 10 * time.Second
	transition     = 5 * time.Minute
	reclaimLimit   = time.Minute
	measureLimit   = time.Minute
	evictedPatient = 30 * time.Second
	evictedLook    = 500 * time.Millisecond
)

// gauge measures a node for its evictor. Its methods are called off the actor, one at a time.
type gauge interface {
	// left measures what the node has left; imageDisk says that images have a disk of their own.
	left(ctx context.Context) (all eviction.Signals, imageDisk bool)
	// reclaim removes what nobody uses from the node's disks.
	reclaim(ctx context.Context) error
	// usage measures what pods use; those it could not measure are missing.
	usage(ctx context.Context, pods []*corev1.Pod) (map[types.UID]*eviction.Usage, error)
}

// evictorConfig is what a node's evictor needs.
type evictorConfig struct {
	node  string
	rules eviction.Rules
	gauge gauge
	// every is how often it looks by itself; 0 means only when it is asked to, and while it is
	// under pressure.
	every  time.Duration
	pods   func() *pod.Pods
	record func(link.Event)
	// pressed is told of the node's conditions when they change.
	pressed func([]corev1.NodeConditionType)
	// conditions holds what pressed was told last, for those who cannot wait.
	conditions *atomic.Pointer[[]corev1.NodeConditionType]
	clock      clock.PassiveClock
	log        *slog.Logger
}

// evictor watches how much a node has left, says when that is too little, and ends pods, one at a
// time, until it is enough again.
//
// Accepts: pressDue to look now, evictedDue.
// Sends:   evictions to the pods, the node's conditions to the agent.
// Restart: forgets how long conditions have been there, and looks anew.
type evictor struct {
	evictorConfig
	state   eviction.State
	looking bool
	look    *stage.Timer
	victim  types.UID
	since   time.Time // when the victim was told
}

type (
	pressDue   struct{}
	evictedDue struct{}
)

func (pressDue) CoalesceKey() any { return pressDue{} }

func newEvictor(cfg evictorConfig) *actor.Props {
	return stage.Props(func() actor.Actor { return &evictor{evictorConfig: cfg} })
}

func (e *evictor) Receive(c actor.Context) {
	switch c.Message().(type) {
	case *actor.Started, pressDue:
		e.press(c)
	case evictedDue:
		e.evicted(c)
	}
}

// press looks how the node fares.
func (e *evictor) press(c actor.Context) {
	if e.looking {
		return // it comes to its end, and looks again if there is reason to
	}
	e.looking = true
	e.look.Stop()
	e.measure(c, false)
}

// measure makes a snapshot, after reclaim has been done or before, and acts on it.
func (e *evictor) measure(c actor.Context, reclaimed bool) {
	stage.Go(c, nil, measureLimit, func(ctx context.Context) (eviction.Snapshot, error) {
		all, imageDisk := e.gauge.left(ctx)
		return eviction.Snapshot{Signals: all, ImageDisk: imageDisk, Reclaimed: reclaimed}, nil
	}, func(in eviction.Snapshot, err error) {
		if err != nil {
			e.rest(c)
			return
		}
		e.act(c, in)
	})
}

// act does what a snapshot calls for.
func (e *evictor) act(c actor.Context, in eviction.Snapshot) {
	var plan eviction.Plan
	e.state, plan = e.rules.Decide(e.state, in, e.clock.Now())
	e.tell(plan.Conditions)
	if plan.Starved != "" && !in.Reclaimed && !in.Measured {
		e.record(link.Event{Type: corev1.EventTypeWarning, Reason: "EvictionThresholdMet", Message: "Attempting to reclaim " + string(plan.Starved)})
	}
	switch {
	case plan.Reclaim:
		e.log.Warn("node is low, removing what nobody uses", "node", e.node, "resource", string(plan.Starved))
		stage.Go(c, nil, reclaimLimit, func(ctx context.Context) (struct{}, error) { return struct{}{}, e.gauge.reclaim(ctx) }, func(_ struct{}, err error) {
			if err != nil {
				e.log.Warn("not all that nobody uses is removed", "node", e.node, "err", err)
			}
			e.measure(c, true)
		})
	case plan.Measure:
		e.usage(c, in)
	case plan.Victim != nil:
		e.evict(c, plan.Victim)
	default:
		e.rest(c)
	}
}

// usage measures the pods and goes on with that.
func (e *evictor) usage(c actor.Context, in eviction.Snapshot) {
	var list []*corev1.Pod
	if p := e.pods(); p != nil {
		for _, v := range p.List() {
			if active(&v) {
				list = append(list, v.Pod)
			}
		}
	}
	stage.Go(c, nil, measureLimit, func(ctx context.Context) (map[types.UID]*eviction.Usage, error) {
		return e.gauge.usage(ctx, list)
	}, func(used map[types.UID]*eviction.Usage, err error) {
		if err != nil {
			e.log.Warn("use of pods is not measured", "node", e.node, "err", err)
			if len(used) == 0 { // nobody is ended by guess
				e.rest(c)
				return
			}
		}
		in.Measured = true
		for _, p := range list {
			in.Pods = append(in.Pods, eviction.Pod{Pod: p, Usage: used[p.UID]})
		}
		e.act(c, in)
	})
}

// active says whether ending the pod frees something.
func active(v *pod.View) bool {
	return v.Status.Phase != corev1.PodSucceeded && v.Status.Phase != corev1.PodFailed && v.Pod.DeletionTimestamp == nil && !over(v)
}

func (e *evictor) evict(c actor.Context, v *eviction.Victim) {
	p := e.pods()
	if p == nil {
		e.rest(c)
		return
	}
	e.log.Warn("pod is evicted", "node", e.node, "key", v.Pod.Namespace+"/"+v.Pod.Name, "reason", v.Message)
	p.Evict(v.Pod.UID, v.Message)
	e.victim, e.since = v.Pod.UID, e.clock.Now()
	stage.After(c, evictedLook, evictedDue{})
}

// evicted waits for the end of the pod that was told to, for a while, and looks again.
func (e *evictor) evicted(c actor.Context) {
	if p := e.pods(); p != nil && e.clock.Now().Sub(e.since) < evictedPatient {
		if slices.ContainsFunc(p.List(), func(v pod.View) bool { return v.UID == e.victim && !over(&v) }) {
			stage.After(c, evictedLook, evictedDue{})
			return
		}
	}
	e.victim, e.looking = "", false
	e.press(c)
}

// over says whether nothing of a pod runs any more.
func over(v *pod.View) bool {
	return v.Sandbox == "" && !slices.ContainsFunc(v.Runs, func(r pod.Run) bool { return r.Running })
}

// rest waits for the next look.
func (e *evictor) rest(c actor.Context) {
	e.looking = false
	switch {
	case e.every > 0:
		e.look = stage.After(c, e.every, pressDue{})
	case len(e.state) > 0:
		e.look = stage.After(c, pressEvery, pressDue{})
	}
}

// tell passes conditions on that differ from those told before.
func (e *evictor) tell(conditions []corev1.NodeConditionType) {
	if old := e.conditions.Load(); old == nil && len(conditions) == 0 || old != nil && slices.Equal(*old, conditions) {
		return
	}
	e.conditions.Store(&conditions)
	e.pressed(conditions)
}
