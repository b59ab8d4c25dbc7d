package stage_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/actors/stage/stagetest"
)

// forward sends every user message on to a probe and panics on "panic".
func forward(to *actor.PID) *actor.Props {
	return receive(func(c actor.Context) {
		switch m := c.Message().(type) {
		case *actor.Started:
			c.Send(to, "started")
		case string:
			if m == "panic" {
				panic("told to")
			}
			c.Send(to, m)
		case numbered:
			c.Send(to, m)
		}
	})
}

func receive(f actor.ReceiveFunc) *actor.Props {
	return stage.Props(func() actor.Actor { return f })
}

type numbered struct{ key, n int }

func (m numbered) CoalesceKey() any { return m.key }

func mustSpawn(t *testing.T, s *stage.System, p *actor.Props, name string) *actor.PID {
	t.Helper()
	pid, err := s.Spawn(p, name)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestNilMessageIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stagetest.New(t)
		p := stagetest.NewProbe(t, s, "probe")
		s.Send(p.PID, nil)
		s.Send(p.PID, "after")
		if got := stagetest.Expect[string](p); got != "after" {
			t.Errorf("got %q", got)
		}
	})
}

func TestEqualKeysCoalesceWhileQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stagetest.New(t)
		p := stagetest.NewProbe(t, s, "probe")
		hold := make(chan struct{})
		busy := mustSpawn(t, s, receive(func(c actor.Context) {
			switch m := c.Message().(type) {
			case string:
				<-hold
			case numbered:
				c.Send(p.PID, fmt.Sprint(m.key, m.n)) // as strings, or the probe's mailbox would coalesce too
			}
		}), "busy")
		s.Send(busy, "block")
		synctest.Wait()
		for n := range 1000 {
			s.Send(busy, numbered{1, n})
			s.Send(busy, numbered{2, n})
		}
		close(hold)
		if a, b := stagetest.Expect[string](p), stagetest.Expect[string](p); a != "1 999" || b != "2 999" {
			t.Errorf("got %q, %q; want the newest of each key in place", a, b)
		}
		p.ExpectNothing(0)
	})
}

func TestRestartsBackOffExponentially(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stagetest.New(t)
		p := stagetest.NewProbe(t, s, "probe")
		a := mustSpawn(t, s, forward(p.PID), "a")
		stagetest.Expect[string](p)
		for i, base := range []time.Duration{0, 10, 20, 40, 80, 160, 300, 300} {
			at := time.Now()
			s.Send(a, "panic")
			for {
				synctest.Wait()
				time.Sleep(500 * time.Millisecond)
				synctest.Wait()
				if m, ok := tryTake(p); ok && m == "started" {
					break
				}
			}
			took, want := time.Since(at), base*time.Second
			if took < want || took > want+want/10+time.Second {
				t.Errorf("restart %d after %v, want %v to a tenth more", i, took, want)
			}
		}
	})
}

func tryTake(p *stagetest.Probe) (string, bool) {
	m, ok := p.Take()
	s, _ := m.(string)
	return s, ok
}

func TestPanicRestartsThatActorAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stagetest.New(t)
		p := stagetest.NewProbe(t, s, "probe")
		a, b := mustSpawn(t, s, forward(p.PID), "a"), mustSpawn(t, s, forward(p.PID), "b")
		stagetest.Expect[string](p)
		stagetest.Expect[string](p)
		s.Send(a, "panic")
		s.Send(a, "kept") // queued behind the panic: survives the restart
		if m := stagetest.Expect[string](p); m != "started" {
			t.Fatalf("got %q", m)
		}
		if m := stagetest.Expect[string](p); m != "kept" {
			t.Fatalf("got %q", m)
		}
		s.Send(b, "same")
		if m := stagetest.Expect[string](p); m != "same" {
			t.Errorf("b restarted: %q", m)
		}
	})
}

func TestStopDuringBackoffStaysStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stagetest.New(t)
		p := stagetest.NewProbe(t, s, "probe")
		a := mustSpawn(t, s, forward(p.PID), "a")
		s.Send(a, "panic")
		synctest.Wait()
		s.Send(a, "panic") // second: ten seconds of back-off
		synctest.Wait()
		if err := s.Stop(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		stagetest.Expect[string](p)
		stagetest.Expect[string](p)
		p.ExpectNothing(time.Minute)
	})
}

func TestPanicWhileStoppingStillStops(t *testing.T) {
	for _, at := range []string{"*actor.Stopping", "*actor.Stopped"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := stagetest.New(t)
				a := mustSpawn(t, s, receive(func(c actor.Context) {
					if fmt.Sprintf("%T", c.Message()) == at {
						panic("farewell")
					}
				}), "a")
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := s.Stop(ctx, a); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestAskersOfAStoppedActorHearAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stagetest.New(t)
		hold := make(chan struct{})
		a := mustSpawn(t, s, receive(func(c actor.Context) {
			if c.Message() == "block" {
				<-hold
			}
		}), "a")
		s.Send(a, "block")
		synctest.Wait()
		failed := make(chan error, 1)
		go func() {
			_, err := stage.Ask[string](t.Context(), s, a, "left behind")
			failed <- err
		}()
		synctest.Wait()
		s.Actors().Root.Stop(a)
		close(hold)
		if err := <-failed; !errors.Is(err, stage.ErrNoActor) {
			t.Errorf("queued ask: %v, want ErrNoActor", err)
		}
		if _, err := stage.Ask[string](t.Context(), s, a, "late"); !errors.Is(err, stage.ErrNoActor) {
			t.Errorf("late ask: %v, want ErrNoActor", err)
		}
	})
}

func TestSendToANameWhileItSpawns(t *testing.T) {
	s := stagetest.New(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 2000 {
			s.Send(s.Actors().NewLocalPID(fmt.Sprint("troupe/n", i)), "hello")
		}
	}()
	for i := range 2000 {
		mustSpawn(t, s, receive(func(actor.Context) {}), fmt.Sprint("n", i))
	}
	<-done
}

func TestWorkComesBackAsAMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stagetest.New(t)
		p := stagetest.NewProbe(t, s, "probe")
		slots := stage.NewSemaphore(1)
		a := mustSpawn(t, s, receive(func(c actor.Context) {
			d, ok := c.Message().(time.Duration)
			if !ok {
				return
			}
			stage.Go(c, slots, time.Minute, func(ctx context.Context) (string, error) {
				select {
				case <-time.After(d):
					return d.String(), nil
				case <-ctx.Done():
					return "", ctx.Err()
				}
			}, func(out string, err error) {
				if err != nil {
					out = err.Error()
				}
				c.Send(p.PID, out)
			})
		}), "a")
		s.Send(a, 10*time.Second)
		synctest.Wait()
		s.Send(a, 5*time.Second) // one slot: runs after the first
		p.ExpectNothing(9 * time.Second)
		time.Sleep(time.Second)
		if m := stagetest.Expect[string](p); m != "10s" {
			t.Errorf("first: %q", m)
		}
		time.Sleep(5 * time.Second)
		if m := stagetest.Expect[string](p); m != "5s" {
			t.Errorf("second: %q", m)
		}
		s.Send(a, time.Hour)
		time.Sleep(time.Minute)
		if m := stagetest.Expect[string](p); m != context.DeadlineExceeded.Error() {
			t.Errorf("limit: %q", m)
		}
	})
}

func TestWorkOfAnEarlierLifeIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stagetest.New(t)
		p := stagetest.NewProbe(t, s, "probe")
		cancelled := false
		a := mustSpawn(t, s, receive(func(c actor.Context) {
			switch c.Message() {
			case "work":
				stage.Go(c, nil, 0, func(ctx context.Context) (string, error) {
					<-ctx.Done()
					cancelled = true
					return "late", nil
				}, func(out string, _ error) { c.Send(p.PID, out) })
				stage.After(c, time.Second, "timer")
			case "timer":
				c.Send(p.PID, "timer of a dead incarnation")
			case "panic":
				panic("told to")
			}
		}), "a")
		s.Send(a, "work")
		synctest.Wait()
		s.Send(a, "panic")
		p.ExpectNothing(time.Minute)
		if !cancelled {
			t.Error("the work's context was not cancelled")
		}
	})
}

func TestPanicInWorkIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stagetest.New(t)
		p := stagetest.NewProbe(t, s, "probe")
		a := mustSpawn(t, s, receive(func(c actor.Context) {
			if c.Message() == "work" {
				stage.Go(c, nil, 0, func(context.Context) (int, error) { panic("in work") },
					func(_ int, err error) { c.Send(p.PID, err.Error()) })
			}
		}), "a")
		s.Send(a, "work")
		if m := stagetest.Expect[string](p); !strings.Contains(m, "in work") {
			t.Errorf("got %q", m)
		}
	})
}

func TestStoppedTimerStaysSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stagetest.New(t)
		p := stagetest.NewProbe(t, s, "probe")
		var timer *stage.Timer
		a := mustSpawn(t, s, receive(func(c actor.Context) {
			switch c.Message() {
			case "set":
				timer = stage.After(c, time.Second, "due")
			case "stop":
				timer.Stop()
			case "due":
				c.Send(p.PID, "due")
			}
		}), "a")
		s.Send(a, "set")
		time.Sleep(time.Second)
		stagetest.Expect[string](p)
		s.Send(a, "set")
		s.Send(a, "stop")
		p.ExpectNothing(time.Minute)
	})
}

func TestShutdownStopsInReverseOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stage.New(stage.Config{})
		var order []string
		for _, name := range []string{"store", "controllers", "api"} {
			mustSpawn(t, s, receive(func(c actor.Context) {
				if _, ok := c.Message().(*actor.Stopped); ok {
					order = append(order, name)
				}
			}), name)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(order, " "); got != "api controllers store" {
			t.Errorf("stopped %s", got)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("second shutdown: %v", err)
		}
		if _, err := s.Spawn(receive(func(actor.Context) {}), "late"); err == nil {
			t.Error("spawn after shutdown succeeded")
		}
	})
}

func TestSpawnOfATakenNameFails(t *testing.T) {
	s := stagetest.New(t)
	mustSpawn(t, s, receive(func(actor.Context) {}), "a")
	if _, err := s.Spawn(receive(func(actor.Context) {}), "a"); err == nil {
		t.Error("no error")
	}
}

func BenchmarkTell(b *testing.B) {
	s := stagetest.New(b)
	done := make(chan struct{})
	pid, err := s.Spawn(receive(func(c actor.Context) {
		if n, ok := c.Message().(int); ok && n == b.N-1 {
			close(done)
		}
	}), "sink")
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for i := range b.N {
		s.Send(pid, i)
	}
	<-done
}

// Goroutines are used again, and all gone after the end: else the bubble would not end.
func TestWorkersEndWithTheSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stagetest.New(t)
		p := stagetest.NewProbe(t, s, "probe")
		const many = 1000
		sleepers := mustSpawn(t, s, receive(func(c actor.Context) {
			if n, ok := c.Message().(int); ok {
				stage.Go(c, nil, 0, func(context.Context) (int, error) {
					time.Sleep(time.Second)
					return n, nil
				}, func(n int, _ error) { c.Send(p.PID, fmt.Sprint(n)) })
			}
		}), "sleepers")
		for range 3 {
			for n := range many {
				s.Send(sleepers, n)
			}
			time.Sleep(time.Second) // all sleep side by side
			synctest.Wait()
			for range many {
				if _, ok := p.Take(); !ok {
					t.Fatal("not all have slept")
				}
			}
		}
	})
}
