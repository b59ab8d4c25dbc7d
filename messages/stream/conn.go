package stream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

// A side that has not heard from its peer for silentTicks of keepalive gives the stream up; each
// side sends at least once per tick.
const (
	keepalive   = 10 * time.Second
	silentTicks = 4
)

// Errors that end a stream from outside; they are found inside the *net.OpError of Read and Write.
var (
	// ErrRefused says that nobody listens, or that the listener takes no more.
	ErrRefused = fmt.Errorf("nobody listens: %w", syscall.ECONNREFUSED)
	// ErrReset says that the peer is gone or gave the stream up.
	ErrReset = fmt.Errorf("stream reset by peer: %w", syscall.ECONNRESET)
	// ErrBroken says that NATS lost a part of the stream.
	ErrBroken = errors.New("stream broken: frames lost")
	// ErrSilent says that the peer has not been heard of for too long.
	ErrSilent = fmt.Errorf("peer silent: %w", syscall.ETIMEDOUT)
)

// Addr is the address of either end: the subject it reads from or, for a listener's end as its
// local address, the subject that was dialed.
type Addr string

// Network returns "nats".
func (Addr) Network() string { return "nats" }

// String returns the subject.
func (a Addr) String() string { return string(a) }

// Conn is one end of a stream. Beside net.Conn it has CloseWrite.
type Conn struct {
	nc            *nats.Conn
	in, out       string // subjects
	local, remote Addr
	forget        func() // takes the conn out of whatever routes frames to it

	writing sync.Mutex // held for one whole Write, so that writes do not mix

	sending sync.Mutex // orders frames on the wire; never taken with mu held
	sent    uint32     // frames

	mu         sync.Mutex
	readable   sync.Cond
	writable   sync.Cond
	queue      [][]byte // received and not read
	queued     int      // its cost
	owed       int      // read, and not yet given back to the peer as credit
	credit     int      // may still be sent
	got        uint32   // frames
	opened     bool     // the peer has answered
	ended      bool     // the peer has sent its last data
	peerClosed bool
	halfClosed bool  // we have sent our last data
	closed     bool  // by us
	err        error // what ended the stream from outside
	rdl, wdl   deadline
	ticker     *time.Timer
	quiet      int  // ticks since we heard from the peer
	active     bool // we sent something since the last tick
}

func newConn(nc *nats.Conn, in, out string, local, remote Addr, forget func()) *Conn {
	c := &Conn{nc: nc, in: in, out: out, local: local, remote: remote, forget: forget}
	c.readable.L, c.writable.L = &c.mu, &c.mu
	return c
}

// watch starts the keepalive once the stream is open.
func (c *Conn) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over() {
		c.ticker = time.AfterFunc(keepalive, c.tick)
	}
}

// over says that no frame matters any more; the caller holds mu.
func (c *Conn) over() bool { return c.closed || c.peerClosed || c.err != nil }

func (c *Conn) tick() {
	c.mu.Lock()
	if c.over() {
		c.mu.Unlock()
		return
	}
	c.quiet++
	silent, active := c.quiet >= silentTicks, c.active
	c.active = false
	c.ticker.Reset(keepalive)
	c.mu.Unlock()
	switch {
	case silent:
		c.abort(ErrSilent)
	case !active:
		_ = c.send(framePing, nil) // an error ends the stream inside
	}
}

// send puts one frame on the wire. An error ends the stream.
func (c *Conn) send(kind frameKind, body []byte) error {
	c.sending.Lock()
	// The reply subject makes NATS tell us when nobody is there.
	err := c.nc.PublishRequest(c.out, c.in, encode(kind, c.sent, body))
	c.sent++
	c.sending.Unlock()
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrReset, err)
		c.fail(err)
	}
	return err
}

// abort ends the stream and tells the peer why.
func (c *Conn) abort(err error) {
	_ = c.nc.Publish(c.out, encode(frameReset, 0, []byte(err.Error()))) // the peer may be gone
	c.fail(err)
}

// fail ends the stream from outside. What was received stays readable.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.wake()
	c.mu.Unlock()
	c.forget()
}

func (c *Conn) wake() {
	c.readable.Broadcast()
	c.writable.Broadcast()
}

// message takes a NATS message for this stream; it never blocks.
func (c *Conn) message(m *nats.Msg) {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		c.unheard()
		return
	}
	kind, seq, body, err := decode(m.Data)
	if err != nil {
		c.abort(err)
		return
	}
	if kind == frameReset {
		c.reset(string(body))
		return
	}
	if err := c.frame(kind, seq, body); err != nil {
		c.abort(err)
	}
}

// unheard handles that nobody listens at the other end.
func (c *Conn) unheard() {
	c.mu.Lock()
	opened, done := c.opened, c.peerClosed
	c.mu.Unlock()
	switch {
	case done: // its farewell came before
	case opened:
		c.fail(ErrReset)
	default:
		c.fail(ErrRefused)
	}
}

