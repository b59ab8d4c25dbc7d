package state_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

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

// TestIdleWritesNothing lets half an hour pass in a bubble, in which every timer of nats-server
// has its turn, and looks for files that were touched.
func TestIdleWritesNothing(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := startBus(t, dir)
		s := open(t, b, func(c *state.Config) { c.Changes = &state.Changes{} })
		open(t, b, func(c *state.Config) { c.Bucket, c.Async, c.TTL = "events", true, 24*time.Hour })
		commit(t, s, op(t, s, pod("a", ""), 0))
		time.Sleep(5 * time.Minute) // indexes are written some minutes after the last change
		before := touched(t, dir)
		time.Sleep(30 * time.Minute)
		if diff := cmp.Diff(before, touched(t, dir)); diff != "" {
			t.Errorf("files changed while nothing happened (-before +after):\n%s", diff)
		}
	})
}

// touched returns when each file below dir was last written to.
func touched(t *testing.T, dir string) map[string]time.Time {
	t.Helper()
	files := map[string]time.Time{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			files[path] = info.ModTime()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
