package state_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// What tells the test binary that it is the child process of a crash test: the data folder and the
// number of the round.
const (
	crashDir   = "TROUPE_TEST_CRASH_DIR"
	crashRound = "TROUPE_TEST_CRASH_ROUND"
)

var (
	rounds = flag.Int("rounds", 20, "how often TestKillKeepsAcknowledged kills its writer")
	seed   = flag.Uint64("seed", 0, "repeats the random choices of a crash test; 0 draws one")
)

func random(t *testing.T) *rand.Rand {
	n := *seed
	if n == 0 {
		n = rand.Uint64()
	}
	t.Logf("-seed %d repeats the choices", n)
	return rand.New(rand.NewPCG(n, n))
}

// The life of one object of a crash test. Every third one is deleted in the end, and every seventh
// has a twin, created by the same commit and then left alone.
const (
	created = iota + 1
	updated
	deleted
)

func dies(i int) bool    { return i%3 == 0 }
func hasTwin(i int) bool { return i%7 == 0 }

// crashingWriter lets many goroutines create, update and delete and prints each step when it is
// acknowledged, until it is killed.
func crashingWriter(dir, round string) error {
	ctx := context.Background()
	b, err := bus.Start(ctx, bus.Config{DataDir: dir, Log: discard()})
	if err != nil {
		return err
	}
	s, err := state.Open(ctx, state.Config{Bus: b, Resources: []state.Resource{pods}, Log: discard()})
	if err != nil {
		return err
	}
	var out sync.Mutex
	failed := make(chan error)
	for w := range 24 {
		go func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("p-%s-%d-%d", round, w, i)
				if err := live(ctx, s, name, i, func(step int, rev uint64) {
					out.Lock()
					defer out.Unlock()
					fmt.Println(name, i, step, rev)
				}); err != nil {
					failed <- err
				}
			}
		}()
	}
	return <-failed
}

// live takes one object through its life and reports each step that was acknowledged.
func live(ctx context.Context, s *state.Store, name string, i int, acknowledged func(step int, rev uint64)) error {
	write := func(name, node string, expect uint64) (state.Op, error) {
		p := pod(name, node)
		data, err := s.Encode(messages.Pods, p)
		return state.Op{Key: podKey(name), Expect: expect, Object: p, Data: data}, err
	}
	var ops []state.Op
	if hasTwin(i) {
		twin, err := write(name+"-twin", "", 0)
		if err != nil {
			return err
		}
		ops = append(ops, twin)
	}
	first, err := write(name, "", 0)
	if err != nil {
		return err
	}
	rev, err := s.Commit(ctx, append(ops, first)...)
	if err != nil {
		return err
	}
	acknowledged(created, rev)
	second, err := write(name, "n1", rev)
	if err != nil {
		return err
	}
	if rev, err = s.Commit(ctx, second); err != nil {
		return err
	}
	acknowledged(updated, rev)
	if !dies(i) {
		return nil
	}
	if rev, err = s.Commit(ctx, state.Op{Key: podKey(name), Expect: rev}); err != nil {
		return err
	}
	acknowledged(deleted, rev)
	return nil
}

// written is what a child has said of one object: its number, and the last step acknowledged with
// the revision it had.
type written struct {
	i, step int
	rev     uint64
}

// crash runs a child on dir, kills it after some time and returns what it had acknowledged.
func crash(t *testing.T, dir string, round int, after time.Duration) map[string]written {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), crashDir+"="+dir, crashRound+"="+strconv.Itoa(round))
	child.Stderr = os.Stderr
	pipe, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	acked := map[string]written{}
	lines := bufio.NewReader(pipe)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break // what the kill has cut short does not count
		}
		var name string
		var w written
		if _, err := fmt.Sscan(line, &name, &w.i, &w.step, &w.rev); err != nil {
			t.Fatalf("child says %q: %v", line, err)
		}
		if len(acked) == 0 {
			time.AfterFunc(after, func() { _ = child.Process.Kill() })
		}
		acked[name] = w
	}
	if err := child.Wait(); err == nil || child.ProcessState.ExitCode() > 0 {
		t.Fatalf("the child was not killed: %v", err)
	}
	return acked
}

// check compares a store with what was acknowledged. Of each object one more step than that may
// have happened, no less and no more.
func check(s *state.Store, acked map[string]written) (complaints []string) {
	complain := func(format string, args ...any) { complaints = append(complaints, fmt.Sprintf(format, args...)) }
	for name, w := range acked {
		e, _, ok := s.Lookup(podKey(name))
		switch {
		case !ok && w.step == updated && dies(w.i), !ok && w.step == deleted:
		case !ok:
			complain("%s had step %d acknowledged at %d, it is gone", name, w.step, w.rev)
		case w.step == deleted:
			complain("%s was deleted at %d, it is there at %d", name, w.rev, e.Rev)
		case e.Rev != w.rev && (w.step != created || e.Rev < w.rev):
			complain("%s had step %d acknowledged at %d, it is at %d", name, w.step, w.rev, e.Rev)
		}
		if _, ok := s.Get(podKey(name + "-twin")); ok != hasTwin(w.i) {
			complain("%s: twin %v", name, ok)
		}
	}
	if len(complaints) > 10 {
		complaints = append(complaints[:10], fmt.Sprintf("and %d more", len(complaints)-10))
	}
	return complaints
}

// TestKillKeepsAcknowledged kills a writing process again and again, at random moments, and finds
// all that was acknowledged in any round, at the revisions that were said.
func TestKillKeepsAcknowledged(t *testing.T) {
	t.Parallel()
	dir, draw := t.TempDir(), random(t)
	acked := map[string]written{}
	var newest uint64
	for round := range *rounds {
		for name, w := range crash(t, dir, round, time.Duration(draw.IntN(200))*time.Millisecond) {
			if w.rev <= newest {
				t.Errorf("%s has revision %d, an earlier round had %d", name, w.rev, newest)
			}
			acked[name] = w
		}
		for _, w := range acked {
			newest = max(newest, w.rev)
		}
		func() {
			b, err := bus.Start(t.Context(), bus.Config{DataDir: dir, Log: discard()})
			if err != nil {
				t.Fatal(err)
			}
			s, err := state.Open(t.Context(), state.Config{Bus: b, Resources: []state.Resource{pods}, Log: discard()})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range check(s, acked) {
				t.Errorf("round %d: %s", round, c)
			}
			closeStore(t, s)
			if err := b.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		if t.Failed() {
			return
		}
	}
	t.Logf("%d objects over %d rounds, the last at revision %d", len(acked), *rounds, newest)
}
