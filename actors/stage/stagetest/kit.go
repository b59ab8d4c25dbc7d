package stagetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/actors/stage"
)

// New returns a system that is shut down, awaited, when the test ends.
func New(t testing.TB) *stage.System {
	t.Helper()
	s := stage.New(stage.Config{})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return s
}

// Probe is an actor that records every user message sent to it.
type Probe struct {
	PID *actor.PID
	t   testing.TB
	mu  sync.Mutex
	got []any
}

// NewProbe spawns a probe.
func NewProbe(t testing.TB, s *stage.System, name string) *Probe {
	t.Helper()
	p := &Probe{t: t}
	pid, err := s.Spawn(stage.Props(func() actor.Actor { return actor.ReceiveFunc(p.receive) }), name)
	if err != nil {
		t.Fatal(err)
	}
	p.PID = pid
	return p
}

func (p *Probe) receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started, *actor.Stopping, *actor.Stopped, *actor.Restarting, *actor.Terminated:
	default:
		p.mu.Lock()
		p.got = append(p.got, m)
		p.mu.Unlock()
	}
}

// Take takes the oldest message without waiting; ok is false when there is none.
func (p *Probe) Take() (m any, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.got) == 0 {
		return nil, false
	}
	m = p.got[0]
	p.got = p.got[1:]
	return m, true
}

// Expect waits for the bubble to settle and takes the oldest message, which must be an M.
func Expect[M any](p *Probe) M {
	p.t.Helper()
	synctest.Wait()
	m, ok := p.Take()
	if !ok {
		p.t.Fatalf("%s: got nothing, want %T", p.PID.Id, *new(M))
	}
	out, ok := m.(M)
	if !ok {
		p.t.Fatalf("%s: got %T %v, want %T", p.PID.Id, m, m, *new(M))
	}
	return out
}

// ExpectNothing lets d of the bubble's time pass and fails when anything arrived.
func (p *Probe) ExpectNothing(d time.Duration) {
	p.t.Helper()
	if d > 0 {
		time.Sleep(d)
	}
	synctest.Wait()
	if m, ok := p.Take(); ok {
		p.t.Fatalf("%s: got %s, want nothing", p.PID.Id, fmt.Sprintf("%T %v", m, m))
	}
}
