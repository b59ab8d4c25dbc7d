package state

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// feed calls followers from one goroutine, so that the writer never waits for them. Its queue has
// no bound: a follower must hand over and return.
type feed struct {
	mu        sync.Mutex
	queue     []delivery
	followers []*follower
	signal    chan struct{}
}

// delivery is one batch of changes, for one follower (its first) or for all (to is nil).
type delivery struct {
	to      *follower
	changes []objects.Change
	then    func() // called once the changes were
}

type follower struct {
	want map[messages.Resource]bool // nil means all
	from uint64                     // changes up to here are in its first delivery
	fn   func(objects.Change)
	gone atomic.Bool
}

func newFeed() *feed { return &feed{signal: make(chan struct{}, 1)} }

// Follow calls fn for every object that exists now and then for every change of the resources
// named (none named means all), in revision order.
func (s *Store) Follow(resources []messages.Resource, fn func(objects.Change)) (stop func()) {
	return s.FollowSynced(resources, fn, func() {})
}

// FollowSynced is Follow that calls synced, too, from the same goroutine, between what existed and
// what changes.
func (s *Store) FollowSynced(resources []messages.Resource, fn func(objects.Change), synced func()) (stop func()) {
	f := &follower{fn: fn}
	if len(resources) > 0 {
		f.want = make(map[messages.Resource]bool, len(resources))
		for _, r := range resources {
			f.want[r] = true
		}
	}
	// The write lock keeps changes from being applied between the snapshot and the registration.
	s.mu.Lock()
	defer s.mu.Unlock()
	f.from = s.rev
	var first []objects.Change
	for res, t := range s.tables {
		if f.want != nil && !f.want[res] {
			continue
		}
		for _, row := range t.rows {
			first = append(first, objects.Change{Key: row.key, Rev: row.Rev, New: row.Object})
		}
	}
	s.feed.add(f, first, synced)
	return func() { s.feed.remove(f) }
}

func (f *feed) add(fo *follower, first []objects.Change, synced func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.followers = append(f.followers, fo)
	f.push(delivery{to: fo, changes: first, then: synced})
}

func (f *feed) remove(fo *follower) {
	if fo.gone.Swap(true) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	// A new slice: run may be ranging over the old one.
	kept := make([]*follower, 0, len(f.followers))
	for _, o := range f.followers {
		if o != fo {
			kept = append(kept, o)
		}
	}
	f.followers = kept
}

// offer queues changes for all followers.
func (f *feed) offer(events []Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.followers) == 0 {
		return
	}
	changes := make([]objects.Change, len(events))
	for i := range events {
		changes[i] = events[i].Change
	}
	f.push(delivery{changes: changes})
}

func (f *feed) push(d delivery) {
	f.queue = append(f.queue, d)
	select {
	case f.signal <- struct{}{}:
	default:
	}
}

func (f *feed) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.signal:
		}
		f.mu.Lock()
		queue, followers := f.queue, f.followers
		f.queue = nil
		f.mu.Unlock()
		for _, d := range queue {
			if d.to != nil {
				d.to.deliver(d.changes, true)
				if !d.to.gone.Load() {
					d.then()
				}
				continue
			}
			for _, fo := range followers {
				fo.deliver(d.changes, false)
			}
		}
	}
}

func (fo *follower) deliver(changes []objects.Change, first bool) {
	for _, c := range changes {
		if fo.gone.Load() {
			return
		}
		if first || c.Rev > fo.from && (fo.want == nil || fo.want[c.Key.Resource]) {
			fo.fn(c)
		}
	}
}
