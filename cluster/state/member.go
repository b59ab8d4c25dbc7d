package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/troupe-run/troupe/messages"
)

// A bucket that several members share (Config.Shared) has one leader at a time: its store writes, the
// others follow the stream, pass writes on to it and ask it how far they must have read before they
// answer. Who leads is decided elsewhere, see package member; whoever is told to lead takes the
// bucket over by an epoch record, and from then on the fence refuses what an older leader publishes.

var (
	// errElsewhere says that a write was certainly not done, because this store does not lead.
	errElsewhere = fmt.Errorf("another member leads: %w", messages.ErrFenced)
	// errUnsure says that nobody can tell whether a write was done.
	errUnsure = fmt.Errorf("outcome unknown, the leading member went away: %w", messages.ErrUnavailable)
)

// term is the time in which this store leads.
type term struct {
	writer  *writer
	stop    context.CancelFunc
	done    sync.WaitGroup
	subs    []*nats.Subscription
	deposed chan struct{}
}

// pump is what reads the stream while another member leads.
type pump struct {
	stop context.CancelFunc
	done chan struct{}
}

// role is what this store is in a bucket that members share.
type role struct {
	changing sync.Mutex // held while the role changes

	mu   sync.RWMutex
	term *term // nil while another member leads
	pump *pump
	// heard is when the pump last had contact, or this store led; owned by the pump while there is one.
	heard time.Time

	calls calls
	reads rounds
}

func (r *role) leading() *term {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.term
}

func (r *role) set(t *term) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.term = t
}

// Lead takes the bucket over and returns when this store writes: everything that was written before
// is in memory then. The channel is closed when another store has taken the bucket over in turn, or
// by [Store.StepDown].
func (s *Store) Lead(ctx context.Context) (deposed <-chan struct{}, err error) {
	r := &s.role
	r.changing.Lock()
	defer r.changing.Unlock()
	if t := r.leading(); t != nil {
		return t.deposed, nil
	}
	t := &term{writer: newWriter(s), deposed: make(chan struct{})}
	defer func() {
		if err != nil {
			t.writer.unsubscribe()
			err = fmt.Errorf("lead bucket %s: %w", s.cfg.Bucket, err)
		}
	}()
	patience, cancel := s.attempt(ctx)
	if err := s.cfg.Bus.MoveStream(patience, s.stream.CachedInfo().Config.Name); err != nil {
		s.log.Debug("another server leads the stream", "err", err)
	}
	cancel()
	if s.shares() { // the stream may just be moving
		err := s.offerKeys(ctx)
		for wait := firstPause; err != nil; err = s.offerKeys(ctx) {
			if errors.Is(err, messages.ErrInvalid) || !s.wait(ctx, &wait) {
				return nil, err
			}
		}
	}
	epoch, err := t.writer.takeOver(ctx)
	for wait := firstPause; err != nil; epoch, err = t.writer.takeOver(ctx) {
		if !s.wait(ctx, &wait) {
			return nil, err
		}
	}
	if err := s.WaitFor(ctx, epoch); err != nil {
		return nil, err
	}
	s.stopPump()
	if s.Revision() != epoch {
		s.startPump()
		return nil, errElsewhere // another was quicker still
	}
	s.startTerm(ctx, t, epoch)
	return t.deposed, nil
}

func (s *Store) startTerm(ctx context.Context, t *term, epoch uint64) {
	s.mu.Lock()
	s.epoch = epoch
	s.scheduleAll()
	s.mu.Unlock()
	// The term outlives the call that begins it.
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	t.stop = stop
	s.writer = t.writer
	if s.cfg.Changes != nil {
		changes := &publisher{store: s, signal: make(chan struct{}, 1)}
		s.changes = changes
		t.done.Go(func() { changes.runTerm(run, epoch) })
	}
	ended := make(chan struct{})
	t.done.Go(func() {
		defer close(ended)
		t.writer.run(run)
	})
	go func() { // not one of the term's own: it waits for them
		<-ended
		_ = s.endTerm(context.WithoutCancel(ctx), t, false)
	}()
	s.role.set(t)
	t.done.Go(func() { s.sealing.run(run) })
	for subject, serve := range map[string]nats.MsgHandler{
		messages.StateWrites(s.cfg.Bus.Region(), s.cfg.Bucket): s.serveWrite,
		messages.StateReads(s.cfg.Bus.Region(), s.cfg.Bucket):  s.serveRead,
	} {
		sub, err := s.nc.Subscribe(subject, serve)
		if err != nil {
			s.log.Error("other members cannot reach the writer", "err", err)
			continue
		}
		t.subs = append(t.subs, sub)
	}
	if err := s.nc.FlushTimeout(answerWait); err != nil { // so that the others find this store
		s.log.Debug("other members learn later who writes", "err", err)
	}
	s.log.Info("bucket is led here", "rev", epoch)
}

// StepDown lets accepted writes finish and gives the bucket to whoever leads next; it does nothing on
// a store that does not lead.
func (s *Store) StepDown(ctx context.Context) error {
	t := s.role.leading()
	if t == nil {
		return nil
	}
	return s.endTerm(ctx, t, true)
}

