package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/troupe-run/troupe/messages"
)

// The pause between attempts to reach a stream that does not answer.
const (
	firstPause = 20 * time.Millisecond
	longPause  = time.Second
)

// recover finds out what became of msgs, which were published after base and not all acknowledged,
// and returns how many of them landed: always the first ones, since each expects its predecessor.
//
// A barrier settles it: once a record without expectation has a sequence, no message that floats
// about can land any more, and what did is read back by sequence. The wait for the barrier has no
// end but ctx's, because until then nobody can know.
func (w *writer) recover(ctx context.Context, base uint64, msgs []*nats.Msg) (landed int, err error) {
	barrier, err := w.barrier(ctx)
	if err != nil {
		return 0, err
	}
	defer w.store.stalled.Store(nil)
	if err := w.checkEpoch(ctx); err != nil {
		return 0, err
	}
	for i, m := range msgs {
		seq := base + uint64(i) + 1
		if seq >= barrier {
			break
		}
		ours, err := w.isAt(ctx, seq, m.Header.Get(messages.HeaderWriter))
		if err != nil {
			return 0, err
		}
		if ours {
			landed = i + 1
		}
	}
	w.last = barrier
	return landed, nil
}

func (w *writer) barrier(ctx context.Context) (uint64, error) {
	pause := firstPause
	for {
		seq, err := w.mark(ctx, barrierRecord)
		if err == nil {
			return seq, nil
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("bucket is closed: %w", messages.ErrUnavailable)
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

// checkEpoch returns messages.ErrFenced when another store has taken the bucket over.
func (w *writer) checkEpoch(ctx context.Context) error {
	pause := firstPause
	subject := messages.StateRecord(w.store.cfg.Bucket, epochRecord)
	for {
		m, err := w.store.stream.GetLastMsgForSubject(ctx, subject)
		switch {
		case err == nil && m.Header.Get(messages.HeaderWriter) == w.op(1):
			return nil
		case err == nil || errors.Is(err, jetstream.ErrMsgNotFound):
			return fmt.Errorf("bucket %s: %w", w.store.cfg.Bucket, messages.ErrFenced)
		}
		if err := w.pause(ctx, &pause); err != nil {
			return err
		}
	}
}

// isAt says whether the message at seq carries the op-id.
func (w *writer) isAt(ctx context.Context, seq uint64, op string) (bool, error) {
	pause := firstPause
	for {
		m, err := w.store.stream.GetMsg(ctx, seq)
		switch {
		case err == nil:
			return m.Header.Get(messages.HeaderWriter) == op, nil
		case errors.Is(err, jetstream.ErrMsgNotFound):
			return false, nil
		}
		if err := w.pause(ctx, &pause); err != nil {
			return false, err
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
