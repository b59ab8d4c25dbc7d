package stream

import (
	"context"
	"fmt"
	"net"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/troupe-run/troupe/messages"
)

// Dial opens a stream to whoever listens on a subject. It fails at once with [ErrRefused] when
// nobody does, and otherwise when ctx ends before the answer.
func Dial(ctx context.Context, nc *nats.Conn, subject string) (net.Conn, error) {
	id := nuid.Next()
	in, out := messages.StreamDown(subject, id), messages.StreamUp(subject, id)
	// forget may come from a callback of the subscription before sub is known here; known guards.
	known := make(chan struct{})
	var sub *nats.Subscription
	c := newConn(nc, in, out, Addr(in), Addr(subject), func() {
		<-known
		if sub != nil {
			_ = sub.Unsubscribe() // doubled, or the connection is gone
		}
	})
	sub, err := nc.Subscribe(in, c.message)
	close(known)
	if err != nil {
		return nil, c.opError("dial", err)
	}
	sub.SetClosedHandler(func(string) { c.fail(ErrReset) })
	if err := c.send(frameOpen, encodeCredit(window)); err != nil {
		return nil, c.opError("dial", err)
	}
	stop := context.AfterFunc(ctx, func() { c.fail(fmt.Errorf("no answer: %w", ctx.Err())) })
	defer stop()
	if err := c.answered(); err != nil {
		if ctx.Err() != nil {
			c.abort(err)
		}
		return nil, c.opError("dial", err)
	}
	c.watch()
	return c, nil
}

// answered waits for the listener's answer or for the end of the stream.
func (c *Conn) answered() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.opened && c.err == nil {
		c.readable.Wait()
	}
	if c.opened {
		return nil
	}
	return c.err
}
