package state

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/troupe-run/troupe/messages"
)

// replay reads the whole bucket up to the epoch record, decoding on all processors. Each key has
// one record, so the order among them does not matter.
func (s *Store) replay(ctx context.Context, epoch uint64) error {
	err := s.decodeAll(ctx, func(ctx context.Context, out chan<- jetstream.Msg) error { return s.read(ctx, epoch, out) })
	if err == nil && s.changes != nil {
		s.changes.catchUp()
	}
	return err
}

// replayShared reads the whole bucket as it is now, and returns the newest record it has seen and the
// sequence that the bucket has been at.
func (s *Store) replayShared(ctx context.Context) (rev, last uint64, err error) {
	attempt, cancel := s.attempt(ctx)
	defer cancel()
	info, err := s.stream.Info(attempt)
	if err != nil {
		return 0, 0, fmt.Errorf("replay: %w", err)
	}
	if last = info.State.LastSeq; info.State.Msgs == 0 {
		return 0, last, nil
	}
	err = s.decodeAll(ctx, func(ctx context.Context, out chan<- jetstream.Msg) error {
		attempt, cancel := s.attempt(ctx)
		defer cancel()
		cons, err := s.js.OrderedConsumer(attempt, s.stream.CachedInfo().Config.Name, jetstream.OrderedConsumerConfig{})
		if err != nil {
			return err
		}
		it, err := cons.Messages(jetstream.PullMaxMessages(5000), jetstream.PullExpiry(5*time.Second), jetstream.PullHeartbeat(time.Second))
		if err != nil {
			return err
		}
		defer it.Stop()
		for {
			m, err := it.Next(jetstream.NextContext(ctx))
			if err != nil {
				return err
			}
			meta, err := m.Metadata()
			if err != nil {
				return err
			}
			rev = meta.Sequence.Stream
			out <- m
			if meta.NumPending == 0 {
				return nil
			}
		}
	})
	return rev, max(rev, last), err
}

// decodeAll takes in what read passes to its channel.
func (s *Store) decodeAll(ctx context.Context, read func(context.Context, chan<- jetstream.Msg) error) error {
	begun := s.cfg.Clock.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	raw := make(chan jetstream.Msg, 4096)
	var decoders sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		decoders.Go(func() {
			for m := range raw {
				if err := s.load(m); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := read(ctx, raw)
	close(raw)
	decoders.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	s.log.Debug("bucket replayed", "took", s.cfg.Clock.Since(begun))
	return nil
}

// read passes every record before the epoch record to out.
func (s *Store) read(ctx context.Context, epoch uint64, out chan<- jetstream.Msg) error {
	cons, err := s.js.OrderedConsumer(ctx, s.stream.CachedInfo().Config.Name, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	it, err := cons.Messages(jetstream.PullMaxMessages(5000))
	if err != nil {
		return err
	}
	defer it.Stop()
	stop := context.AfterFunc(ctx, it.Stop)
	defer stop()
	for {
		m, err := it.Next()
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Stream >= epoch {
			return nil
		}
		out <- m
	}
}

// loadDelete takes in that an object was deleted, perhaps while the bucket was read, so that its record
// was there before, or is still being decoded.
func (s *Store) loadDelete(t *table, key messages.Key, rev uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := t.rows[name{key.Namespace, key.Name}]; have != nil && have.Rev < rev {
		t.remove(key)
	}
	s.deleted[key] = max(s.deleted[key], rev)
}

// load puts one record into its table.
func (s *Store) load(m jetstream.Msg) error {
	_, key, err := messages.ParseStateSubject(m.Subject())
	if err != nil {
		return nil // a record of the store's own
	}
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	rev, h := meta.Sequence.Stream, m.Headers()
	if err := checkFormat(h); err != nil {
		return fmt.Errorf("%s at revision %d: %w", key, rev, err)
	}
	t := s.table(key.Resource)
	if h.Get(kvOperation) == kvPurge {
		if s.cfg.Shared {
			s.loadDelete(t, key, rev)
		}
		if s.changes != nil {
			s.changes.missed(change{key: key, rev: rev, data: m.Data(), header: h})
		}
		return nil
	}
	data, err := s.seals.open(key, m.Data(), h.Get(messages.HeaderSealed))
	if err != nil {
		return fmt.Errorf("%s at revision %d: %w", key, rev, err)
	}
	obj, err := t.decode(data, rev)
	if err != nil {
		return fmt.Errorf("%s at revision %d: %w", key, rev, err)
	}
	e := Entry{Object: obj, Rev: rev, Sum: SumOf(data), Size: len(data)}
	if v := h.Get(messages.HeaderExpires); v != "" {
		if e.Expires, err = strconv.ParseInt(v, 10, 64); err != nil {
			return fmt.Errorf("%s at revision %d: expiry %q: %w", key, rev, v, messages.ErrInvalid)
		}
	}
	if s.changes != nil {
		s.changes.missed(change{key: key, rev: rev, data: m.Data(), header: h})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := t.rows[name{key.Namespace, key.Name}]; have != nil && have.Rev > rev || s.deleted[key] > rev {
		return nil // written again, or deleted, while a bucket that others write was read
	}
	t.put(key, e)
	if !s.cfg.Shared { // a follower does not care, and a leader looks again
		s.schedule(key, e.Expires)
	}
	s.noteSeal(key, h.Get(messages.HeaderSealed))
	return nil
}
