package state

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// publisher puts each committed write onto its change subject, in order, from its own goroutine
// and connection. NATS' own republishing is of no use here: it would carry the writer's
// expectations along, which the change stream would apply to itself.
//
// A crash can come between a commit and its change. The next opening compares what the change
// stream has with the bucket and publishes what is missing: every change appears at least once,
// except that of several in that moment to one key only the last does.
type publisher struct {
	store *Store
	nc    *nats.Conn

	mu     sync.Mutex
	queue  []change
	idle   chan struct{} // made by drain, closed when all is published
	opened bool          // of a term: the queue is worked off
	signal chan struct{}

	seen    uint64   // newest revision of this bucket in the change stream at opening
	resume  bool     // seen is known, so what is above it is missing
	missing []change // found by replay
}

// change is one write as it is published.
type change struct {
	key  messages.Key
	rev  uint64
	data []byte
	verb string
	seal string
	user string
	obj  objects.Object // what it is about; nil when header says so
	// header is that of the record, for changes found by replay.
	header nats.Header
}

func (s *Store) openChanges(ctx context.Context) (*publisher, error) {
	p := &publisher{store: s, signal: make(chan struct{}, 1)}
	return p, p.open(ctx)
}

// open looks what the change stream has, and makes it if it is not there.
func (p *publisher) open(ctx context.Context) error {
	s := p.store
	// The stream is in an account of its own, which only needs a connection for this.
	nc, err := s.cfg.Bus.ConnectChanges()
	if err != nil {
		return err
	}
	defer nc.Close()
	stream, err := s.ensureChanges(ctx, nc)
	if err != nil {
		return err
	}
	if err := p.look(ctx, stream); err != nil {
		return err
	}
	p.nc, err = s.cfg.Bus.Connect("changes-" + s.cfg.Bucket)
	return err
}

// runTerm is run for a store that leads from epoch on: it first publishes what an earlier leader has
// not. The writer does not wait for it.
func (p *publisher) runTerm(ctx context.Context, epoch uint64) {
	wait := firstPause
	for {
		err := p.open(ctx)
		if err == nil {
			if err = p.readMissed(ctx, epoch); err == nil {
				break
			}
			p.nc.Close()
		}
		p.store.log.Debug("change stream cannot be had yet", "err", err)
		if !p.store.wait(ctx, &wait) {
			return
		}
	}
	slices.SortFunc(p.missing, byRevision)
	p.mu.Lock()
	p.queue = append(p.missing, p.queue...)
	p.missing, p.opened = nil, true
	p.wake()
	p.mu.Unlock()
	p.run(ctx)
}

// readMissed collects what an earlier leader has not published.
func (p *publisher) readMissed(ctx context.Context, epoch uint64) error {
	p.missing = nil
	if !p.resume || p.seen+1 >= epoch {
		return nil
	}
	return p.store.readUntil(ctx, p.seen+1, func(r raw) (bool, error) {
		if _, key, err := messages.ParseStateSubject(r.subject); err == nil && r.seq < epoch {
			p.missed(change{key: key, rev: r.seq, data: r.data, header: r.header})
		}
		return r.seq >= epoch, nil
	})
}

func byRevision(a, b change) int { return cmp.Compare(a.rev, b.rev) }

// maxLook bounds the search for this bucket's newest change among those of other buckets.
const maxLook = 10_000

// look finds the newest change of this bucket in the stream, going back from its end past those
// of other buckets.
func (p *publisher) look(ctx context.Context, stream jetstream.Stream) error {
	info, err := stream.Info(ctx)
	if err != nil {
		return err
	}
	first, last := info.State.FirstSeq, info.State.LastSeq
	p.resume = last == 0
	for seq := last; seq >= first && seq > 0 && last-seq < maxLook; seq-- {
		m, err := stream.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read change stream: %w", err)
		}
		if m.Header.Get(messages.HeaderBucket) != p.store.cfg.Bucket {
			continue
		}
		p.seen, err = strconv.ParseUint(m.Header.Get(messages.HeaderRevision), 10, 64)
		p.resume = err == nil
		return nil
	}
	return nil
}

// missed notes a record that replay found, if the change stream does not have it.
func (p *publisher) missed(c change) {
	if !p.resume || c.rev <= p.seen {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.missing = append(p.missing, c)
}

// catchUp queues what was missed, in order.
func (p *publisher) catchUp() {
	slices.SortFunc(p.missing, byRevision)
	p.offer(p.missing)
	p.missing = nil
}

func (p *publisher) offer(changes []change) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(p.queue, changes...)
	p.wake()
}

// working says whether a term's publisher has begun to work off its queue: what it has not published
// when it ends, the next leader does.
func (p *publisher) working() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opened
}

func (p *publisher) wake() {
	select {
	case p.signal <- struct{}{}:
	default:
	}
}

// drain waits until all that was offered is with the server.
func (p *publisher) drain(ctx context.Context) error {
	idle := make(chan struct{})
	p.mu.Lock()
	p.idle = idle
	p.wake()
	p.mu.Unlock()
	select {
	case <-idle:
		return p.nc.FlushWithContext(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *publisher) run(ctx context.Context) {
	defer p.nc.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.signal:
		}
		p.mu.Lock()
		queue, idle := p.queue, p.idle
		p.queue, p.idle = nil, nil
		p.mu.Unlock()
		for i := range queue {
			if err := p.publish(&queue[i]); err != nil {
				p.store.log.Warn("change not published", "key", queue[i].key, "rev", queue[i].rev, "err", err)
			}
		}
		if idle != nil {
			close(idle)
		}
	}
}

func (p *publisher) publish(c *change) error {
	h := make(nats.Header, 8)
	h[messages.HeaderFormat] = formatHeader
	h[messages.HeaderBucket] = []string{p.store.cfg.Bucket}
	h[messages.HeaderRevision] = []string{strconv.FormatUint(c.rev, 10)}
	if c.header == nil {
		h[messages.HeaderVerb] = []string{c.verb}
		if c.seal != "" {
			h[messages.HeaderSealed] = []string{c.seal}
		}
		if c.user != "" {
			h[messages.HeaderUser] = []string{c.user}
		}
		describe(h, c.obj)
	}
	for _, name := range []string{messages.HeaderVerb, messages.HeaderKind, messages.HeaderUID, messages.HeaderSealed, messages.HeaderUser} {
		if v := c.header[name]; v != nil {
			h[name] = v
		}
	}
	subject := messages.Change(p.store.cfg.Bus.Region(), c.key)
	return p.nc.PublishMsg(&nats.Msg{Subject: subject, Header: h, Data: c.data})
}
