package state

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// Event is a change as watchers need it.
type Event struct {
	objects.Change
	// Last is set on deletion: Old with the revision of the deletion.
	Last objects.Object
	size int
}

// eventLog is the recent past of one table. Watchers read it at their own pace, so that a slow one
// costs nothing but its own place in it.
type eventLog struct {
	events []Event // in revision order
	lost   uint64  // revision of the newest event that was forgotten
	mu     sync.Mutex
	wake   chan struct{} // closed by the next event; nil when nobody waits
}

func (l *eventLog) append(e Event) { l.events = append(l.events, e) }

// after returns the events with a revision above rev. The result must not be used once the
// caller gives up the store's lock.
func (l *eventLog) after(rev uint64) []Event {
	i, _ := slices.BinarySearchFunc(l.events, rev+1, func(e Event, rev uint64) int {
		switch {
		case e.Rev < rev:
			return -1
		case e.Rev > rev:
			return 1
		}
		return 0
	})
	return l.events[i:]
}

// dropFirst forgets the oldest event. Growing the slice later moves only what is left.
func (l *eventLog) dropFirst() Event {
	e := l.events[0]
	l.lost = e.Rev
	l.events[0] = Event{}
	l.events = l.events[1:]
	return e
}

func (l *eventLog) notify() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wake != nil {
		close(l.wake)
		l.wake = nil
	}
}

func (l *eventLog) waiter() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wake == nil {
		l.wake = make(chan struct{})
	}
	return l.wake
}

// record appends an event to its table and forgets the oldest events over the bounds. The caller
// holds the store's lock.
func (s *Store) record(t *table, e Event) {
	t.log.append(e)
	s.past = append(s.past, t)
	s.pastBytes += e.size
	for len(s.past) > s.cfg.History || s.pastBytes > s.cfg.HistoryBytes && len(s.past) > 1 {
		s.forgetFirst()
	}
}

func (s *Store) forgetFirst() {
	e := s.past[0].log.dropFirst()
	s.past[0] = nil
	s.past = s.past[1:]
	s.pastBytes -= e.size
}

// Compact forgets all events up to rev: watches and lists at older revisions get messages.ErrGone.
func (s *Store) Compact(rev uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rev = min(rev, s.rev)
	for len(s.past) > 0 && s.past[0].log.events[0].Rev <= rev {
		s.forgetFirst()
	}
	s.floor = max(s.floor, rev)
}

// Floor returns the revision below which nothing at all is remembered: the one the store was
// opened at, or the newest given to [Store.Compact].
func (s *Store) Floor() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.floor
}

// gone returns an error when events of t after rev may be forgotten. The caller holds the lock.
func (s *Store) gone(t *table, rev uint64) error {
	if oldest := max(s.floor, t.log.lost); rev < oldest {
		return fmt.Errorf("%s at revision %d, oldest is %d: %w", t.Resource.Resource, rev, oldest, messages.ErrGone)
	}
	return nil
}

// Cursor reads the events of one resource in order. It is for one goroutine and needs no closing.
type Cursor struct {
	store *Store
	table *table
	rev   uint64
}

// Watch returns a cursor on the events of a resource after revision rev. The error wraps
// messages.ErrGone when the store no longer remembers all of them.
func (s *Store) Watch(res messages.Resource, rev uint64) (*Cursor, error) {
	t := s.table(res)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.gone(t, rev); err != nil {
		return nil, fmt.Errorf("watch %w", err)
	}
	return &Cursor{store: s, table: t, rev: rev}, nil
}

// Poll appends the events since the last call to buf, at most limit of them, and returns the
// revision up to which the reader has now seen everything. Without new events wake is closed when
// there are some. A cursor that fell behind what the store remembers gets messages.ErrGone.
func (c *Cursor) Poll(buf []Event, limit int) (events []Event, rev uint64, wake <-chan struct{}, err error) {
	s := c.store
	s.mu.RLock()
	defer s.mu.RUnlock()
	if c.rev < c.table.log.lost {
		return buf, c.rev, nil, fmt.Errorf("watch %s: fell behind to revision %d: %w", c.table.Resource.Resource, c.rev, messages.ErrGone)
	}
	found := c.table.log.after(c.rev)
	switch {
	case len(found) == 0:
		c.rev = max(c.rev, s.rev)
		wake = c.table.log.waiter()
	case len(found) > limit:
		found = found[:limit]
		c.rev = found[limit-1].Rev
	default:
		c.rev = s.rev
	}
	return append(buf, found...), c.rev, wake, nil
}

// Next is [Cursor.Poll] that waits for at least one event.
func (c *Cursor) Next(ctx context.Context) ([]Event, uint64, error) {
	for {
		events, rev, wake, err := c.Poll(nil, 256)
		if err != nil || len(events) > 0 {
			return events, rev, err
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, rev, ctx.Err()
		}
	}
}
