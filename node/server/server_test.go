package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/messages/bustest"
	"github.com/troupe-run/troupe/messages/stream"
)

// fake is a node with one pod, default/web, whose container is web.
type fake struct {
	node string
	cri  *url.URL
	last *string
}

func (f fake) find(c Container) error {
	if c.Pod != "web" || c.Name != "web" {
		return fmt.Errorf("container %s: %w", c, messages.ErrNotFound)
	}
	return nil
}

func (f fake) Log(_ context.Context, c Container, previous bool) (Log, error) {
	if previous {
		return Log{}, fmt.Errorf("container %s has no previous run: %w", c, messages.ErrInvalid)
	}
	return Log{Text: []byte("2026-01-01T00:00:00Z stdout F hello from " + f.node + "\n")}, f.find(c)
}

func (f fake) Exec(_ context.Context, c Container, o ExecOptions) (Target, error) {
	*f.last = fmt.Sprint(c, " ", o)
	return Target{URL: f.cri}, f.find(c)
}

func (f fake) Attach(_ context.Context, c Container, o StreamOptions) (Target, error) {
	*f.last = fmt.Sprint(c, " ", o)
	return Target{URL: f.cri}, f.find(c)
}

func (f fake) PortForward(_ context.Context, ns, pod string) (Target, error) {
	*f.last = ns + "/" + pod
	return Target{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "in this process") })}, nil
}

// Dial reaches the echo on port 80 of the pod, and on port 9100 of the node.
func (f fake) Dial(_ context.Context, ns, pod string, port uint16) (net.Conn, error) {
	switch fmt.Sprintf("%s/%s:%d", ns, pod, port) {
	case "default/web:80", "/:9100":
		return net.Dial("tcp", f.cri.Host)
	case "default/web:81":
		return nil, fmt.Errorf("connection refused: %w", messages.ErrUnavailable)
	}
	return nil, fmt.Errorf("pod %s/%s: %w", ns, pod, messages.ErrNotFound)
}

// criServer stands for a runtime's streaming server: it upgrades and echoes.
func criServer(t *testing.T) *url.URL {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
		rw.Flush()
		io.Copy(c, rw)
	}))
	t.Cleanup(srv.Close)
	u, _ := url.Parse(srv.URL + "/exec/token")
	return u
}

func serve(t *testing.T, cfg Config, subject string) *nats.Conn {
	bus := bustest.Start(t)
	nc := bus.Conn()
	l, err := stream.Listen(nc, subject)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if err := nc.FlushWithContext(ctxFor(t)); err != nil {
		t.Fatal(err)
	}
	return bus.Conn()
}

