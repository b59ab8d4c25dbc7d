package state

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// startPump begins to follow the stream behind what memory has.
func (s *Store) startPump() {
	s.mu.RLock()
	closed := s.closed
	s.mu.RUnlock()
	if closed {
		return
	}
	ctx, stop := context.WithCancel(s.life)
	p := &pump{stop: stop, done: make(chan struct{})}
	s.role.pump = p
	go func() {
		defer close(p.done)
		wait := firstPause
		for ctx.Err() == nil {
			err := error(nil)
			if s.cfg.Clock.Since(s.role.heard) > s.gapLimit() {
				err = s.resync(ctx)
			}
			from := s.Revision()
			if err == nil {
				f := intake{store: s, last: from}
				err = s.readFrom(ctx, from+1, f.take, f.paused)
			}
			if ctx.Err() != nil {
				return
			}
			if s.Revision() > from {
				wait = firstPause
			}
			s.log.Debug("following the bucket was interrupted", "rev", s.Revision(), "err", err)
			if errors.Is(err, messages.ErrInvalid) { // no trouble with the connection: it cannot be read
				bad := fmt.Errorf("bucket %s cannot be followed: %w: %w", s.cfg.Bucket, err, messages.ErrUnavailable)
				if s.stalled.Swap(&bad) == nil {
					s.log.Error("bucket cannot be followed", "err", err)
				}
			}
			s.wait(ctx, &wait)
		}
	}()
}

func (s *Store) stopPump() {
	if p := s.role.pump; p != nil {
		p.stop()
		<-p.done
		s.role.pump = nil
	}
}

// intake takes records in as they come.
//
// The stream keeps the newest record of a key only. Who reads a record may therefore have missed, by a
// hole in the sequences, an older one of another key whose newest one is still to come: memory would
// stand for no revision there ever was. So what follows a hole is held back until everything has come
// that was in the stream when the hole was seen, and is then made visible at once.
type intake struct {
	store *Store
	last  uint64 // sequence of the record before
	left  uint64 // records to come until nothing is missing
	held  []followed
}

// followed is a record that is ready to be made visible.
type followed struct {
	seq   uint64
	apply func() []Event // nil for a record of the writers' own
	res   messages.Resource
}

func (f *intake) take(r raw) (last bool, err error) {
	if err := f.store.hear(); err != nil {
		return false, err
	}
	if r.seq <= f.last {
		return false, nil
	}
	if f.left > 0 {
		f.left--
	}
	if r.seq > f.last+1 {
		f.left = max(f.left, r.pending)
	}
	if r.pending == 0 {
		f.left = 0
	}
	f.last = r.seq
	record, err := f.store.decodeFollowed(r)
	if err != nil {
		return false, err
	}
	if f.held = append(f.held, record); f.left == 0 {
		f.release()
	}
	return false, nil
}

func (f *intake) release() {
	f.store.advance(f.held)
	clear(f.held)
	f.held = f.held[:0]
}

// paused makes visible what is held back if nothing more is to come: what was still to come when it was
// counted may have been written over since.
func (f *intake) paused(ctx context.Context) error {
	if err := f.store.hear(); err != nil {
		return err
	}
	if len(f.held) == 0 {
		return nil
	}
	ctx, cancel := f.store.attempt(ctx)
	defer cancel()
	newest, err := f.store.newestRecord(ctx)
	if err != nil || newest > f.last {
		return nil // it comes, or the next pause tells
	}
	f.left = 0
	f.release()
	return nil
}

// decodeFollowed makes one record of another member ready.
func (s *Store) decodeFollowed(r raw) (followed, error) {
	_, key, err := messages.ParseStateSubject(r.subject)
	if err != nil {
		return followed{seq: r.seq}, s.followKeys(r)
	}
	obj, sum, data, expires, err := s.decodeRaw(key, r)
	if err != nil {
		return followed{}, fmt.Errorf("%s at revision %d: %w: %w", key, r.seq, err, messages.ErrInvalid)
	}
	deleted := r.header.Get(kvOperation) == kvPurge
	return followed{r.seq, func() []Event {
		tab := s.tableLocked(key.Resource)
		if deleted {
			delete(s.stale, key)
			return s.followDelete(tab, key, r.seq, obj, len(data))
		}
		s.noteSeal(key, r.header.Get(messages.HeaderSealed))
		return s.followPut(tab, key, Entry{Object: obj, Rev: r.seq, Sum: sum, Size: len(data), Expires: expires})
	}, key.Resource}, nil
}

// followKeys takes over sealing keys that another member has changed.
func (s *Store) followKeys(r raw) error {
	if !s.shares() || r.subject != messages.StateRecord(s.cfg.Bucket, keysRecord) {
		return nil
	}
	ring, err := s.unwrapKeys(r.data)
	if err != nil {
		return err
	}
	s.seals.changing.Lock()
	defer s.seals.changing.Unlock()
	return s.adopt(ring)
}

