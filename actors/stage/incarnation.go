package stage

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// Panic is the reason a supervisor sees when an actor panicked.
type Panic struct {
	Value any
	Stack []byte
}

func (p *Panic) Error() string { return fmt.Sprint("panic: ", p.Value) }

// Back-off of restarts: the first is at once, then 10 s doubling to 5 min as Kubernetes does for
// containers; ten quiet minutes forgive.
const (
	minBackoff   = 10 * time.Second
	maxBackoff   = 5 * time.Minute
	resetBackoff = 10 * time.Minute
)

// Props builds the props of an actor: our mailbox, supervision of its children by back-off, and
// one incarnation per start. producer must have no side effects; it runs on every restart.
func Props(producer func() actor.Actor) *actor.Props {
	return actor.PropsFromProducerWithActorSystem(func(sys *actor.ActorSystem) actor.Actor {
		return &incarnation{inner: producer(), log: sys.Logger()}
	}, actor.WithMailbox(newMailbox))
}

// incarnation wraps one life of an actor, from Started to Stopping or Restarting. It owns the
// work and the timers started in that life and supervises the actor's children, so that no actor
// has to.
type incarnation struct {
	inner  actor.Actor
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	ending bool
	timers map[*Timer]struct{}
	failed map[string]*failures // by child id
}

// failures is the restart history of one child.
type failures struct {
	count int
	last  time.Time
	timer *Timer
}

// restartDue tells a supervisor that a failed child's back-off has passed.
type restartDue struct{ child *actor.PID }

// workDone carries a finished piece of work back into the actor that started it.
type workDone struct {
	of  *incarnation
	run func()
}

func (in *incarnation) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *workDone:
		if m.of == in && !in.ending {
			m.run()
		}
	case *timerFired:
		in.fire(c, m)
	case restartDue:
		in.restart(c, m.child)
	case *actor.Terminated:
		in.forget(m.Who)
		in.inner.Receive(c)
	case *actor.Stopping, *actor.Restarting:
		in.end()
		in.quietly(c)
	case *actor.Stopped:
		in.quietly(c)
	default:
		in.inner.Receive(c)
	}
}

// quietly runs a farewell handler: a panic there must not bring the actor back to life.
func (in *incarnation) quietly(c actor.Context) {
	defer func() {
		if r := recover(); r != nil {
			in.log.Error("panic while stopping", "actor", c.Self().Id, "err", r, "stack", string(debug.Stack()))
		}
	}()
	in.inner.Receive(c)
}

// end cancels everything this incarnation started.
func (in *incarnation) end() {
	in.ending = true
	if in.cancel != nil {
		in.cancel()
	}
	for t := range in.timers {
		t.timer.Stop()
	}
	in.timers = nil
}

func (in *incarnation) context() context.Context {
	if in.ctx == nil {
		in.ctx, in.cancel = context.WithCancel(context.Background()) //nolint:forbidigo // the root of an actor's own work
		if in.ending {
			in.cancel()
		}
	}
	return in.ctx
}

// HandleFailure restarts a child that panicked: at once the first time, later after a back-off
// that passes through the supervisor's own mailbox, so that a restart never races with a stop.
func (in *incarnation) HandleFailure(sys *actor.ActorSystem, s actor.Supervisor, child *actor.PID, rs *actor.RestartStatistics, reason, msg any) {
	if own, ok := in.inner.(actor.SupervisorStrategy); ok {
		own.HandleFailure(sys, s, child, rs, reason, msg)
		return
	}
	if in.failed == nil {
		in.failed = make(map[string]*failures)
	}
	f := in.failed[child.Id]
	if f == nil {
		f = &failures{}
		in.failed[child.Id] = f
	}
	now := time.Now() //nolint:forbidigo // fake inside a synctest bubble
	if now.Sub(f.last) > resetBackoff {
		f.count = 0
	}
	delay := backoff(f.count)
	f.count, f.last = f.count+1, now
	logPanic(in.log, child, reason, msg, delay)
	if in.ending {
		return
	}
	c := s.(actor.Context)
	f.timer = after(in, c, delay, restartDue{child})
}

// backoff is the delay before the restart that follows n earlier ones, with a tenth of jitter.
func backoff(n int) time.Duration {
	if n == 0 {
		return 0
	}
	d := min(minBackoff<<min(n-1, 10), maxBackoff)
	return d + rand.N(d/10)
}

func logPanic(log *slog.Logger, child *actor.PID, reason, msg any, delay time.Duration) {
	stack := ""
	if p, ok := reason.(*Panic); ok {
		stack = string(p.Stack)
	}
	log.Error("actor panicked", "actor", child.Id, "err", reason, "message", fmt.Sprintf("%T", msg), "restartIn", delay, "stack", stack)
}

func (in *incarnation) restart(c actor.Context, child *actor.PID) {
	if in.ending {
		return
	}
	for _, pid := range c.Children() {
		if pid.Id == child.Id {
			c.(actor.Supervisor).RestartChildren(child)
			return
		}
	}
}

// forget drops the history of a child that is gone.
func (in *incarnation) forget(child *actor.PID) {
	if f := in.failed[child.Id]; f != nil {
		if f.timer != nil {
			f.timer.Stop()
		}
		delete(in.failed, child.Id)
	}
}

var _ actor.SupervisorStrategy = (*incarnation)(nil)
