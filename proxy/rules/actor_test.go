package rules

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/go-cmp/cmp"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/actors/stage/stagetest"
	"github.com/troupe-run/troupe/proxy/feed"
)

// fake is a backend that takes a while, and fails when told to.
type fake struct {
	mu       sync.Mutex
	got      []feed.Update
	verified int
	takes    time.Duration
	fail     error
	busy     bool
}

func (f *fake) work(record func()) error {
	f.mu.Lock()
	if f.busy {
		panic("two calls at a time")
	}
	f.busy = true
	record()
	takes, err := f.takes, f.fail
	f.mu.Unlock()
	time.Sleep(takes)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy = false
	return err
}

func (f *fake) Sync(_ context.Context, u feed.Update) error {
	return f.work(func() { f.got = append(f.got, u) })
}
func (f *fake) Verify(context.Context) error { return f.work(func() { f.verified++ }) }
func (f *fake) Remove(context.Context) error { return nil }

func (f *fake) set(takes time.Duration, fail error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.takes, f.fail = takes, fail
}

// syncs returns the names of the services in each sync so far.
func (f *fake) syncs() [][]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := [][]string{}
	for _, u := range f.got {
		names := []string{}
		for name := range maps.Keys(u.Services) {
			names = append(names, name.Name)
		}
		slices.Sort(names)
		out = append(out, names)
	}
	return out
}

type bench struct {
	t       *testing.T
	backend *fake
	sys     *stage.System
	pid     *actor.PID
	mu      sync.Mutex
	applied []uint64
	errs    []error
	resends int
}

func runActor(t *testing.T, fn func(t *testing.T, b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, backend: &fake{takes: 20 * time.Millisecond}, sys: stagetest.New(t)}
		pid, err := b.sys.Spawn(Props(Config{
			Backend: b.backend,
			Resend:  func() { b.note(func() { b.resends++ }) },
			Applied: func(_ string, rev uint64) { b.note(func() { b.applied = append(b.applied, rev) }) },
			Report:  func(err error) { b.note(func() { b.errs = append(b.errs, err) }) },
			Log:     slog.New(slog.DiscardHandler),
		}), "rules")
		if err != nil {
			t.Fatal(err)
		}
		b.pid = pid
		fn(t, b)
	})
}

func (b *bench) note(fn func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fn()
}

func (b *bench) change(rev uint64, reset bool, names ...string) {
	u := feed.Update{Revision: rev, Reset: reset, Services: make(map[feed.Name]*feed.Service)}
	for _, n := range names {
		u.Services[feed.Name{Namespace: "default", Name: n}] = service(n, "10.96.0.20", nil)
	}
	b.sys.Send(b.pid, Change{Update: u})
}

func (b *bench) want(applied []uint64, syncs [][]string) {
	b.t.Helper()
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if diff := cmp.Diff(applied, b.applied); diff != "" {
		b.t.Errorf("applied (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(syncs, b.backend.syncs()); diff != "" {
		b.t.Errorf("syncs (-want +got):\n%s", diff)
	}
}

func TestActorWaitsForTheFirstReset(t *testing.T) {
	runActor(t, func(_ *testing.T, b *bench) {
		b.change(1, false, "a")
		time.Sleep(5 * time.Minute)
		b.want(nil, [][]string{})
		b.change(2, true, "a", "b")
		time.Sleep(time.Second)
		b.want([]uint64{2}, [][]string{{"a", "b"}})
		if b.resends != 1 {
			b.t.Errorf("asked %d times for a reset", b.resends)
		}
	})
}

func TestActorCoalescesWhileBusy(t *testing.T) {
	runActor(t, func(_ *testing.T, b *bench) {
		b.change(1, true, "a")
		synctest.Wait()
		for rev := uint64(2); rev < 50; rev++ {
			b.change(rev, false, []string{"b", "c"}[rev%2])
		}
		time.Sleep(30 * time.Millisecond)
		b.want([]uint64{1}, [][]string{{"a"}}) // the pause after a sync
		time.Sleep(time.Second)
		b.want([]uint64{1, 49}, [][]string{{"a"}, {"b", "c"}})
	})
}

func TestActorRetries(t *testing.T) {
	runActor(t, func(t *testing.T, b *bench) {
		broken := errors.New("no iptables")
		b.backend.set(0, broken)
		b.change(1, true, "a")
		time.Sleep(5 * time.Second)
		b.change(2, false, "b")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(b.backend.syncs()); n < 3 || n > 6 {
			t.Errorf("%d tries in 15 s", n)
		}
		b.backend.set(0, nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		b.note(func() {
			if len(b.applied) == 0 || b.applied[0] != 2 {
				t.Errorf("applied %v", b.applied)
			}
			if b.errs[0] == nil || b.errs[len(b.errs)-1] != nil {
				t.Errorf("reported %v", b.errs)
			}
		})
	})
}

func TestActorVerifies(t *testing.T) {
	runActor(t, func(t *testing.T, b *bench) {
		b.change(7, true, "a")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		b.note(func() {
			if b.backend.verified < 8 || b.backend.verified > 10 {
				t.Errorf("verified %d times in ten minutes", b.backend.verified)
			}
			if n := len(b.applied); n != b.backend.verified+1 {
				t.Errorf("reported %d times: reports are repeated so that a new leader hears them", n)
			}
		})
	})
}