// decodeRaw returns what a record holds; for a deletion the last object, if it is known.
func (s *Store) decodeRaw(key messages.Key, r raw) (obj objects.Object, sum Sum, data []byte, expires int64, err error) {
	if err = checkFormat(r.header); err != nil {
		return nil, sum, nil, 0, err
	}
	if data, err = s.unseal(key, r.data, r.header.Get(messages.HeaderSealed)); err != nil {
		return nil, sum, nil, 0, err
	}
	if len(data) == 0 && r.header.Get(kvOperation) == kvPurge {
		return nil, sum, nil, 0, nil
	}
	if obj, err = s.table(key.Resource).decode(data, r.seq); err != nil {
		return nil, sum, nil, 0, err
	}
	if v := r.header.Get(messages.HeaderExpires); v != "" {
		if expires, err = strconv.ParseInt(v, 10, 64); err != nil {
			return nil, sum, nil, 0, err
		}
	}
	return obj, SumOf(data), data, expires, nil
}

// followDelete removes an object. A follower may have missed that it was ever created, since the
// stream keeps the newest record of a key only; a watcher that heard of it elsewhere must still hear
// of its end. The caller holds the lock.
func (s *Store) followDelete(tab *table, key messages.Key, rev uint64, last objects.Object, size int) []Event {
	have := tab.rows[name{key.Namespace, key.Name}]
	if have != nil {
		s.markRemove(key, have.Rev)
	}
	old := tab.remove(key)
	if old == nil {
		old = last
	}
	e := Event{Change: objects.Change{Key: key, Rev: rev, Old: old}, size: size}
	if last == nil && old != nil {
		last = WithRevision(old, rev)
	}
	e.Last = last
	if old == nil {
		return nil
	}
	s.record(tab, e)
	return []Event{e}
}

// followPut stores an object. When it is another than the one of that name before, a deletion was
// missed. The caller holds the lock.
func (s *Store) followPut(tab *table, key messages.Key, e Entry) []Event {
	var events []Event
	if have := tab.rows[name{key.Namespace, key.Name}]; have != nil {
		s.markRemove(key, have.Rev)
		if have.Object.GetUID() != e.Object.GetUID() {
			// The revision before this one is free: the deletion had one of those in between.
			gone := Event{Change: objects.Change{Key: key, Rev: e.Rev - 1, Old: tab.remove(key)}, size: have.Size}
			gone.Last = WithRevision(gone.Old, e.Rev-1)
			s.record(tab, gone)
			events = append(events, gone)
		}
	}
	put := Event{Change: objects.Change{Key: key, Rev: e.Rev, New: e.Object}, size: e.Size}
	put.Old = tab.put(key, e)
	s.markPut(key, e.Rev)
	s.record(tab, put)
	return append(events, put)
}

// advance makes records visible, all at once, and tells whoever waits for them.
func (s *Store) advance(records []followed) {
	var events []Event
	touched := map[*table]struct{}{}
	s.mu.Lock()
	for _, r := range records {
		if r.apply != nil {
			events = append(events, r.apply()...)
			touched[s.tableLocked(r.res)] = struct{}{}
		}
	}
	if rev := records[len(records)-1].seq; rev != s.rev+uint64(len(records)) {
		s.blurred = rev
	}
	s.rev = records[len(records)-1].seq
	s.wake()
	s.mu.Unlock()
	if s.mark != nil {
		c := s.mark.content
		c.seq = records[len(records)-1].seq
		if err := s.mark.set(c); err != nil {
			s.log.Warn("mark not moved", "rev", c.seq, "err", err)
		}
	}
	for tab := range touched {
		tab.log.notify()
	}
	s.feed.offer(events)
}

func (s *Store) markPut(key messages.Key, rev uint64) {
	if s.mark != nil {
		s.mark.put(key, rev)
	}
}

func (s *Store) markRemove(key messages.Key, rev uint64) {
	if s.mark != nil {
		s.mark.remove(key, rev)
	}
}

// wake tells those who wait for a revision. The caller holds the lock.
func (s *Store) wake() {
	if s.advanced != nil {
		close(s.advanced)
		s.advanced = nil
	}
}

// WaitFor returns when memory has revision rev.
func (s *Store) WaitFor(ctx context.Context, rev uint64) error {
	for {
		s.mu.Lock()
		if s.rev >= rev {
			s.mu.Unlock()
			return nil
		}
		if s.advanced == nil {
			s.advanced = make(chan struct{})
		}
		advanced := s.advanced
		s.mu.Unlock()
		select {
		case <-advanced:
		case <-ctx.Done():
			return fmt.Errorf("wait for revision %d: %w", rev, ctx.Err())
		}
	}
}
