package state_test

import (
	"net"
	"sync"
	"testing"
)

// proxy is the way from one member to another. It can be blocked: what is sent then waits, as on a
// network that drops packets, or cut: connections break and none are made.
type proxy struct {
	listener net.Listener

	mu      sync.Mutex
	cond    sync.Cond
	target  string
	blocked bool
	cut     bool
	conns   map[net.Conn]struct{}
}

func newProxy(t *testing.T) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, conns: map[net.Conn]struct{}{}}
	p.cond.L = &p.mu
	t.Cleanup(func() {
		p.set(true, false)
		l.Close()
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) lead(to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = to
}

func (p *proxy) set(cut, blocked bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.blocked = cut, blocked
	if cut {
		for c := range p.conns {
			c.Close()
		}
	}
	p.cond.Broadcast()
}

// pass waits while the way is blocked.
func (p *proxy) pass() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.blocked && !p.cut {
		p.cond.Wait()
	}
	return !p.cut
}

func (p *proxy) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = struct{}{}
}

func (p *proxy) drop(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *proxy) serve(from net.Conn) {
	p.keep(from)
	defer p.drop(from)
	if !p.pass() {
		return
	}
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	to, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	p.keep(to)
	defer p.drop(to)
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
		both.Go(func() {
			defer way[0].Close()
			defer way[1].Close()
			buf := make([]byte, 32<<10)
			for {
				n, err := way[0].Read(buf)
				if n > 0 {
					if !p.pass() {
						return
					}
					if _, err := way[1].Write(buf[:n]); err != nil {
						return
					}
				}
				if err != nil {
					return
				}
			}
		})
	}
	both.Wait()
}
