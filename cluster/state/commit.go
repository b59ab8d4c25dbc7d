package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// Op is one change of one key, or with Check only the expectation that nobody else has changed it.
type Op struct {
	Key messages.Key
	// Check writes nothing; the other operations of the commit happen only if Expect holds.
	Check bool
	// Expect is the revision the key must have; 0 means that it must not exist.
	Expect uint64
	// Object is what to store; nil deletes. It must have no resourceVersion and belongs to the
	// store from now on, which sets the resourceVersion once the write is on disk.
	Object objects.Object
	// Data is Object as Encode returned it; the last object's encoding on deletion (nil lets the
	// store encode it).
	Data []byte
	// TTL is how long the object lives; zero means the bucket's TTL.
	TTL time.Duration
	// User is on whose behalf the write is done, for whoever looks back; it may be empty.
	User string

	body  []byte // Data as it is published: sealed or not
	seal  string // the key's id when it is
	until int64  // when the object ends, instead of by TTL
}

func (o *Op) verb() string {
	switch {
	case o.Check:
		return "check"
	case o.Object == nil:
		return messages.VerbDelete
	case o.Expect == 0:
		return messages.VerbCreate
	}
	return messages.VerbUpdate
}

// The states of a txn.
const (
	txnQueued int32 = iota
	txnTaken
	txnAbandoned
)

// txn is the operations of one Commit: all or none happen.
type txn struct {
	ops   []Op
	sums  []Sum
	id    string // of a write that may be repeated, or "": see opID
	state atomic.Int32
	tries int
	done  chan error // gets one value
	rev   uint64     // of the last operation, valid after done gave nil
}

// writes is how many records a transaction makes.
func (t *txn) writes() int {
	n := 0
	for i := range t.ops {
		if !t.ops[i].Check {
			n++
		}
	}
	return n
}

// Commit applies ops, all or none, and returns the revision of the last one when they are on disk
// and visible to readers. Errors wrap messages.ErrExists, ErrNotFound or ErrConflict when an
// expectation does not hold, ErrTooLarge, ErrFenced, or ErrUnavailable. When ctx ends first the
// outcome is unknown, as with any database.
func (s *Store) Commit(ctx context.Context, ops ...Op) (uint64, error) {
	t := &txn{ops: ops, sums: make([]Sum, len(ops)), done: make(chan error, 1)}
	if err := s.prepare(t); err != nil {
		return 0, err
	}
	if err := s.refusal(ops); err != nil {
		return 0, fmt.Errorf("write %s: %w", ops[0].Key, err)
	}
	if s.cfg.Shared {
		return s.commitShared(ctx, t)
	}
	return s.commitHere(ctx, s.writer, t)
}

// commitHere hands t to the writer and waits for what comes of it.
func (s *Store) commitHere(ctx context.Context, w *writer, t *txn) (uint64, error) {
	if err := w.enqueue(t); err != nil {
		return 0, err
	}
	ops := t.ops
	select {
	case err := <-t.done:
		return t.rev, err
	case <-ctx.Done():
		if t.state.CompareAndSwap(txnQueued, txnAbandoned) {
			return 0, fmt.Errorf("write %s: not begun: %w", ops[0].Key, ctx.Err())
		}
		return 0, fmt.Errorf("write %s: outcome unknown: %w", ops[0].Key, ctx.Err())
	}
}

// refusal says why ops are better refused at once than left to hang, or to fill the disk to its last
// byte. That a node's disk is full must still be written down, and takes little.
func (s *Store) refusal(ops []Op) error {
	if err := s.Healthy(); err != nil {
		return err
	}
	if !slices.ContainsFunc(ops, func(op Op) bool { return op.Key.Resource != messages.Nodes }) {
		return nil
	}
	return s.cfg.Bus.Writable()
}