func (c *Conn) reset(why string) {
	c.mu.Lock()
	opened, done := c.opened, c.peerClosed
	c.mu.Unlock()
	switch {
	case done:
	case opened:
		c.fail(fmt.Errorf("%w (%s)", ErrReset, why))
	default:
		c.fail(fmt.Errorf("%w (%s)", ErrRefused, why))
	}
}

func (c *Conn) frame(kind frameKind, seq uint32, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if seq != c.got {
		return ErrBroken
	}
	c.got++
	c.quiet = 0
	switch kind {
	case frameOpen, frameAccept:
		c.opened = true
		c.credit += decodeCredit(body)
	case frameCredit:
		c.credit += decodeCredit(body)
	case frameData:
		if c.ended || c.queued+cost(len(body)) > window {
			return fmt.Errorf("%w: data beyond the window", ErrBroken)
		}
		c.queue = append(c.queue, body)
		c.queued += cost(len(body))
	case frameEnd:
		c.ended = true
	case frameClose:
		c.ended, c.peerClosed = true, true
	}
	c.wake()
	return nil
}

// Read returns what has been received, first of all. It returns io.EOF when the peer has sent its
// last data and all of it was read.
func (c *Conn) Read(p []byte) (int, error) {
	n, give, err := c.take(p)
	if give > 0 {
		_ = c.send(frameCredit, encodeCredit(give)) // an error shows on the next call
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = c.opError("read", err)
	}
	return n, err
}

func (c *Conn) take(p []byte) (n, give int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, 0, net.ErrClosed
		case c.rdl.expired:
			return 0, 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, 0, nil
		case len(c.queue) > 0:
			n, give = c.pop(p)
			return n, give, nil
		case c.ended:
			return 0, 0, io.EOF
		case c.err != nil:
			return 0, 0, c.err
		}
		c.readable.Wait()
	}
}

// pop moves received data to p and says how much credit is worth giving back now.
func (c *Conn) pop(p []byte) (n, give int) {
	for n < len(p) && len(c.queue) > 0 {
		k := copy(p[n:], c.queue[0])
		n += k
		c.queued, c.owed = c.queued-k, c.owed+k
		if k < len(c.queue[0]) {
			c.queue[0] = c.queue[0][k:]
			break
		}
		c.queue[0] = nil
		c.queue = c.queue[1:]
		c.queued, c.owed = c.queued-frameCost, c.owed+frameCost
	}
	if len(c.queue) == 0 {
		c.queue = nil
	}
	if c.owed >= window/4 && !c.ended && !c.over() {
		give, c.owed = c.owed, 0
	}
	return n, give
}

// Write sends all of p, waiting for the peer to read as far as its window requires.
func (c *Conn) Write(p []byte) (n int, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	for {
		k, err := c.reserve(len(p) - n)
		if err != nil {
			return n, c.opError("write", err)
		}
		if k == 0 {
			return n, nil
		}
		if err := c.send(frameData, p[n:n+k]); err != nil {
			return n, c.opError("write", err)
		}
		n += k
	}
}

// reserve takes credit for the next frame of at most n bytes.
func (c *Conn) reserve(n int) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case c.halfClosed:
			return 0, io.ErrClosedPipe
		case c.err != nil:
			return 0, c.err
		case c.peerClosed:
			return 0, syscall.EPIPE
		case c.wdl.expired:
			return 0, os.ErrDeadlineExceeded
		case n == 0:
			return 0, nil
		case c.credit > frameCost:
			k := min(n, c.credit-frameCost, maxFrame-headerSize)
			c.credit -= cost(k)
			c.active = true
			return k, nil
		}
		c.writable.Wait()
	}
}

// CloseWrite says that no more data follows; reading goes on.
func (c *Conn) CloseWrite() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	switch {
	case c.closed:
		c.mu.Unlock()
		return c.opError("close", net.ErrClosed)
	case c.halfClosed, c.over():
		c.mu.Unlock()
		return nil
	}
	c.halfClosed = true
	c.mu.Unlock()
	return c.send(frameEnd, nil)
}

// Close ends both directions; what was written before still arrives.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	tell := !c.over()
	c.closed = true
	c.queue = nil
	c.rdl.stop()
	c.wdl.stop()
	if c.ticker != nil {
		c.ticker.Stop()
	}
	c.wake()
	c.mu.Unlock()
	var err error
	if tell {
		err = c.send(frameClose, nil)
	}
	c.forget()
	return err
}

// LocalAddr returns the address of this end.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the address of the peer.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline bounds Read, also one that waits now; the zero time means no bound.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadline(&c.rdl, t) }

// SetWriteDeadline bounds Write, also one that waits now; the zero time means no bound.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.wdl, t) }

func (c *Conn) setDeadline(d *deadline, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.opError("set", net.ErrClosed)
	}
	d.set(t, &c.mu, c.wake)
	c.wake()
	return nil
}

func (c *Conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: c.local.Network(), Source: c.local, Addr: c.remote, Err: err}
}

var _ net.Conn = (*Conn)(nil)
