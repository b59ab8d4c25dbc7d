package bus

import (
	"fmt"
	"net"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/troupe-run/troupe/messages"
)

// lines are the in-process connections of nodes, which can be cut.
type lines struct {
	mu   sync.Mutex
	cut  map[string]int         // nodes that are cut off, how often
	ends map[string][]*nodeLine // what NodeConn has given out
}

// nodeLine lets one connection of a node reach the server, again after each loss.
type nodeLine struct {
	bus  *Bus
	node string
	conn net.Conn // the newest
}

func (b *Bus) newLine(node string) *nodeLine {
	l := &nodeLine{bus: b, node: node}
	b.lines.mu.Lock()
	defer b.lines.mu.Unlock()
	if b.lines.ends == nil {
		b.lines.cut, b.lines.ends = make(map[string]int), make(map[string][]*nodeLine)
	}
	b.lines.ends[node] = append(b.lines.ends[node], l)
	return l
}

// InProcessConn connects to the server that runs now, unless the node is cut off.
func (l *nodeLine) InProcessConn() (net.Conn, error) {
	l.bus.lines.mu.Lock()
	defer l.bus.lines.mu.Unlock()
	if l.bus.lines.cut[l.node] > 0 {
		return nil, fmt.Errorf("node %s is cut off: %w", l.node, messages.ErrUnavailable)
	}
	conn, err := l.bus.InProcessConn()
	l.conn = conn
	return conn, err
}

// CutNode takes a node off the bus as a broken line does: the connections that NodeConn gave out
// end, and come back by themselves after restore has been called. With it tests see what both sides
// make of that.
func (b *Bus) CutNode(node string) (restore func()) {
	b.lines.mu.Lock()
	defer b.lines.mu.Unlock()
	if b.lines.cut == nil {
		return func() {} // there is no line
	}
	b.lines.cut[node]++
	for _, l := range b.lines.ends[node] {
		if l.conn != nil {
			_ = l.conn.Close() // a pipe's never fails
		}
	}
	return sync.OnceFunc(func() {
		b.lines.mu.Lock()
		defer b.lines.mu.Unlock()
		b.lines.cut[node]--
	})
}

var _ nats.InProcessConnProvider = (*nodeLine)(nil)