// endTerm makes this store a follower again.
func (s *Store) endTerm(ctx context.Context, t *term, wanted bool) error {
	r := &s.role
	r.changing.Lock()
	defer r.changing.Unlock()
	if r.leading() != t {
		return nil // done already
	}
	r.set(nil)
	for _, sub := range t.subs {
		_ = sub.Unsubscribe() // the connection may be closed
	}
	var err error
	if wanted {
		err = t.writer.drain(ctx, errElsewhere)
		if s.changes != nil && s.changes.working() {
			err = errors.Join(err, s.changes.drain(ctx))
		}
	}
	t.stop()
	t.done.Wait()
	t.writer.unsubscribe()
	s.changes = nil
	s.stalled.Store(nil)
	s.log.Info("bucket is led elsewhere", "rev", s.Revision())
	s.role.heard = s.cfg.Clock.Now()
	s.startPump()
	close(t.deposed)
	return err
}

// scheduleAll notes anew when objects end: a follower does not. The caller holds the lock.
func (s *Store) scheduleAll() {
	s.expiry = nil
	for _, t := range s.tables {
		for _, row := range t.rows {
			s.schedule(row.key, row.Expires)
		}
	}
}

// Leads says whether this store writes the bucket; one that does not share it always does.
func (s *Store) Leads() bool { return !s.cfg.Shared || s.role.leading() != nil }

// Shared says whether other stores may write the bucket, too.
func (s *Store) Shared() bool { return s.cfg.Shared }

// commitShared commits t here or with the member that leads, and outlasts the time in which none does
// until ctx ends.
func (s *Store) commitShared(ctx context.Context, t *txn) (uint64, error) {
	t.id = nuid.Next()
	wait := firstPause
	repeated := false
	for {
		var rev uint64
		var err error
		if lead := s.role.leading(); lead != nil {
			rev, err = s.commitOnce(ctx, lead.writer, t.again(), repeated)
		} else {
			rev, err = s.forward(ctx, t, repeated)
		}
		switch {
		case errors.Is(err, errUnsure):
			repeated = true
		case !errors.Is(err, errElsewhere):
			return rev, err
		}
		if s.life.Err() != nil {
			return 0, fmt.Errorf("write %s: bucket is closed: %w", t.ops[0].Key, messages.ErrUnavailable)
		}
		if !s.wait(ctx, &wait) {
			why := "no member leads"
			if repeated {
				why = "outcome unknown, no member leads"
			}
			return 0, fmt.Errorf("write %s: %s: %w: %w", t.ops[0].Key, why, ctx.Err(), messages.ErrUnavailable)
		}
	}
}

// landedAt tells the objects of a transaction, the last of which has revision rev, what theirs are.
func (t *txn) landedAt(rev uint64) {
	rev -= uint64(t.writes())
	for i := range t.ops {
		if t.ops[i].Check {
			continue
		}
		if rev++; t.ops[i].Object != nil {
			setRevision(t.ops[i].Object, rev)
		}
	}
}

// again is the same transaction for another attempt.
func (t *txn) again() *txn {
	return &txn{id: t.id, ops: slices.Clone(t.ops), sums: t.sums, done: make(chan error, 1)}
}

// wait pauses and doubles the next pause, up to a tenth of a second; false says that ctx ended.
func (s *Store) wait(ctx context.Context, d *time.Duration) bool {
	t := s.cfg.Clock.NewTimer(*d)
	defer t.Stop()
	*d = min(2**d, 100*time.Millisecond)
	select {
	case <-t.C():
		return true
	case <-ctx.Done():
		return false
	}
}

// commitOnce commits t here. A repeated one may have landed before, under this leader or an earlier
// one: then its record is found by its id, or nobody can tell any more.
func (s *Store) commitOnce(ctx context.Context, w *writer, t *txn, repeated bool) (uint64, error) {
	if first := slices.IndexFunc(t.ops, func(op Op) bool { return !op.Check }); repeated && first >= 0 {
		subject := messages.StateSubject(s.cfg.Bucket, t.ops[first].Key)
		if m, err := s.stream.GetLastMsgForSubject(ctx, subject); err == nil && m.Header.Get(messages.HeaderWriter) == t.opID(first) {
			rev := m.Sequence + uint64(t.writes()) - 1
			t.landedAt(rev)
			return rev, s.WaitFor(ctx, rev)
		}
	}
	rev, err := s.commitHere(ctx, w, t)
	if repeated && stale(err) {
		return 0, fmt.Errorf("write %s: %w", t.ops[0].Key, errUnsureForGood)
	}
	return rev, err
}

// errUnsureForGood is errUnsure of a write that shall not be tried again.
var errUnsureForGood = fmt.Errorf("outcome unknown, the leading member went away: %w", messages.ErrUnavailable)

// stale says that the expectations of a write do not hold.
func stale(err error) bool {
	return errors.Is(err, messages.ErrConflict) || errors.Is(err, messages.ErrExists) || errors.Is(err, messages.ErrNotFound)
}
