package state

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/troupe-run/troupe/messages"
)

// The pause between attempts to reach a stream that does not answer.
const (
	firstPause = 20 * time.Millisecond
	longPause  = time.Second
	// electionWait is how long the servers of several members may take to agree on which of them leads
	// the stream: writes are held until then, and refused at once afterwards.
	electionWait = 10 * time.Second
)

// fate is what became of a message that was not acknowledged.
type fate int

const (
	lost   fate = iota // it is not in the bucket, and will never be
	landed             // it is where it was to be
	unsure             // its place is empty: it was lost, or was written over since
)

// recover finds out what became of msgs, which were published after base and not all acknowledged.
//
// A barrier settles it: once a record without expectation has a sequence, nothing that floats about can land
// any more, since all of it expects base, and what did is read back. The wait for the barrier has no end but
// ctx's, because until then nobody can know.
//
// When another store has taken the bucket over the error wraps messages.ErrFenced. What the other one
// has written since may have replaced some of msgs.
func (w *writer) recover(ctx context.Context, base uint64, msgs []*nats.Msg) ([]fate, error) {
	barrier, err := w.barrier(ctx)
	if err != nil {
		return nil, err
	}
	defer w.store.stalled.Store(nil)
	found, fenced, err := w.readBack(ctx, base+1, barrier)
	if err != nil {
		return nil, err
	}
	fates := make([]fate, len(msgs))
	for i, m := range msgs {
		switch writer, there := found[base+uint64(i)+1]; {
		case writer == m.Header.Get(messages.HeaderWriter):
			fates[i] = landed
		case !there && fenced:
			fates[i] = unsure
		}
	}
	if fenced {
		return fates, fmt.Errorf("bucket %s: %w", w.store.cfg.Bucket, messages.ErrFenced)
	}
	w.last = barrier
	return fates, nil
}

// fateOf is what became of a transaction, whose messages happen all or none, and have the fates given.
func fateOf(fates []fate) fate {
	switch {
	case slices.Contains(fates, landed):
		return landed
	case slices.Contains(fates, unsure):
		return unsure
	}
	return lost
}

func (w *writer) barrier(ctx context.Context) (uint64, error) {
	pause := firstPause
	begun := w.store.cfg.Clock.Now()
	for {
		seq, err := w.mark(ctx, barrierRecord)
		if err == nil {
			return seq, nil
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("bucket is closed: %w", messages.ErrUnavailable)
		}
		if w.store.cfg.Shared && w.store.cfg.Clock.Since(begun) < electionWait {
			if err := w.pause(ctx, &pause); err != nil {
				return 0, err
			}
			continue
		}
		stalled := fmt.Errorf("bucket %s takes no writes: %w: %w", w.store.cfg.Bucket, err, messages.ErrUnavailable)
		if w.store.stalled.Swap(&stalled) == nil {
			w.store.log.Error("bucket takes no writes", "err", err)
		}
		if err := w.pause(ctx, &pause); err != nil {
			return 0, err
		}
	}
}

// readBack returns the writers of the records from sequence first up to the barrier, and whether
// another store has taken the bucket over among them. Whichever server it reads from, one that shows
// the barrier shows what was before it.
func (w *writer) readBack(ctx context.Context, first, barrier uint64) (found map[uint64]string, fenced bool, err error) {
	epoch := messages.StateRecord(w.store.cfg.Bucket, epochRecord)
	found = make(map[uint64]string)
	pause := firstPause
	for {
		clear(found)
		err := w.store.readUntil(ctx, first, func(r raw) (bool, error) {
			found[r.seq] = r.header.Get(messages.HeaderWriter)
			fenced = fenced || r.subject == epoch
			return r.seq >= barrier, nil
		})
		if err == nil {
			return found, fenced, nil
		}
		if err := w.pause(ctx, &pause); err != nil {
			return nil, false, err
		}
	}
}

// pause waits and doubles the next wait; it fails when ctx ends.
func (w *writer) pause(ctx context.Context, d *time.Duration) error {
	t := w.store.cfg.Clock.NewTimer(*d)
	defer t.Stop()
	*d = min(2**d, longPause)
	select {
	case <-t.C():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("bucket is closed: %w", messages.ErrUnavailable)
	}
}
