package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/messages"
)

// bench runs one controller on a store inside a synctest bubble.
type bench struct {
	*objectstest.Store
	system *stage.System
	keeper *actor.PID
	feed   feed
}

// feed counts how often it is followed and can break the first time.
type feed struct {
	objects.Feed
	follows atomic.Int32
}

func (f *feed) Follow(res []messages.Resource, fn func(objects.Change)) func() {
	f.follows.Add(1)
	return f.Feed.Follow(res, fn)
}

func run(t *testing.T, spec Spec, test func(b *bench)) {
	t.Helper()
	runWith(t, slog.DiscardHandler, spec, test)
}

func runWith(t *testing.T, log slog.Handler, spec Spec, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{Store: objectstest.New(clock.RealClock{}), system: stage.New(stage.Config{})}
		b.feed.Feed = b.Store
		if spec.Watches == nil {
			spec.Watches = []Watch{{Resource: messages.ConfigMaps}}
		}
		spec.Name = "test"
		pid, err := b.system.Spawn(Props(spec, Deps{Reader: b.Store, Writer: b.Store, Feed: &b.feed, Clock: clock.RealClock{}, Log: slog.New(log)}), "test")
		if err != nil {
			t.Fatal(err)
		}
		b.keeper = pid
		synctest.Wait()
		test(b)
		if err := b.system.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func (b *bench) put(name string, value int) {
	b.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string]string{"v": fmt.Sprint(value)}})
	synctest.Wait()
}

func (b *bench) value(key messages.Key) string {
	obj, ok := objects.Get[*corev1.ConfigMap](b, key)
	if !ok {
		return ""
	}
	return obj.Data["v"]
}

// pass lets time go by and waits for what was due.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// actors is how many objects have an actor.
func (b *bench) actors() (n int) {
	synctest.Wait()
	for _, shard := range b.system.Actors().ProcessRegistry.LocalPIDs.LocalPIDs {
		for _, id := range shard.Keys() {
			if strings.HasPrefix(id, b.keeper.Id+"/") {
				n++
			}
		}
	}
	return n
}

