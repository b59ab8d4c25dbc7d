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
	err := s.read(ctx, epoch, raw)
	close(raw)
	decoders.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	if s.changes != nil {
		s.changes.catchUp()
	}
	s.log.Debug("bucket replayed", "rev", epoch, "took", s.cfg.Clock.Since(begun))
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
	t := s.table(key.Resource)
	if h.Get(kvOperation) == kvPurge {
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
	t.put(key, e)
	s.schedule(key, e.Expires)
	return nil
}