// prepare does what needs no order, on the caller's goroutine: limits, sums, tombstone bodies.
func (s *Store) prepare(t *txn) error {
	switch {
	case len(t.ops) == 0:
		return fmt.Errorf("commit of nothing: %w", messages.ErrInvalid)
	case len(t.ops) > maxBatch:
		return fmt.Errorf("commit of %d operations, at most %d: %w", len(t.ops), maxBatch, messages.ErrTooLarge)
	case len(t.ops) > 1 && s.cfg.Async:
		return fmt.Errorf("bucket %s has no transactions: %w", s.cfg.Bucket, messages.ErrInvalid)
	}
	var errs []error
	keys := make(map[messages.Key]bool, len(t.ops))
	for i := range t.ops {
		op := &t.ops[i]
		if keys[op.Key] {
			errs = append(errs, fmt.Errorf("%s twice in a commit: %w", op.Key, messages.ErrInvalid))
		}
		keys[op.Key] = true
		if op.Check {
			continue
		}
		if err := s.fillTombstone(op); err != nil {
			return err
		}
		if len(op.Data) > s.cfg.MaxValue {
			errs = append(errs, fmt.Errorf("%s is %d bytes, at most %d: %w", op.Key, len(op.Data), s.cfg.MaxValue, messages.ErrTooLarge))
		}
		if op.Object != nil {
			t.sums[i] = SumOf(op.Data)
		}
		op.body, op.seal = s.seals.seal(op.Key, op.Data)
	}
	return errors.Join(errs...)
}

// fillTombstone gives a deletion the encoding of the object it deletes.
func (s *Store) fillTombstone(op *Op) error {
	if op.Object != nil || op.Data != nil {
		return nil
	}
	e, _, ok := s.Lookup(op.Key)
	if !ok {
		return nil
	}
	data, err := s.Encode(op.Key.Resource, WithRevision(e.Object, 0))
	op.Data = data
	return err
}

// check says whether the expectations of a transaction hold now.
func (s *Store) check(t *txn) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := range t.ops {
		op := &t.ops[i]
		var have uint64
		if tab := s.tables[op.Key.Resource]; tab != nil {
			if row := tab.rows[name{op.Key.Namespace, op.Key.Name}]; row != nil {
				have = row.Rev
			}
		}
		switch {
		case have == op.Expect && (have != 0 || op.Object != nil || op.Check):
		case op.Expect == 0 && (op.Object != nil || op.Check):
			return fmt.Errorf("%s %s: %w", op.verb(), op.Key, messages.ErrExists)
		case have == 0:
			return fmt.Errorf("%s %s: %w", op.verb(), op.Key, messages.ErrNotFound)
		default:
			return fmt.Errorf("%s %s at revision %d, it is at %d: %w", op.verb(), op.Key, op.Expect, have, messages.ErrConflict)
		}
	}
	return nil
}

// apply makes a group of transactions visible whose operations landed at base+1, base+2, and so
// on, and tells watchers, followers and the change stream.
func (s *Store) apply(group []*txn, base uint64, now time.Time) {
	var events []Event
	touched := map[*table]struct{}{}
	var changes []change
	rev := base
	s.mu.Lock()
	for _, t := range group {
		for i := range t.ops {
			op := &t.ops[i]
			if op.Check {
				continue
			}
			rev++
			tab := s.tableLocked(op.Key.Resource)
			e := Event{Change: objects.Change{Key: op.Key, Rev: rev, New: op.Object}, size: len(op.Data)}
			if op.Object != nil {
				setRevision(op.Object, rev)
				entry := Entry{Object: op.Object, Rev: rev, Sum: t.sums[i], Size: len(op.Data), Expires: s.endOf(op, now)}
				e.Old = tab.put(op.Key, entry)
				s.schedule(op.Key, entry.Expires)
				s.noteSeal(op.Key, op.seal)
			} else if e.Old = tab.remove(op.Key); e.Old != nil {
				e.Last = WithRevision(e.Old, rev)
				delete(s.stale, op.Key)
			}
			s.record(tab, e)
			touched[tab] = struct{}{}
			events = append(events, e)
			if s.changes != nil {
				obj := e.New
				if obj == nil {
					obj = e.Old
				}
				changes = append(changes, change{key: op.Key, rev: rev, data: op.body, verb: op.verb(), seal: op.seal, user: op.User, obj: obj})
			}
		}
		t.rev = rev
	}
	s.rev = rev
	s.wake()
	s.mu.Unlock()
	for tab := range touched {
		tab.log.notify()
	}
	s.feed.offer(events)
	if s.changes != nil {
		s.changes.offer(changes)
	}
	for _, t := range group {
		t.done <- nil
	}
}