func TestChangesDuringARunCauseOneMore(t *testing.T) {
	t.Parallel()
	var b *bench
	var seen []string
	run(t, Spec{Reconcile: func(_ context.Context, key messages.Key) (Result, error) {
		seen = append(seen, b.value(key))
		time.Sleep(time.Second)
		return Result{}, nil
	}}, func(now *bench) {
		b = now
		for i := range 5 {
			b.put("a", i)
		}
		pass(5 * time.Second)
		if diff := cmp.Diff([]string{"0", "4"}, seen); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRunsOfOneObjectNeverOverlapAndOthersDoNotWait(t *testing.T) {
	t.Parallel()
	var running, most, sum atomic.Int32
	run(t, Spec{Workers: 4, Reconcile: func(_ context.Context, key messages.Key) (Result, error) {
		sum.Add(1)
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		time.Sleep(time.Second)
		running.Add(-1)
		return Result{}, nil
	}}, func(b *bench) {
		for i := range 10 {
			b.put(fmt.Sprint("cm-", i), 0)
		}
		b.put("cm-0", 1)
		pass(time.Minute)
		if most.Load() != 4 || sum.Load() != 11 {
			t.Errorf("%d at a time, %d runs; want 4 and 11", most.Load(), sum.Load())
		}
	})
}

func TestEveryKeepsRunsApart(t *testing.T) {
	t.Parallel()
	var runs []time.Duration
	var start time.Time
	run(t, Spec{Every: 100 * time.Millisecond, Reconcile: func(context.Context, messages.Key) (Result, error) {
		runs = append(runs, time.Since(start))
		return Result{}, nil
	}}, func(b *bench) {
		start = time.Now()
		for i := range 25 {
			b.put("a", i)
			pass(10 * time.Millisecond)
		}
		pass(time.Second)
		if diff := cmp.Diff([]time.Duration{0, 100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond}, runs); diff != "" {
			t.Error(diff)
		}
		if n := b.actors(); n != 0 {
			t.Errorf("%d actors are left", n)
		}
	})
}

func TestIdleActorsGoAndNoChangeIsLost(t *testing.T) {
	t.Parallel()
	var b *bench
	var last atomic.Value
	run(t, Spec{Reconcile: func(_ context.Context, key messages.Key) (Result, error) {
		last.Store(b.value(key))
		return Result{}, nil
	}}, func(now *bench) {
		b = now
		// Without waiting in between, changes meet the actor running, idle, leaving and gone.
		for i := range 2000 {
			b.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"}, Data: map[string]string{"v": fmt.Sprint(i)}})
			if i%7 == 0 {
				synctest.Wait()
				if got := last.Load(); got != fmt.Sprint(i) {
					t.Fatalf("last run saw %v, want %d", got, i)
				}
			}
		}
		synctest.Wait()
		if got := last.Load(); got != "1999" {
			t.Errorf("last run saw %v", got)
		}
		if n := b.actors(); n != 0 {
			t.Errorf("%d actors are left", n)
		}
	})
}

// TestALateIdleDoesNotEndARun: the actor said it was idle, and got work before that was read.
func TestALateIdleDoesNotEndARun(t *testing.T) {
	t.Parallel()
	var runs, ended atomic.Int32
	run(t, Spec{Reconcile: func(ctx context.Context, _ messages.Key) (Result, error) {
		runs.Add(1)
		time.Sleep(time.Second)
		if ctx.Err() == nil {
			ended.Add(1)
		}
		return Result{}, nil
	}}, func(b *bench) {
		b.put("a", 0)
		b.put("a", 1)
		b.system.Send(b.keeper, idle{messages.KeyOf(messages.ConfigMaps, "default", "a"), 1})
		pass(time.Minute)
		if runs.Load() != 2 || ended.Load() != 2 {
			t.Errorf("%d runs, %d of them to their end; want 2", runs.Load(), ended.Load())
		}
	})
}

// blocking is a log handler that does not return before free is closed.
type blocking struct{ free chan struct{} }

func (*blocking) Enabled(context.Context, slog.Level) bool    { return true }
func (b *blocking) Handle(context.Context, slog.Record) error { <-b.free; return nil }
func (b *blocking) WithAttrs([]slog.Attr) slog.Handler        { return b }
func (b *blocking) WithGroup(string) slog.Handler             { return b }

// TestAChangeWhileAnActorLeavesIsNotLost holds an actor up in its log line when it is told to go.
func TestAChangeWhileAnActorLeavesIsNotLost(t *testing.T) {
	t.Parallel()
	var runs atomic.Int32
	log := &blocking{}
	runWith(t, log, Spec{Reconcile: func(context.Context, messages.Key) (Result, error) {
		if runs.Add(1) == 1 {
			return Result{}, errors.New("no")
		}
		return Result{}, nil
	}}, func(b *bench) {
		log.free = make(chan struct{})
		b.put("a", 0)
		b.system.Send(b.keeper, idle{messages.KeyOf(messages.ConfigMaps, "default", "a"), 1})
		b.put("a", 1)
		close(log.free)
		pass(time.Minute)
		if runs.Load() != 2 {
			t.Errorf("%d runs, want 2", runs.Load())
		}
	})
}

func TestErrorsAreRetriedWithBackOff(t *testing.T) {
	t.Parallel()
	var at []time.Time
	run(t, Spec{Reconcile: func(context.Context, messages.Key) (Result, error) {
		at = append(at, time.Now())
		if len(at) < 15 {
			return Result{}, errors.New("no")
		}
		return Result{}, nil
	}}, func(b *bench) {
		b.put("a", 0)
		pass(10 * time.Minute)
		if len(at) != 15 {
			t.Fatalf("%d runs, want 15", len(at))
		}
		for i := 1; i < len(at); i++ {
			gap, want := at[i].Sub(at[i-1]), min(20*time.Millisecond<<(i-1), 30*time.Second)
			if gap < want || gap > want+want/10 {
				t.Errorf("retry %d after %s, want about %s", i, gap, want)
			}
		}
		if n := b.actors(); n != 0 {
			t.Errorf("%d actors are left", n)
		}
	})
}

func TestAfterRunsAgainAndAChangeComesFirst(t *testing.T) {
	t.Parallel()
	var at []time.Duration
	var start time.Time
	run(t, Spec{Reconcile: func(context.Context, messages.Key) (Result, error) {
		at = append(at, time.Since(start))
		if len(at) > 2 {
			return Result{}, nil
		}
		return Result{After: time.Minute}, nil
	}}, func(b *bench) {
		start = time.Now()
		b.put("a", 0)
		pass(time.Second)
		b.put("a", 1)
		pass(time.Hour)
		if diff := cmp.Diff([]time.Duration{0, time.Second, time.Minute + time.Second}, at); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAPanicIsRetriedAndHurtsNoOtherObject(t *testing.T) {
	t.Parallel()
	var bad, good atomic.Int32
	run(t, Spec{Reconcile: func(_ context.Context, key messages.Key) (Result, error) {
		if key.Name == "bad" && bad.Add(1) < 4 {
			panic("a bug")
		}
		if key.Name == "good" {
			good.Add(1)
		}
		return Result{}, nil
	}}, func(b *bench) {
		b.put("bad", 0)
		b.put("good", 0)
		pass(time.Minute)
		if bad.Load() != 4 || good.Load() != 1 || b.feed.follows.Load() != 1 {
			t.Errorf("bad ran %d times, good %d times, followed %d times; want 4, 1, 1", bad.Load(), good.Load(), b.feed.follows.Load())
		}
		if n := b.actors(); n != 0 {
			t.Errorf("%d actors are left", n)
		}
	})
}

func TestARestartedKeeperLooksAtEverythingAnew(t *testing.T) {
	t.Parallel()
	var runs, cancelled atomic.Int32
	run(t, Spec{Reconcile: func(ctx context.Context, key messages.Key) (Result, error) {
		runs.Add(1)
		if key.Name == "slow" {
			<-ctx.Done()
			cancelled.Add(1)
		}
		return Result{}, nil
	}}, func(b *bench) {
		b.put("a", 0)
		b.put("slow", 0)
		b.system.Send(b.keeper, &actor.Terminated{}) // nobody: the keeper cannot handle that and panics
		pass(time.Second)
		if runs.Load() != 4 || cancelled.Load() != 1 || b.feed.follows.Load() != 2 {
			t.Errorf("%d runs, %d cancelled, followed %d times; want 4, 1, 2", runs.Load(), cancelled.Load(), b.feed.follows.Load())
		}
		b.put("a", 1)
		if runs.Load() != 5 {
			t.Errorf("%d runs after a change, want 5", runs.Load())
		}
		if n := b.actors(); n != 1 {
			t.Errorf("%d actors, want the slow one", n)
		}
	})
}

func TestStopEndsRunsAndUnfollows(t *testing.T) {
	t.Parallel()
	var cancelled atomic.Bool
	var store *objectstest.Store
	run(t, Spec{Reconcile: func(ctx context.Context, _ messages.Key) (Result, error) {
		<-ctx.Done()
		cancelled.Store(true)
		return Result{}, nil
	}}, func(b *bench) {
		b.put("a", 0)
		store = b.Store
	})
	if !cancelled.Load() {
		t.Error("the run was not cancelled")
	}
	store.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "late"}}) // reaches nobody
}

func TestAWatchWithoutAResourceFollowsEverything(t *testing.T) {
	t.Parallel()
	var keys []string
	run(t, Spec{Watches: []Watch{{}}, Workers: 1, Reconcile: func(_ context.Context, key messages.Key) (Result, error) {
		keys = append(keys, key.String())
		return Result{}, nil
	}}, func(b *bench) {
		b.put("a", 0)
		b.Put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}})
		synctest.Wait()
		if diff := cmp.Diff([]string{"configmaps/default/a", "nodes/n"}, keys); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSlowStart(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name              string
		n, failFrom       int
		done, most, calls int32
	}{
		{name: "nothing", n: 0, failFrom: 1},
		{name: "all succeed in doubling batches", n: 20, failFrom: 99, done: 20, most: 8, calls: 20},
		{name: "the first fails", n: 20, failFrom: 0, most: 1, calls: 1},
		{name: "a batch fails and is the last", n: 20, failFrom: 4, done: 4, most: 4, calls: 7},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var running, most, calls atomic.Int32
				done, err := SlowStart(t.Context(), tc.n, func(_ context.Context, i int) error {
					calls.Add(1)
					if n := running.Add(1); n > most.Load() {
						most.Store(n)
					}
					time.Sleep(time.Second)
					running.Add(-1)
					if i >= tc.failFrom {
						return errors.New("full")
					}
					return nil
				})
				if int32(done) != tc.done || (err != nil) != (tc.failFrom < tc.n) || most.Load() != tc.most || calls.Load() != tc.calls {
					t.Errorf("done %d, %v, %d at a time, %d calls", done, err, most.Load(), calls.Load())
				}
			})
		})
	}
}

func TestSlowStartTurnsPanicsIntoErrors(t *testing.T) {
	t.Parallel()
	if _, err := SlowStart(t.Context(), 1, func(context.Context, int) error { panic("a bug") }); err == nil {
		t.Error("no error")
	}
}