func ctxFor(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func client(t *testing.T, nc *nats.Conn, subject string) *http.Client {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return stream.Dial(ctx, nc, subject)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func TestSurface(t *testing.T) {
	subject := messages.NodeStream("local", "n1")
	var last string
	nc := serve(t, Config{Containers: fake{"n1", criServer(t), &last}}, subject)
	c := client(t, nc, subject)
	tests := []struct {
		path string
		code int
		body string
	}{
		{"/healthz", 200, "ok"},
		{"/containerLogs/default/web/web", 200, "hello from n1\n"},
		{"/containerLogs/default/web/web?timestamps=true", 200, "2026-01-01T00:00:00Z hello from n1\n"},
		{"/containerLogs/default/web/web?tailLines=many", 400, "tailLines"},
		{"/containerLogs/default/web/web?previous=true", 400, "no previous run"},
		{"/containerLogs/default/other/web", 404, "default/other/web"},
		{"/exec/default/web/web?output=1", 400, "a command is required"},
		{"/exec/default/web/web?command=ls", 400, "at least one of"},
		{"/exec/default/other/web?command=ls&output=1", 404, "not found"},
		{"/portForward/default/web", 200, "in this process"},
		{"/metrics", 404, ""},
		{"/dial/default/web/80", 400, "an upgrade to tcp is required"},
		{"/dial/default/web/0", 400, "not a port number"},
		{"/dial/default/web/http", 400, "not a port number"},
		{"/dial/70000", 400, "not a port number"},
	}
	for _, tt := range tests {
		resp, err := c.Get("http://node" + tt.path)
		if err != nil {
			t.Fatalf("%s: %v", tt.path, err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.code || !strings.Contains(string(body), tt.body) {
			t.Errorf("%s: %d %q, want %d %q", tt.path, resp.StatusCode, body, tt.code, tt.body)
		}
	}
}

func TestExecIsProxiedToTheRuntime(t *testing.T) {
	subject := messages.NodeStream("local", "n1")
	var last string
	nc := serve(t, Config{Containers: fake{"n1", criServer(t), &last}}, subject)
	for path, want := range map[string]string{
		"/exec/default/web/web?command=sh&command=-c&input=1&output=1&error=1": "default/web/web {[sh -c] {true true true false}}",
		"/exec/default/web/uid/web?command=sh&stdin=true&stdout=true&tty=true": "default/web/web {[sh] {true true false true}}",
		"/attach/default/web/web?output=1":                                     "default/web/web {false true false false}",
	} {
		conn, err := stream.Dial(ctxFor(t), nc, subject)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n", path)
		in := bufio.NewReader(conn)
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%s: %v, %v", path, resp, err)
		}
		io.WriteString(conn, "echo me")
		got := make([]byte, 7)
		if _, err := io.ReadFull(in, got); err != nil || string(got) != "echo me" {
			t.Errorf("%s: %q, %v", path, got, err)
		}
		if last != want {
			t.Errorf("%s: runtime asked for %q, want %q", path, last, want)
		}
		conn.Close()
	}
}

func TestDialJoinsConnections(t *testing.T) {
	subject := messages.NodeStream("local", "n1")
	var last string
	nc := serve(t, Config{Containers: fake{"n1", criServer(t), &last}}, subject)
	upgrade := func(path, to string) (net.Conn, *bufio.Reader, *http.Response) {
		t.Helper()
		conn, err := stream.Dial(ctxFor(t), nc, subject)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", path, to)
		in := bufio.NewReader(conn)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return conn, in, resp
	}
	for _, path := range []string{"/dial/default/web/80", "/dial/9100"} {
		conn, in, resp := upgrade(path, "tcp")
		if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != "tcp" {
			t.Fatalf("%s: %s", path, resp.Status)
		}
		// What is there speaks for itself: an upgrade to an echo.
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		if resp, err := http.ReadResponse(in, nil); err != nil || resp.Header.Get("Upgrade") != "echo" {
			t.Fatalf("%s: %v, %v", path, resp, err)
		}
		io.WriteString(conn, "echo me")
		got := make([]byte, 7)
		if _, err := io.ReadFull(in, got); err != nil || string(got) != "echo me" {
			t.Errorf("%s: %q, %v", path, got, err)
		}
		conn.Close()
	}
	for path, want := range map[string]int{"/dial/default/web/81": http.StatusServiceUnavailable, "/dial/default/other/80": http.StatusNotFound} {
		conn, _, resp := upgrade(path, "tcp")
		if resp.StatusCode != want {
			t.Errorf("%s: %s", path, resp.Status)
		}
		conn.Close()
	}
}

func TestManyNodesBehindOneListener(t *testing.T) {
	var last string
	nc := serve(t, Config{NodeContainers: func(node string) (Containers, bool) {
		return fake{node, nil, &last}, strings.HasPrefix(node, "sim.")
	}}, messages.NodeStreamAll("local"))
	for node, want := range map[string]string{"sim.1": "hello from sim.1\n", "sim.2": "hello from sim.2\n", "stranger": "find node stranger: not found\n"} {
		resp, err := client(t, nc, messages.NodeStream("local", node)).Get("http://node/containerLogs/default/web/web")
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(got) != want {
			t.Errorf("%s: %q, want %q", node, got, want)
		}
	}
}
