package member_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupe-run/troupe/cluster/auth"
	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/cluster/member"
)

// TestLeaseOutlivesLostMemory lets one of three servers go for good and starts another one again. The lease
// is in memory: only one server remembers it then, and they elect no leader for its stream any more.
func TestLeaseOutlivesLostMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as the servers may take to elect")
	}
	t.Parallel()
	authority, err := auth.Open(auth.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var addrs, dirs [3]string
	for i := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addrs[i], dirs[i] = l.Addr().String(), t.TempDir()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	start := func(i int) *bus.Bus {
		t.Helper()
		name := fmt.Sprint("m", i)
		tls, err := authority.MemberTLS(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := bus.Start(t.Context(), bus.Config{DataDir: dirs[i], Log: slog.New(slog.DiscardHandler), Members: &bus.Members{
			Name: name, ListenAddr: addrs[i], Peers: []string{addrs[(i+1)%3], addrs[(i+2)%3]}, TLS: tls}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var leads [3]atomic.Bool
	began := make(chan int, 16)
	take := func(i int, b *bus.Bus) *member.Member {
		t.Helper()
		m, err := member.Run(t.Context(), member.Config{Conn: b.Conn(), Name: fmt.Sprint("m", i), Replicas: bus.Replicas, Log: slog.New(slog.DiscardHandler),
			Lead: func(context.Context) (<-chan struct{}, error) {
				leads[i].Store(true)
				began <- i
				return nil, nil
			},
			Follow: func(context.Context) error {
				leads[i].Store(false)
				return nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	end := func(m *member.Member, b *bus.Bus) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
		defer cancel()
		if m != nil {
			_ = m.Close(ctx) // it may have no servers to give the lease back to
		}
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
	}
	var servers [3]*bus.Bus
	for i := range servers {
		servers[i] = start(i)
	}
	first := take(0, servers[0])
	select {
	case <-began:
	case <-time.After(time.Minute):
		t.Fatal("nobody leads")
	}
	end(nil, servers[2])
	end(nil, servers[1])
	servers[1] = start(1)
	second := take(1, servers[1])
	defer end(second, servers[1])
	end(first, servers[0])
	servers[0] = start(0) // now neither remembers
	third := take(0, servers[0])
	defer end(third, servers[0])
	for limit := time.After(2 * time.Minute); ; {
		select {
		case <-began:
			if leads[0].Load() != leads[1].Load() {
				return
			}
		case <-limit:
			t.Fatal("nobody leads any more")
		}
	}
}
