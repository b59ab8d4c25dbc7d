package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/troupe-run/troupe/messages"
)

// roundWait bounds one round of asking the leader; whoever still waits then joins the next one.
const roundWait = 15 * time.Second

// rounds lets all reads that wait share a question to the leader: those that come while one is under
// way share the next one, for only what is asked after a read has begun says what it must see.
type rounds struct {
	mu      sync.Mutex
	next    *round
	running bool
}

type round struct {
	done chan struct{}
	err  error
}

// Consistent returns when memory holds everything that was written by anybody before the call, so
// that a read that follows is linearizable. In a bucket that is not shared that is always so.
func (s *Store) Consistent(ctx context.Context) error {
	if !s.cfg.Shared {
		return nil
	}
	if s.role.leading() != nil && s.cfg.Leased() {
		return nil
	}
	for {
		r := s.role.reads.join(func() error { return s.sync(s.life) })
		select {
		case <-r.done:
			if r.err == nil {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("consistent read: no member leads: %w: %w", ctx.Err(), messages.ErrUnavailable)
		}
		if s.life.Err() != nil {
			return fmt.Errorf("consistent read: bucket is closed: %w", messages.ErrUnavailable)
		}
	}
}

// join returns the round that begins next; sync does the asking of each.
func (q *rounds) join(sync func() error) *round {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next == nil {
		q.next = &round{done: make(chan struct{})}
	}
	if !q.running {
		q.running = true
		go q.run(sync)
	}
	return q.next
}

func (q *rounds) run(sync func() error) {
	for {
		q.mu.Lock()
		r := q.next
		q.next = nil
		q.running = r != nil
		q.mu.Unlock()
		if r == nil {
			return
		}
		r.err = sync()
		close(r.done)
	}
}

// sync brings memory up to what the leader had when it was asked.
func (s *Store) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, roundWait)
	defer cancel()
	wait := firstPause
	for {
		err := s.syncOnce(ctx)
		if err == nil || ctx.Err() != nil || !errors.Is(err, errElsewhere) && !errors.Is(err, errUnsure) {
			return err
		}
		if !s.wait(ctx, &wait) {
			return ctx.Err()
		}
	}
}

func (s *Store) syncOnce(ctx context.Context) error {
	if lead := s.role.leading(); lead != nil {
		if s.cfg.Leased() {
			return nil
		}
		return lead.writer.confirm(ctx)
	}
	for _, question := range []wireRead{{}, {Write: true}} {
		reply, err := s.ask(ctx, messages.StateReads(s.cfg.Bus.Region(), s.cfg.Bucket), question)
		if err != nil {
			return err
		}
		if err := reply.err(); err != nil {
			return err
		}
		patience, cancel := context.WithTimeout(ctx, catchUpWait)
		err = s.WaitFor(patience, reply.At)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	return errUnsure
}

// catchUpWait is how long a follower normally needs at most to get a record that was written.
const catchUpWait = 2 * time.Second

// wireRead asks the leader how far it is.
type wireRead struct {
	// Write makes it write something first: the record at its newest revision may have been a deletion,
	// which is forgotten after a time, so that no follower ever gets there.
	Write bool `json:"write,omitempty"`
}

// serveRead tells another member how far it must have read.
func (s *Store) serveRead(m *nats.Msg) {
	go func() {
		ctx, cancel := context.WithTimeout(s.life, answerWait)
		defer cancel()
		var question wireRead
		lead, err := s.role.leading(), json.Unmarshal(m.Data, &question)
		switch {
		case err != nil:
			s.answer(m, wireReply{}, fmt.Errorf("read question: %w: %w", err, messages.ErrInvalid))
		case lead == nil:
			s.answer(m, wireReply{}, errElsewhere)
		case s.cfg.Leased() && !question.Write:
			s.answer(m, wireReply{}, nil)
		default:
			s.answer(m, wireReply{}, lead.writer.confirm(ctx))
		}
	}()
}
