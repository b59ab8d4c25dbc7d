package stream

import (
	"fmt"
	"net"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/troupe-run/troupe/messages"
)

// backlog is how many streams may wait to be accepted; more are refused.
const backlog = 128

// Listener accepts the streams dialed on a subject, all through one subscription.
type Listener struct {
	nc       *nats.Conn
	addr     Addr
	sub      *nats.Subscription
	accepted chan *Conn
	quit     chan struct{}

	mu     sync.Mutex
	conns  map[string]*Conn // by the subject they read from
	closed bool
}

// Listen accepts streams dialed on subject. The subject may hold wildcards: LocalAddr of each
// stream then says which subject was dialed.
func Listen(nc *nats.Conn, subject string) (net.Listener, error) {
	l := &Listener{
		nc: nc, addr: Addr(subject),
		accepted: make(chan *Conn, backlog),
		quit:     make(chan struct{}),
		conns:    make(map[string]*Conn),
	}
	l.mu.Lock() // message waits until sub is known
	defer l.mu.Unlock()
	sub, err := nc.Subscribe(messages.StreamUp(subject, "*"), l.message)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", subject, err)
	}
	l.sub = sub
	// Flow control bounds what waits here: a window for each stream.
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", subject, err)
	}
	sub.SetClosedHandler(func(string) { l.end() })
	return l, nil
}

// message routes one NATS message to its stream, on the subscription's goroutine.
func (l *Listener) message(m *nats.Msg) {
	l.mu.Lock()
	c := l.conns[m.Subject]
	l.mu.Unlock()
	if c != nil {
		c.message(m)
		return
	}
	kind, _, _, err := decode(m.Data)
	switch {
	case err != nil: // no frame, or that nobody heard us
	case kind == frameOpen:
		l.open(m)
	case kind == frameData, kind == frameEnd, kind == framePing:
		l.refuse(m, "no such stream")
	}
}

func (l *Listener) open(m *nats.Msg) {
	base, id, err := messages.ParseStreamUp(m.Subject)
	if err != nil {
		return
	}
	in, out := m.Subject, messages.StreamDown(base, id)
	c := newConn(l.nc, in, out, Addr(base), Addr(out), func() { l.drop(in) })
	c.message(m)
	l.mu.Lock()
	// Only this goroutine fills accepted, so that a place seen free stays free.
	if l.closed || len(l.accepted) == cap(l.accepted) {
		l.mu.Unlock()
		l.refuse(m, "listener closed or full")
		return
	}
	l.conns[in] = c
	l.mu.Unlock()
	if c.send(frameAccept, encodeCredit(window)) == nil {
		c.watch()
		l.accepted <- c
		select {
		case <-l.quit:
			l.drain()
		default:
		}
	}
}

// drain closes the streams that nobody will accept any more.
func (l *Listener) drain() {
	for {
		select {
		case c := <-l.accepted:
			_ = c.Close()
		default:
			return
		}
	}
}

func (l *Listener) refuse(m *nats.Msg, why string) {
	if m.Reply != "" {
		_ = l.nc.Publish(m.Reply, encode(frameReset, 0, []byte(why))) // a dialer not told times out
	}
}

// drop forgets a stream; the subscription of a closed listener ends with its last stream.
func (l *Listener) drop(in string) {
	l.mu.Lock()
	delete(l.conns, in)
	idle := l.closed && len(l.conns) == 0
	l.mu.Unlock()
	if idle {
		_ = l.sub.Unsubscribe()
	}
}

// Accept returns the next stream; after Close it returns net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case <-l.quit: // first of all, though streams may wait
		return nil, &net.OpError{Op: "accept", Net: l.addr.Network(), Addr: l.addr, Err: net.ErrClosed}
	default:
	}
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.quit:
		return nil, &net.OpError{Op: "accept", Net: l.addr.Network(), Addr: l.addr, Err: net.ErrClosed}
	}
}

// Close stops accepting; streams that were accepted live on.
func (l *Listener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	idle := len(l.conns) == 0
	l.mu.Unlock()
	close(l.quit)
	if idle {
		return l.sub.Unsubscribe()
	}
	l.drain()
	return nil
}

// end fails every stream when the NATS connection is gone for good.
func (l *Listener) end() {
	_ = l.Close()
	l.mu.Lock()
	var all []*Conn
	for _, c := range l.conns {
		all = append(all, c)
	}
	l.mu.Unlock()
	for _, c := range all {
		c.fail(ErrReset)
	}
}

// Addr returns the subject that is listened on.
func (l *Listener) Addr() net.Addr { return l.addr }

var _ net.Listener = (*Listener)(nil)
