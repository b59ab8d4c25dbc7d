// Package bustest gives tests a NATS server in their own process, without a port: start with
// [Start]. It works inside a synctest bubble. It is for tests of packages below cluster/bus,
// which must not import that.
package bustest

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Server is a running server that ends with its test.
type Server struct {
	t   testing.TB
	srv *server.Server
}

// Start starts a server without JetStream and without a listener.
func Start(t testing.TB) *Server {
	t.Helper()
	srv, err := server.NewServer(&server.Options{
		ServerName: "test", DontListen: true, NoSigs: true, NoLog: true, MaxPayload: 4 << 20,
		MaxPending: 128 << 20,
	})
	if err != nil {
		t.Fatalf("start nats: %v", err)
	}
	srv.Start()
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("start nats: not ready")
	}
	s := &Server{t: t, srv: srv}
	t.Cleanup(s.Stop)
	return s
}

// Stop ends the server now; it may be called again.
func (s *Server) Stop() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}

// Conn returns a new connection that ends with the test.
func (s *Server) Conn(opts ...nats.Option) *nats.Conn {
	s.t.Helper()
	nc, err := nats.Connect("", append([]nats.Option{nats.InProcessServer(s.srv), nats.ErrorHandler(discard)}, opts...)...)
	if err != nil {
		s.t.Fatalf("connect: %v", err)
	}
	s.t.Cleanup(nc.Close)
	return nc
}

// discard keeps nats.go from printing what a test provokes.
func discard(*nats.Conn, *nats.Subscription, error) {}
