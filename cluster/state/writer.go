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

	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/messages"
)

const (
	// batchFrom is the number of queued operations from which an atomic batch (one fsync for
	// all, but four for its own files) is cheaper than a publish (one fsync) each, and
	// stagedBatchFrom the same where the batch's files are in memory.
	batchFrom       = 10
	stagedBatchFrom = 3
	// ackTimeout is when a missing acknowledgement is taken for lost.
	ackTimeout = 10 * time.Second
	// sharedAckTimeout is the same where another member's server may answer instead.
	sharedAckTimeout = 2 * time.Second
	// maxTries is how often an operation is tried that the server refused or lost.
	maxTries = 3
)

// writer owns the bucket's order of writes. One goroutine takes what callers have queued, checks
// it against memory, publishes it as one group and applies it when the server says it is on disk;
// meanwhile the next group queues up. Groups never overlap, so memory is always the exact state
// that the checks need.
type writer struct {
	store *Store
	id    string // of this writer's records
	inbox string
	acks  chan *nats.Msg
	sub   *nats.Subscription
	// staging is nil where it is not ours to say where batches are staged.
	staging *bus.Staging

	mu     sync.Mutex
	queue  []*txn
	asking []chan error // who wants to know whether this store still leads
	err    error        // why no more writes are taken
	signal chan struct{}
	idle   chan struct{} // made by drain, closed when the queue is empty
	ended  bool

	// Owned by the goroutine of run.
	last   uint64 // sequence of the stream's last message
	number uint64 // of the last write, for op-ids
	window uint64 // of the last group, so that late acknowledgements are told apart
}

func newWriter(s *Store) *writer {
	w := &writer{store: s, id: nuid.Next(), inbox: s.nc.NewInbox(), acks: make(chan *nats.Msg, 4*maxWindow), signal: make(chan struct{}, 1)}
	if !s.cfg.Async {
		w.staging = s.cfg.Bus.Staging(s.streamName())
	}
	return w
}

func (w *writer) enqueue(t *txn) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return fmt.Errorf("write %s: %w", t.ops[0].Key, w.err)
	}
	w.queue = append(w.queue, t)
	w.wake()
	return nil
}

func (w *writer) wake() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// drain refuses new writes, with the error why, and waits for those that were accepted.
func (w *writer) drain(ctx context.Context, why error) error {
	w.mu.Lock()
	if w.err == nil {
		w.err = why
	}
	idle := make(chan struct{})
	if w.ended {
		close(idle)
	} else {
		w.idle = idle
		w.wake()
	}
	w.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *writer) run(ctx context.Context) {
	clock := w.store.cfg.Clock
	for {
		due, next := w.store.expired(clock.Now(), maxBatch)
		if len(due) > 0 {
			w.requeue(due)
		}
		// Whoever asked before a publish is answered by its acknowledgement.
		asking := w.takeAsking()
		if group := w.take(); len(group) > 0 || len(asking) > 0 {
			err := w.commit(ctx, group)
			for _, ask := range asking {
				ask <- err
			}
			if err != nil {
				w.fail(err)
				return
			}
			continue
		}
		var timer <-chan time.Time
		stop := func() bool { return true }
		if next > 0 {
			t := clock.NewTimer(next)
			timer, stop = t.C(), t.Stop
		}
		select {
		case <-ctx.Done():
		case <-w.signal:
		case <-timer:
		}
		stop()
		if ctx.Err() != nil {
			w.fail(w.ending())
			return
		}
	}
}

// take removes the next group from the queue: transactions in order, of distinct keys, whose
// expectations hold. The others of those it meets are answered, or wait for the group after.
func (w *writer) take() []*txn {
	w.mu.Lock()
	queue := w.queue
	w.queue = nil
	if len(queue) == 0 && w.idle != nil {
		close(w.idle)
		w.idle = nil
	}
	w.mu.Unlock()

	var group, rest []*txn
	taken := make(map[messages.Key]bool, min(len(queue), maxBatch))
	ops := 0
	for i, t := range queue {
		if ops+len(t.ops) > w.room() {
			rest = append(rest, queue[i:]...)
			break
		}
		busy := false
		for j := range t.ops {
			busy = busy || taken[t.ops[j].Key]
		}
		if busy {
			rest = append(rest, t)
			continue
		}
		if t.tries == 0 && !t.state.CompareAndSwap(txnQueued, txnTaken) {
			continue
		}
		if err := w.store.check(t); err != nil {
			t.done <- err
			continue
		}
		for j := range t.ops {
			taken[t.ops[j].Key] = true
		}
		ops += len(t.ops)
		group = append(group, t)
	}
	w.requeue(rest)
	return group
}

// requeue puts transactions before those that were queued since.
func (w *writer) requeue(ts []*txn) {
	if len(ts) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(ts, w.queue...)
	w.wake()
}

// fail answers all queued transactions with err; no more are taken.
func (w *writer) fail(err error) {
	w.mu.Lock()
	w.err, w.ended = err, true
	group, asking := w.queue, w.asking
	w.queue, w.asking = nil, nil
	if w.idle != nil {
		close(w.idle)
		w.idle = nil
	}
	w.mu.Unlock()
	for _, ask := range asking {
		ask <- err
	}
	refuse(group, err)
}

