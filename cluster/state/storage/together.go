package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"k8s.io/apiserver/pkg/storage"

	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// errWithdrawn is what a write gets when another one of its transaction has failed.
var errWithdrawn = errors.New("another write of the same transaction failed")

// meeting is one transaction: its writes come to it from as many goroutines, each after its own
// admission and validation, and the last one to come commits them all.
type meeting struct {
	mu      sync.Mutex
	missing int
	store   *state.Store
	ops     []state.Op
	over    bool // committed, being committed, or given up
	done    chan struct{}

	// Set before done is closed.
	rev uint64
	err error
}

// seat is the place of one write in a meeting.
type seat struct {
	meeting *meeting
	taken   bool // used by one goroutine only
}

type seatKey struct{}

// together says whether a context's write is part of a transaction.
func together(ctx context.Context) bool { return ctx.Value(seatKey{}) != nil }

// All runs functions that write one object each, through any Storage of one store, and makes one
// commit of their writes: all happen or none does. Each is given a context that its write has to be
// made with. The error is the first one's that failed by itself.
func All(ctx context.Context, writes ...func(context.Context) error) error {
	m := &meeting{missing: len(writes), done: make(chan struct{})}
	errs := make([]error, len(writes))
	var running sync.WaitGroup
	for i, write := range writes {
		running.Go(func() {
			s := &seat{meeting: m}
			errs[i] = write(context.WithValue(ctx, seatKey{}, s))
			switch {
			case s.taken:
			case errs[i] != nil:
				m.giveUp(errWithdrawn)
			default:
				_, errs[i] = m.come(ctx, nil, nil) // it had nothing to write
			}
		})
	}
	running.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, errWithdrawn) {
			return err
		}
	}
	return errors.Join(errs...)
}

// commit writes op, on its own or as a part of its context's transaction.
func (s *Storage) commit(ctx context.Context, op state.Op) (uint64, error) {
	at, ok := ctx.Value(seatKey{}).(*seat)
	if !ok {
		return s.cfg.Store.Commit(ctx, op)
	}
	if at.taken {
		return 0, storage.NewInternalError(fmt.Errorf("%s: a transaction takes one write from each of its functions", op.Key))
	}
	at.taken = true
	return at.meeting.come(ctx, s.cfg.Store, &op)
}

// come adds a write, waits for the others, and returns the revision of its own.
func (m *meeting) come(ctx context.Context, store *state.Store, op *state.Op) (uint64, error) {
	m.mu.Lock()
	if m.over {
		m.mu.Unlock()
		<-m.done
		return 0, errWithdrawn
	}
	place := len(m.ops)
	if op != nil {
		if m.store == nil {
			m.store = store
		}
		if m.store != store {
			m.mu.Unlock()
			err := fmt.Errorf("%s is in another bucket than the rest of its transaction: %w", op.Key, messages.ErrInvalid)
			m.giveUp(errWithdrawn)
			return 0, err
		}
		m.ops = append(m.ops, *op)
	}
	if m.missing--; m.missing == 0 {
		m.over = true
		m.mu.Unlock()
		if len(m.ops) > 0 {
			m.rev, m.err = m.store.Commit(ctx, m.ops...)
		}
		close(m.done)
	} else {
		m.mu.Unlock()
		select {
		case <-m.done:
		case <-ctx.Done():
			m.giveUp(ctx.Err())
			<-m.done // it may be being committed
		}
	}
	if m.err != nil || op == nil || op.Check {
		return 0, m.err
	}
	rev := m.rev
	for i := range m.ops[place+1:] {
		if !m.ops[place+1+i].Check {
			rev--
		}
	}
	return rev, nil
}

// giveUp ends a transaction that is not being committed yet.
func (m *meeting) giveUp(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.over {
		m.over, m.err = true, err
		close(m.done)
	}
}
