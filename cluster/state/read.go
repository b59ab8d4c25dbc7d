package state

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/troupe-run/troupe/messages"
)

// raw is a record as it comes from the stream.
type raw struct {
	seq     uint64
	pending uint64 // how many were behind it
	subject string
	header  nats.Header
	data    []byte
}

// readAhead is the number of records asked for at once.
const readAhead = 1000

// consumerIdle is how long a server keeps a reader that is gone.
const consumerIdle = 30 * time.Second

func rawOf(m jetstream.Msg, meta *jetstream.MsgMetadata) raw {
	return raw{meta.Sequence.Stream, meta.NumPending, m.Subject(), m.Headers(), m.Data()}
}

// pauseWait is how long no record comes before a reader is told that there is a pause.
const pauseWait = 300 * time.Millisecond

// readFrom calls fn for the records from sequence first on until it says that this was the last one, or
// ctx ends, and paused, unless it is nil, when none comes for a while. It returns an error when the server
// it reads from falls silent, or when a record was lost on the way.
func (s *Store) readFrom(ctx context.Context, first uint64, fn func(raw) (last bool, err error), paused func(context.Context) error) error {
	attempt, cancel := s.attempt(ctx)
	defer cancel()
	// Not nats.go's ordered consumer, which tries again by itself, for long, whatever ctx says.
	cons, err := s.js.CreateConsumer(attempt, s.stream.CachedInfo().Config.Name, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: first, AckPolicy: jetstream.AckNonePolicy,
		InactiveThreshold: consumerIdle, MemoryStorage: true, Replicas: 1,
	})
	if err != nil {
		return err
	}
	it, err := cons.Messages(jetstream.PullMaxMessages(readAhead), jetstream.PullExpiry(5*time.Second), jetstream.PullHeartbeat(time.Second),
		jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return err
	}
	defer it.Stop()
	next, stop := arrivals(ctx, it)
	defer stop()
	pause := time.NewTimer(pauseWait)
	defer pause.Stop()
	for delivered := uint64(1); ; {
		var m jetstream.Msg
		select {
		case <-pause.C:
			pause.Reset(pauseWait)
			if paused == nil {
				continue
			}
			if err := paused(ctx); err != nil {
				return err
			}
			continue
		case <-ctx.Done():
			return ctx.Err()
		case a := <-next:
			if a.err != nil {
				return a.err
			}
			m = a.m
			pause.Reset(pauseWait)
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Consumer != delivered {
			return fmt.Errorf("record %d came instead of %d: %w", meta.Sequence.Consumer, delivered, messages.ErrUnavailable)
		}
		delivered++
		if last, err := fn(rawOf(m, meta)); last || err != nil {
			return err
		}
	}
}

// arrival is what an iterator gives.
type arrival struct {
	m   jetstream.Msg
	err error
}

// arrivals passes on what it gives until there is an error. The iterator must not be asked with a limit of
// time: it would not notice any more that its server is silent.
func arrivals(ctx context.Context, it jetstream.MessagesContext) (<-chan arrival, func()) {
	ctx, cancel := context.WithCancel(ctx)
	out, ended := make(chan arrival), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			m, err := it.Next(jetstream.NextContext(ctx))
			select {
			case out <- arrival{m, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return out, func() {
		cancel()
		<-ended
	}
}

// quietWait is how long a stretch of the stream may be read without a record coming: a server that lags
// behind the others gets its records within that.
const quietWait = 5 * time.Second

// readUntil is readFrom for a stretch that ends. It gives up when nothing comes for quietWait: the record
// at its end may be a deletion that is forgotten by now, or the server may have lost sight of the others.
func (s *Store) readUntil(ctx context.Context, first uint64, fn func(raw) (last bool, err error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := s.cfg.Clock.NewTimer(quietWait)
	defer quiet.Stop()
	go func() {
		select {
		case <-quiet.C():
			cancel(fmt.Errorf("no record came for %s: %w", quietWait, errUnsure))
		case <-ctx.Done():
		}
	}()
	err := s.readFrom(ctx, first, func(r raw) (bool, error) {
		quiet.Reset(quietWait)
		return fn(r)
	}, nil)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
