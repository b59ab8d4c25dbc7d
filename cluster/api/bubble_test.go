package api_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/cluster/api"
)

// pipes is a listener on in-memory connections.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "api", Net: "pipe"} }

// TestLivesInABubble runs a server on virtual time: requests, a watch and ten minutes of waiting.
func TestLivesInABubble(t *testing.T) {
	// The clock of nats-server's streams is one goroutine for the whole process; held from outside,
	// it stays out of the bubble.
	ats.Register()
	t.Cleanup(ats.Unregister)
	for name, insecure := range map[string]bool{"plain": true, "TLS": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newPipes()
				c := start(t, func(cfg *api.Config) {
					_ = cfg.Listener.Close()
					cfg.Listener, cfg.Dial, cfg.Insecure = ln, ln.dial, insecure
				})
				ctx := t.Context()
				maps := c.client.CoreV1().ConfigMaps("default")
				w, err := maps.Watch(ctx, metav1.ListOptions{})
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				time.Sleep(10 * time.Minute)
				if _, err := maps.Create(ctx, configMap("a", nil), metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
				ev := <-w.ResultChan()
				cm, ok := ev.Object.(*corev1.ConfigMap)
				if !ok || cm.CreationTimestamp.Sub(began) < 10*time.Minute {
					t.Errorf("event %+v, want a map ten virtual minutes young", ev)
				}
				w.Stop()
			})
		})
	}
}