func refuse(group []*txn, err error) {
	for _, t := range group {
		t.done <- fmt.Errorf("write %s: %w", t.ops[0].Key, err)
	}
}

// ending is why a writer that stops takes no more.
func (w *writer) ending() error {
	if w.store.cfg.Shared {
		return errElsewhere
	}
	return fmt.Errorf("bucket is closed: %w", messages.ErrUnavailable)
}

// room is how many operations one group may have.
func (w *writer) room() int {
	switch {
	case w.store.cfg.Shared && !w.store.batches():
		return 1 // see batchFrom
	case w.store.cfg.Bus.Replicas() > 1:
		return maxWindow
	}
	return maxBatch
}

// confirm returns when it is certain that no other store had taken the bucket over when it was called.
func (w *writer) confirm(ctx context.Context) error {
	ask := make(chan error, 1)
	w.mu.Lock()
	if w.err != nil {
		defer w.mu.Unlock()
		return w.err
	}
	w.asking = append(w.asking, ask)
	w.wake()
	w.mu.Unlock()
	select {
	case err := <-ask:
		return err
	case <-ctx.Done():
		return fmt.Errorf("consistent read: %w: %w", ctx.Err(), messages.ErrUnavailable)
	}
}

func (w *writer) takeAsking() []chan error {
	w.mu.Lock()
	defer w.mu.Unlock()
	asking := w.asking
	w.asking = nil
	return asking
}

// commit publishes one group and settles each of its transactions; without any it publishes a record
// of the store's own. An error is final: this store cannot write any more.
func (w *writer) commit(ctx context.Context, group []*txn) error {
	now := w.store.cfg.Clock.Now()
	msgs, err := w.records(group, now)
	if err != nil {
		refuse(group, err)
		return err
	}
	own := len(group) == 0 || len(msgs) == 0 && w.store.cfg.Shared // checks alone hold only while this store leads
	if own {
		msgs = []*nats.Msg{w.ownRecord(barrierRecord)}
	}
	base := w.last
	atomic := slices.ContainsFunc(group, func(t *txn) bool { return t.writes() > 1 })
	if err = w.publish(ctx, msgs, atomic); err == nil {
		w.last = base + uint64(len(msgs))
		if own {
			base = w.last
		}
		w.store.moveMark(group, base, w.last)
		w.store.apply(group, base, now)
		return nil
	}
	w.store.log.Warn("write not acknowledged, reading back", "rev", base, "count", len(msgs), "err", err)
	fates, recoverErr := w.recover(ctx, base, msgs)
	switch {
	case recoverErr == nil:
		w.settle(group, base, now, fates, err)
		return nil
	case w.store.cfg.Shared && errors.Is(recoverErr, messages.ErrFenced):
		w.giveUp(group, base, now, fates)
		return errElsewhere
	}
	if w.store.cfg.Shared { // this store steps down
		refuse(group, errUnsure)
		return errElsewhere
	}
	w.store.stalled.Store(&recoverErr)
	refuse(group, recoverErr)
	return recoverErr
}

// giveUp settles the last group of a store that was replaced.
func (w *writer) giveUp(group []*txn, base uint64, now time.Time, fates []fate) {
	for _, t := range group {
		n := t.writes()
		switch fateOf(fates[:n]) {
		case landed:
			w.store.moveMark([]*txn{t}, base, base+uint64(n))
			w.store.apply([]*txn{t}, base, now)
		case unsure:
			refuse([]*txn{t}, errUnsure)
		default: // also checks alone, which hold only while this store leads
			refuse([]*txn{t}, errElsewhere)
		}
		fates, base = fates[n:], base+uint64(n)
	}
}

// moveMark moves the mark to what the bucket holds with a group at the sequences after base, and up to
// the sequence last. A mark that cannot be moved protects less, but the writes are good.
func (s *Store) moveMark(group []*txn, base, last uint64) {
	if s.mark == nil {
		return
	}
	c := s.mark.content
	for _, t := range group {
		for i := range t.ops {
			op := &t.ops[i]
			if op.Check {
				continue
			}
			base++
			if op.Expect != 0 {
				c.remove(op.Key, op.Expect)
			}
			if op.Object != nil {
				c.put(op.Key, base)
			}
		}
	}
	c.seq = last
	if err := s.mark.set(c); err != nil {
		s.log.Warn("mark not moved", "rev", last, "err", err)
	}
}

// settle applies the transactions that landed, and tries the others again.
func (w *writer) settle(group []*txn, base uint64, now time.Time, fates []fate, cause error) {
	var again []*txn
	for _, t := range group {
		n := t.writes()
		switch {
		case n == 0 || fateOf(fates[:n]) == landed:
			w.store.moveMark([]*txn{t}, base, base+uint64(n))
			w.store.apply([]*txn{t}, base, now)
		default:
			if t.tries++; t.tries < maxTries {
				again = append(again, t)
			} else {
				t.done <- fmt.Errorf("write %s: %w: %w", t.ops[0].Key, cause, messages.ErrUnavailable)
			}
		}
		fates, base = fates[n:], base+uint64(n)
	}
	w.store.moveMark(nil, w.last, w.last)
	w.requeue(again)
}
