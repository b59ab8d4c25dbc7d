package stage

import (
	"context"
	"errors"
	"fmt"

	"github.com/asynkron/protoactor-go/actor"
)

// ErrNoActor says that the asked actor does not exist or went away before it answered.
var ErrNoActor = errors.New("no such actor")

// Ask sends msg and waits for the answer, from outside the actor world only: inside, tell and be
// told. It returns ErrNoActor at once when nobody is there.
func Ask[R any](ctx context.Context, s *System, to *actor.PID, msg any) (R, error) {
	var none R
	w := s.wait()
	defer s.actors.ProcessRegistry.Remove(w.pid)
	s.actors.Root.RequestWithCustomSender(to, msg, w.pid)
	select {
	case out := <-w.answer:
		switch m := out.(type) {
		case R:
			return m, nil
		case *actor.DeadLetterResponse, *actor.Terminated:
			return none, fmt.Errorf("ask %s: %w", to.Id, ErrNoActor)
		default:
			return none, fmt.Errorf("ask %s: unexpected answer %T", to.Id, out)
		}
	case <-ctx.Done():
		return none, fmt.Errorf("ask %s: %w", to.Id, ctx.Err())
	}
}

// waiter is a one-shot process: the first message, user or system, is its answer.
type waiter struct {
	pid    *actor.PID
	answer chan any
}

func (s *System) wait() *waiter {
	w := &waiter{answer: make(chan any, 1)}
	w.pid, _ = s.actors.ProcessRegistry.Add(w, "wait"+s.actors.ProcessRegistry.NextId())
	return w
}

func (w *waiter) SendUserMessage(_ *actor.PID, msg any) {
	_, body, _ := actor.UnwrapEnvelope(msg)
	w.put(body)
}
func (w *waiter) SendSystemMessage(_ *actor.PID, msg any) { w.put(msg) }
func (w *waiter) Stop(*actor.PID)                         {}

func (w *waiter) put(msg any) {
	select {
	case w.answer <- msg:
	default:
	}
}

// sendSystem sends a system message from outside; for an unknown actor it becomes a dead letter.
func sendSystem(sys *actor.ActorSystem, to *actor.PID, msg any) {
	p, _ := sys.ProcessRegistry.Get(to)
	p.SendSystemMessage(to, msg)
}

// Ref is an actor's address that accepts only messages of M, a sealed interface of that actor.
type Ref[M any] struct{ pid *actor.PID }

// RefTo wraps a PID; the caller vouches that the actor handles M.
func RefTo[M any](pid *actor.PID) Ref[M] { return Ref[M]{pid} }

// PID returns the untyped address.
func (r Ref[M]) PID() *actor.PID { return r.pid }

// Tell sends without waiting; s is an actor's context or a system's root. A zero Ref drops.
func (r Ref[M]) Tell(s actor.SenderContext, msg M) {
	if r.pid != nil {
		s.Send(r.pid, msg)
	}
}

var _ actor.Process = (*waiter)(nil)
