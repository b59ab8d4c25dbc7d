package stage

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// Semaphore bounds how much work runs against one dependency at a time. A nil Semaphore does not
// bound.
type Semaphore chan struct{}

// NewSemaphore returns a semaphore of n places.
func NewSemaphore(n int) Semaphore { return make(Semaphore, n) }

func (s Semaphore) acquire(ctx context.Context) error {
	if s == nil {
		return ctx.Err()
	}
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s Semaphore) release() {
	if s != nil {
		<-s
	}
}

// Go runs fn, which may block, off the actor and brings its outcome back as an ordinary message:
// done then runs inside the actor. limit bounds fn from the moment it has its place in sem (0
// means no limit). When the actor stops or restarts meanwhile, fn's context is cancelled and done
// never runs. A panic in fn arrives as an error.
func Go[T any](c actor.Context, sem Semaphore, limit time.Duration, fn func(context.Context) (T, error), done func(T, error)) {
	in := c.Actor().(*incarnation)
	ctx, self, root := in.context(), c.Self(), c.ActorSystem().Root
	workersOf(c.ActorSystem()).run(func() {
		out, err := attempt(ctx, sem, limit, fn)
		if ctx.Err() != nil {
			return
		}
		root.Send(self, &workDone{of: in, run: func() { done(out, err) }})
	})
}

func attempt[T any](ctx context.Context, sem Semaphore, limit time.Duration, fn func(context.Context) (T, error)) (out T, err error) {
	if err = sem.acquire(ctx); err != nil {
		return out, err
	}
	defer sem.release()
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("work panicked: %w\n%s", &Panic{Value: r}, debug.Stack())
		}
	}()
	return fn(ctx)
}

// Timer is a pending [After]. A nil Timer may be stopped.
type Timer struct {
	of    *incarnation
	timer *time.Timer
}

// Stop cancels the timer: its message does not arrive any more, unless it is in the mailbox
// already. Call it from the timer's own actor only.
func (t *Timer) Stop() {
	if t != nil {
		t.timer.Stop()
		delete(t.of.timers, t)
	}
}

// timerFired brings a timer that ran out back into its actor.
type timerFired struct {
	timer *Timer
	msg   any
}

// After sends msg to the actor itself when d has passed, unless the actor stops or restarts first.
func After(c actor.Context, d time.Duration, msg any) *Timer {
	return after(c.Actor().(*incarnation), c, d, msg)
}

func after(in *incarnation, c actor.Context, d time.Duration, msg any) *Timer {
	self, root := c.Self(), c.ActorSystem().Root
	t := &Timer{of: in}
	if in.timers == nil {
		in.timers = make(map[*Timer]struct{})
	}
	in.timers[t] = struct{}{}
	t.timer = time.AfterFunc(d, func() { root.Send(self, &timerFired{t, msg}) })
	return t
}

// fire passes a timer's message on as an ordinary one; a timer stopped or of an earlier
// incarnation is not in the set any more.
func (in *incarnation) fire(c actor.Context, m *timerFired) {
	if _, ok := in.timers[m.timer]; ok {
		delete(in.timers, m.timer)
		c.Send(c.Self(), m.msg)
	}
}

// Context returns the context of the actor's present incarnation: cancelled when it stops or
// restarts.
func Context(c actor.Context) context.Context { return c.Actor().(*incarnation).context() }
