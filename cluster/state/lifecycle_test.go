package state_test

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/cluster/state"
)

// cycle starts a bus and a store, writes and closes both.
func cycle(t *testing.T, dir string) {
	t.Helper()
	b, err := bus.Start(t.Context(), bus.Config{DataDir: dir, Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := state.Open(t.Context(), state.Config{Bus: b, Resources: []state.Resource{pods}, Changes: &state.Changes{}, Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	e, _, _ := s.Lookup(podKey("a"))
	commit(t, s, op(t, s, pod("a", ""), e.Rev))
	closeStore(t, s)
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestNothingIsLeft runs clusters one after another, as tests do. It is not parallel: it counts
// all goroutines of the process.
func TestNothingIsLeft(t *testing.T) {
	dir := t.TempDir()
	cycle(t, dir)
	before := settled()
	for range 5 {
		cycle(t, dir)
		cycle(t, "")
	}
	if after := settled(); after > before+2 {
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after:\n%s", before, after, buf[:runtime.Stack(buf, true)])
	}
}

// settled waits for goroutines that are ending and returns the number of those that stay.
func settled() int {
	n := runtime.NumGoroutine()
	for range 20 {
		time.Sleep(20 * time.Millisecond)
		now := runtime.NumGoroutine()
		if now == n {
			break
		}
		n = now
	}
	return n
}

// TestBubbleEnds shows that a store on files leaves nothing in a bubble either: synctest.Test
// fails when a goroutine is left behind.
func TestBubbleEnds(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { cycle(t, dir) })
}
