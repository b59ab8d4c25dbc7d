package state

import (
	"errors"
	"testing"
	"time"

	"github.com/troupe-run/troupe/messages"
)

// TestFollowerResyncsAfterALongTime cuts a follower off until the bucket has forgotten a deletion.
func TestFollowerResyncsAfterALongTime(t *testing.T) {
	t.Parallel()
	leader, follower := openTwo(t, func(c *Config) { c.TombstoneTTL = time.Second })
	gone := do(t, leader, podOp(t, leader, "gone", "u1", "n1", 0))
	changed := do(t, leader, podOp(t, leader, "changed", "u2", "n1", 0))
	stays := do(t, leader, podOp(t, leader, "stays", "u3", "n1", 0))
	if err := follower.WaitFor(t.Context(), stays); err != nil {
		t.Fatal(err)
	}
	cursor, err := follower.Watch(messages.Pods, stays)
	if err != nil {
		t.Fatal(err)
	}
	follower.role.changing.Lock()
	follower.stopPump()
	follower.role.changing.Unlock()
	do(t, leader, podOp(t, leader, "changed", "u2", "n2", changed))
	deleted := do(t, leader, Op{Key: messages.KeyOf(messages.Pods, "ns", "gone"), Expect: gone})
	for end := time.Now().Add(20 * time.Second); ; <-time.After(100 * time.Millisecond) {
		newest, err := leader.newestRecord(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if newest != deleted {
			break // its deletion is forgotten
		}
		if time.Now().After(end) {
			t.Fatal("the bucket remembers the deletion for too long")
		}
	}
	follower.role.changing.Lock()
	follower.startPump()
	follower.role.changing.Unlock()
	last := do(t, leader, podOp(t, leader, "new", "u4", "n1", 0))
	if err := follower.WaitFor(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gone", "changed", "stays", "new"} {
		key := messages.KeyOf(messages.Pods, "ns", name)
		want, there := leader.Get(key)
		have, ok := follower.Get(key)
		if ok != there || ok && have.GetResourceVersion() != want.GetResourceVersion() {
			t.Errorf("%s: the follower has %v, the leader %v", name, have, want)
		}
	}
	if _, _, err := cursor.Next(t.Context()); !errors.Is(err, messages.ErrGone) {
		t.Errorf("a watcher from before: %v", err)
	}
}

// TestFollowerChecks commits through a follower what depends on another object.
func TestFollowerChecks(t *testing.T) {
	t.Parallel()
	leader, follower := openTwo(t)
	rev := do(t, leader, podOp(t, leader, "a", "u1", "n1", 0))
	key := messages.KeyOf(messages.Pods, "ns", "a")
	do(t, follower, Op{Key: key, Check: true, Expect: rev}, podOp(t, follower, "b", "u2", "n1", 0))
	do(t, follower, Op{Key: key, Check: true, Expect: rev})
	next := do(t, leader, podOp(t, leader, "a", "u1", "n2", rev))
	for name, c := range map[string]struct {
		check Op
		want  error
	}{
		"changed meanwhile": {Op{Key: key, Check: true, Expect: rev}, messages.ErrConflict},
		"is there":          {Op{Key: key, Check: true}, messages.ErrExists},
		"is not there":      {Op{Key: messages.KeyOf(messages.Pods, "ns", "z"), Check: true, Expect: next}, messages.ErrNotFound},
	} {
		if _, err := follower.Commit(t.Context(), c.check, podOp(t, follower, "c", "u3", "n1", 0)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := follower.Commit(t.Context(), c.check); !errors.Is(err, c.want) {
			t.Errorf("%s, alone: %v", name, err)
		}
		if _, ok := follower.Get(messages.KeyOf(messages.Pods, "ns", "c")); ok {
			t.Errorf("%s: and yet it was done", name)
		}
	}
}
