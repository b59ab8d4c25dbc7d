package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/messages"
)

const (
	// leaseTime is how long a lease is good for after its last renewal. It is shorter than the servers
	// need to elect a leader of their own, so that it adds little to the time without a leader.
	leaseTime = 3 * time.Second
	// leaseMargin is how much earlier a holder takes it for ended, since clocks run differently.
	leaseMargin = leaseTime / 4
	renewEvery  = leaseTime / 4
	lookEvery   = 250 * time.Millisecond
	askWait     = time.Second
)

// Holder is what a lease says of who has it.
type Holder struct {
	// Name is the member's.
	Name string `json:"name,omitempty"`
	// ID is of this life of the member. Empty means that the lease was given back.
	ID string `json:"id,omitempty"`
}

// lease is the view one member has of the shared record.
type lease struct {
	js      jetstream.JetStream
	stream  jetstream.Stream
	subject string
	me      Holder
	clock   clock.WithTicker

	// What was seen last, and when first.
	seq   uint64
	since time.Time
	seen  bool

	until atomic.Pointer[time.Time] // the lease is certainly ours
	had   atomic.Pointer[time.Time] // when the servers last answered

	config jetstream.StreamConfig
}

// reviveAfter is how long nobody can have the lease before its stream is made anew: longer than the servers
// need to elect a leader. They do not find one for a stream in memory when one of three is away and another
// was started again, so that only one remembers. Nothing is lost with it: the lease only limits overlap, the
// epoch in the bucket makes it harmless.
const reviveAfter = 20 * time.Second

// openLease makes the stream of the lease if it is not there.
func openLease(ctx context.Context, nc *nats.Conn, replicas int, me Holder, c clock.WithTicker) (*lease, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	l := &lease{js: js, me: me, clock: c, subject: messages.StateRecord(messages.LeaseBucket, "leader"), config: jetstream.StreamConfig{
		Name: "KV_" + messages.LeaseBucket, Description: "which member leads", Subjects: []string{messages.StateAll(messages.LeaseBucket)},
		MaxMsgsPerSubject: 1, Storage: jetstream.MemoryStorage, Replicas: replicas, DenyDelete: true,
	}}
	l.answered()
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*askWait)
		err = l.open(attempt)
		cancel()
		if err == nil {
			l.answered()
			return l, nil
		}
		l.revive(ctx)
		if !sleep(ctx, c, lookEvery) {
			return nil, fmt.Errorf("open the lease: %w", err)
		}
	}
}

// answered notes that the servers gave an answer about the lease.
func (l *lease) answered() {
	now := l.clock.Now()
	l.had.Store(&now)
}

// revive makes the lease's stream anew if nobody could have it for long.
func (l *lease) revive(ctx context.Context) {
	if l.clock.Since(*l.had.Load()) < reviveAfter {
		return
	}
	l.answered() // others may be at it: not again at once
	ctx, cancel := context.WithTimeout(ctx, 2*askWait)
	defer cancel()
	// A majority of the servers has to agree. Whoever is cut off fails here.
	if err := l.js.DeleteStream(ctx, l.config.Name); err != nil {
		return
	}
	config := l.config
	if _, err := l.js.CreateStream(ctx, config); err == nil {
		return
	}
	// One server has to do while another is away; see open.
	config.Replicas = 1
	_, _ = l.js.CreateStream(ctx, config) // or another member does; who fails comes again
}

// open finds the lease's stream or makes it, on as many servers as it should have if they are there.
func (l *lease) open(ctx context.Context) (err error) {
	l.stream, err = l.js.Stream(ctx, l.config.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		l.stream, err = l.js.CreateStream(ctx, l.config)
	}
	if err == nil && l.stream.CachedInfo().Config.Replicas < l.config.Replicas {
		_, _ = l.js.UpdateStream(ctx, l.config) // not while one is away; the next member that starts tries again
	}
	return err
}

// held says whether the lease is certainly this member's at this moment.
func (l *lease) held() bool {
	until := l.until.Load()
	return until != nil && l.clock.Now().Before(*until)
}

// look reads the lease and says whether it may be taken.
func (l *lease) look(ctx context.Context) (h Holder, free bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	m, err := l.stream.GetLastMsgForSubject(ctx, l.subject)
	seq := uint64(0)
	switch {
	case err == nil:
		seq = m.Sequence
		if err := json.Unmarshal(m.Data, &h); err != nil {
			return h, false, fmt.Errorf("read the lease: %w", err)
		}
	case !errors.Is(err, jetstream.ErrMsgNotFound):
		return h, false, fmt.Errorf("read the lease: %w", err)
	}
	l.answered()
	now := l.clock.Now()
	if !l.seen || seq != l.seq {
		l.seen, l.seq, l.since = true, seq, now
	}
	given := seq != 0 && h.ID == ""
	return h, given || now.Sub(l.since) >= leaseTime, nil
}

// write takes or renews the lease if it is still as it was seen last; ok is false when it is not.
func (l *lease) write(ctx context.Context, h Holder) (ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	data, err := json.Marshal(h)
	if err != nil {
		return false, err
	}
	sent := l.clock.Now()
	ack, err := l.js.Publish(ctx, l.subject, data, jetstream.WithExpectLastSequencePerSubject(l.seq))
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == wrongLastConstant):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("write the lease: %w", err)
	}
	l.answered()
	l.seq, l.since = ack.Sequence, sent
	if h.ID != "" {
		until := sent.Add(leaseTime - leaseMargin)
		l.until.Store(&until)
	}
	return true, nil
}

// wrongLastConstant is what the server answers instead of the wrong sequence when another write to
// the lease is under way.
const wrongLastConstant = 10164

// sleep waits; false says that ctx ended.
func sleep(ctx context.Context, c clock.WithTicker, d time.Duration) bool {
	t := c.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		return true
	case <-ctx.Done():
		return false
	}
}
