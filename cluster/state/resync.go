package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/troupe-run/troupe/messages"
)

// The bucket remembers a deletion for TombstoneTTL. A follower that was cut off for longer cannot hear of
// some, and would keep those objects for ever. It reads the whole bucket instead, and drops what is not there any
// more. What happened meanwhile is not known in order, so its watchers have to list again.

// errLongGap says that a follower has heard nothing for too long to go on where it was.
var errLongGap = errors.New("cut off for longer than deletions are remembered")

// gapLimit is how long that is, with room for clocks that run differently.
func (s *Store) gapLimit() time.Duration { return s.cfg.TombstoneTTL / 2 }

// hear notes that the server which is followed is there.
func (s *Store) hear() error {
	now := s.cfg.Clock.Now()
	if now.Sub(s.role.heard) > s.gapLimit() {
		return errLongGap
	}
	s.role.heard = now
	return nil
}

// resync makes memory what the bucket is now.
func (s *Store) resync(ctx context.Context) error {
	from := s.Revision()
	attempt, cancel := s.attempt(ctx)
	defer cancel()
	newest, err := s.newestRecord(attempt)
	if err != nil {
		return fmt.Errorf("resync: %w", err)
	}
	begun, last := s.cfg.Clock.Now(), from
	alive := map[messages.Key]bool{}
	var changed []followed
	read := func(r raw) (bool, error) {
		last = max(last, r.seq)
		if _, key, err := messages.ParseStateSubject(r.subject); err == nil {
			alive[key] = r.header.Get(kvOperation) != kvPurge
		}
		if r.seq > from {
			record, err := s.decodeFollowed(r)
			if err != nil {
				return false, err
			}
			changed = append(changed, record)
		}
		return r.seq >= newest && r.pending == 0, nil
	}
	if newest != 0 {
		if err := s.readUntil(ctx, 1, read); err != nil {
			return fmt.Errorf("resync: %w", err)
		}
	}
	s.replace(changed, alive, last)
	s.role.heard = begun
	s.log.Info("bucket read anew after a long time without contact", "rev", last, "from", from)
	return nil
}

// replace applies what has changed, removes what is not alive, and forgets the past.
func (s *Store) replace(changed []followed, alive map[messages.Key]bool, rev uint64) {
	var events []Event
	s.mu.Lock()
	for _, r := range changed {
		if r.apply != nil {
			events = append(events, r.apply()...)
		}
	}
	for _, tab := range s.tables {
		for _, row := range tab.rows {
			if !alive[row.key] {
				delete(s.stale, row.key)
				events = append(events, s.followDelete(tab, row.key, rev, nil, 0)...)
			}
		}
	}
	for len(s.past) > 0 {
		s.forgetFirst()
	}
	s.floor, s.blurred, s.rev = rev, rev, rev
	for _, tab := range s.tables {
		tab.log.lost = max(tab.log.lost, rev)
		defer tab.log.notify()
	}
	s.wake()
	s.mu.Unlock()
	if s.mark != nil {
		c := s.mark.content
		c.seq = rev
		if err := s.mark.set(c); err != nil {
			s.log.Warn("mark not moved", "rev", rev, "err", err)
		}
	}
	s.feed.offer(events)
}
