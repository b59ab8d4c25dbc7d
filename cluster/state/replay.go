package state

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/troupe-run/troupe/messages"
)

// replay reads the whole bucket up to the epoch record, decoding on all processors. Each key has
// one record, so the order among them does not matter.
func (s *Store) replay(ctx context.Context, epoch uint64) error {
	err := s.decodeAll(ctx, func(ctx context.Context, out chan<- raw) error { return s.read(ctx, epoch, out) })
	if err == nil && s.changes != nil {
		s.changes.catchUp()
	}
	return err
}

// replayShared reads the whole bucket as it is now, and returns the newest record it has seen and the
// sequence that the bucket has been at.
//
// The server that is read from may be one that has just been started and lags behind the others. So the
// one that leads is asked for the newest record first, and what ends before that one is not the whole.
func (s *Store) replayShared(ctx context.Context) (rev, last uint64, err error) {
	attempt, cancel := s.attempt(ctx)
	defer cancel()
	info, err := s.stream.Info(attempt)
	if err != nil {
		return 0, 0, fmt.Errorf("replay: %w", err)
	}
	last = info.State.LastSeq
	newest, err := s.newestRecord(attempt)
	if err != nil {
		return 0, 0, fmt.Errorf("replay: %w", err)
	}
	if newest == 0 {
		return 0, last, nil
	}
	err = s.decodeAll(ctx, func(ctx context.Context, out chan<- raw) error {
		return s.readUntil(ctx, 1, func(r raw) (bool, error) {
			rev = r.seq
			out <- r
			return rev >= newest && r.pending == 0, nil
		})
	})
	return rev, max(rev, last), err
}

// newestRecord is the sequence of the newest record at the server that leads the stream, 0 when it has none.
func (s *Store) newestRecord(ctx context.Context) (uint64, error) {
	_, seq, err := s.lastRecord(ctx, messages.StateAll(s.cfg.Bucket))
	return seq, err
}

// decodeAll takes in what read passes to its channel.
func (s *Store) decodeAll(ctx context.Context, read func(context.Context, chan<- raw) error) error {
	begun := s.cfg.Clock.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	records := make(chan raw, 4096)
	var decoders sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		decoders.Go(func() {
			for r := range records {
				if err := s.load(r); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := read(ctx, records)
	close(records)
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
func (s *Store) read(ctx context.Context, epoch uint64, out chan<- raw) error {
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
		out <- rawOf(m, meta)
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
func (s *Store) load(r raw) error {
	_, key, err := messages.ParseStateSubject(r.subject)
	if err != nil {
		return nil // a record of the store's own
	}
	rev, h := r.seq, r.header
	if err := checkFormat(h); err != nil {
		return fmt.Errorf("%s at revision %d: %w", key, rev, err)
	}
	t := s.table(key.Resource)
	if h.Get(kvOperation) == kvPurge {
		if s.cfg.Shared {
			s.loadDelete(t, key, rev)
		}
		if s.changes != nil {
			s.changes.missed(change{key: key, rev: rev, data: r.data, header: h})
		}
		return nil
	}
	data, err := s.unseal(key, r.data, h.Get(messages.HeaderSealed))
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
		s.changes.missed(change{key: key, rev: rev, data: r.data, header: h})
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
