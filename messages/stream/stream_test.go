package stream

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/nats-io/nats.go"
	"golang.org/x/net/nettest"

	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/messages/bustest"
)

func TestMain(m *testing.M) {
	ats.Register() // else a goroutine of the server waits outside the bubbles and stops their clocks
	defer ats.Unregister()
	m.Run()
}

const subject = "test.stream"

// pair returns both ends of a fresh stream over two connections.
func pair(t testing.TB, srv *bustest.Server) (dialed, accepted net.Conn) {
	t.Helper()
	nc := srv.Conn()
	l, err := Listen(nc, subject)
	if err != nil {
		t.Fatal(err)
	}
	flush(t, nc)
	t.Cleanup(func() { l.Close() })
	dialed = dial(t, srv.Conn())
	accepted, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accepted.Close() })
	return dialed, accepted
}

// flush waits until the server knows a connection's subscriptions. It is not nats.Conn's Flush,
// whose pooled timers would wander from one bubble into the next.
func flush(t testing.TB, nc *nats.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := nc.FlushWithContext(ctx); err != nil {
		t.Fatal(err)
	}
}

func dial(t testing.TB, nc *nats.Conn) net.Conn {
	t.Helper()
	flush(t, nc)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := Dial(ctx, nc, subject)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestConformance(t *testing.T) {
	srv := bustest.Start(t)
	a, b := srv.Conn(), srv.Conn()
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		l, err := Listen(a, subject)
		if err != nil {
			return nil, nil, nil, err
		}
		flush(t, a)
		c1, err := Dial(t.Context(), b, subject)
		if err != nil {
			return nil, nil, nil, err
		}
		c2, err := l.Accept()
		stop := func() { c1.Close(); c2.Close(); l.Close() }
		return c1, c2, stop, err
	})
}

func TestDialNobodyIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := bustest.Start(t)
		begin := time.Now()
		_, err := Dial(t.Context(), srv.Conn(), subject)
		if !errors.Is(err, ErrRefused) {
			t.Errorf("Dial() error = %v, want %v", err, ErrRefused)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("refused after %v", took)
		}
	})
}

func TestDialClosedListenerIsRefused(t *testing.T) {
	srv := bustest.Start(t)
	nc := srv.Conn()
	l, err := Listen(nc, subject)
	if err != nil {
		t.Fatal(err)
	}
	keep := dial(t, nc) // keeps the subscription alive
	kept, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := Dial(t.Context(), nc, subject); !errors.Is(err, ErrRefused) {
		t.Errorf("Dial() error = %v, want %v", err, ErrRefused)
	}
	go func() { keep.Write([]byte("still here")); keep.Close() }()
	got, err := io.ReadAll(kept)
	if err != nil || string(got) != "still here" {
		t.Errorf("accepted stream read %q, %v", got, err)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := bustest.Start(t)
		nc := srv.Conn()
		// Somebody is there who never answers.
		if _, err := nc.Subscribe(messages.StreamUp(subject, "*"), func(*nats.Msg) {}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := Dial(ctx, nc, subject); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Dial() error = %v, want deadline exceeded", err)
		}
	})
}

func TestHundredMegabytesBothWays(t *testing.T) {
	const size = 100 << 20
	srv := bustest.Start(t)
	a, b := pair(t, srv)
	block := make([]byte, 1<<20)
	_, _ = rand.Read(block)
	var sums [2][32]byte
	var wg sync.WaitGroup
	send := func(c net.Conn) {
		for range size / len(block) {
			if _, err := c.Write(block); err != nil {
				t.Error(err)
				return
			}
		}
		if err := c.(*Conn).CloseWrite(); err != nil {
			t.Error(err)
		}
	}
	receive := func(c net.Conn, sum *[32]byte) {
		h := sha256.New()
		if n, err := io.Copy(h, c); n != size || err != nil {
			t.Errorf("received %d bytes, %v", n, err)
		}
		h.Sum(sum[:0])
	}
	wg.Go(func() { send(a) })
	wg.Go(func() { send(b) })
	wg.Go(func() { receive(a, &sums[0]) })
	wg.Go(func() { receive(b, &sums[1]) })
	wg.Wait()
	want := sha256.New()
	for range size / len(block) {
		want.Write(block)
	}
	if got := want.Sum(nil); string(got) != string(sums[0][:]) || string(got) != string(sums[1][:]) {
		t.Error("received other bytes than were sent")
	}
}

func TestSlowReaderStopsItsWriter(t *testing.T) {
	for _, chunk := range []int{1, 1 << 20} {
		synctest.Test(t, func(t *testing.T) {
			a, b := pair(t, bustest.Start(t))
			written := make(chan int, 1)
			go func() {
				n := 0
				for {
					k, err := a.Write(make([]byte, chunk))
					n += k
					if err != nil {
						written <- n
						return
					}
				}
			}()
			time.Sleep(time.Minute) // nobody reads; nothing gives up, for both ends live
			synctest.Wait()
			c := b.(*Conn)
			c.mu.Lock()
			queued := c.queued
			c.mu.Unlock()
			if queued > window || queued < window/2 {
				t.Errorf("chunks of %d: %d buffered, want about the window of %d", chunk, queued, window)
			}
			b.Close()
			if n := <-written; n > window {
				t.Errorf("chunks of %d: %d bytes written, nobody read", chunk, n)
			}
		})
	}
}

func TestEndOfEitherEnd(t *testing.T) {
	tests := []struct {
		name string
		act  func(srv *bustest.Server, peer net.Conn)
		read error
	}{
		{"close", func(_ *bustest.Server, p net.Conn) { p.Close() }, io.EOF},
		{"half-close", func(_ *bustest.Server, p net.Conn) { p.(*Conn).CloseWrite() }, io.EOF},
		{"process gone", func(_ *bustest.Server, p net.Conn) { p.(*Conn).nc.Close() }, ErrReset},
		{"peer hangs", func(_ *bustest.Server, p net.Conn) { hang(p.(*Conn)) }, ErrSilent},
	}
	for _, tt := range tests {
		for _, side := range []string{"dialed", "accepted"} {
			t.Run(tt.name+"/"+side, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					srv := bustest.Start(t)
					a, b := pair(t, srv)
					if side == "accepted" {
						a, b = b, a
					}
					if _, err := b.Write([]byte("last words")); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					tt.act(srv, b)
					got, err := io.ReadAll(a)
					if string(got) != "last words" {
						t.Errorf("read %q", got)
					}
					if errors.Is(tt.read, io.EOF) && err != nil || !errors.Is(tt.read, io.EOF) && !errors.Is(err, tt.read) {
						t.Errorf("read error = %v, want %v", err, tt.read)
					}
				})
			})
		}
	}
}

// hang makes one end deaf and mute without a farewell.
func hang(c *Conn) {
	c.mu.Lock()
	c.ticker.Stop()
	c.mu.Unlock()
}

func TestWriteToClosedPeerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t, bustest.Start(t))
		b.Close()
		synctest.Wait()
		if _, err := a.Write([]byte("x")); err == nil {
			t.Error("write to a closed peer succeeded")
		}
	})
}

func TestLostFrameBreaksTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t, bustest.Start(t))
		_, _ = a.Write([]byte("one"))
		a.(*Conn).sending.Lock()
		a.(*Conn).sent++ // a frame that never arrives
		a.(*Conn).sending.Unlock()
		_, _ = a.Write([]byte("three"))
		got, err := io.ReadAll(b)
		if string(got) != "one" || !errors.Is(err, ErrBroken) {
			t.Errorf("read %q, %v", got, err)
		}
		synctest.Wait()
		if _, err := a.Write([]byte("four")); !errors.Is(err, ErrReset) {
			t.Errorf("write after the break: %v", err)
		}
	})
}

func TestHTTPOverStreams(t *testing.T) {
	srv := bustest.Start(t)
	l, err := Listen(srv.Conn(), "test.*")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	mux.HandleFunc("/who", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Context().Value(http.LocalAddrContextKey).(net.Addr).String())
	})
	mux.HandleFunc("/upgrade", func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		rw.Flush()
		io.Copy(c, rw)
	})
	server := &http.Server{Handler: mux}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	nc := srv.Conn()
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return Dial(ctx, nc, subject) },
	}}
	t.Cleanup(client.CloseIdleConnections)

	var wg sync.WaitGroup
	for range 20 { // many streams on one connection
		wg.Go(func() {
			body := strings.Repeat("troupe ", 100_000)
			resp, err := client.Post("http://node/echo", "text/plain", strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if got, err := io.ReadAll(resp.Body); err != nil || string(got) != body {
				t.Errorf("echo of %d bytes: %d, %v", len(body), len(got), err)
			}
		})
	}
	wg.Wait()
	resp, err := client.Get("http://node/who")
	if err != nil {
		t.Fatal(err)
	}
	if who, _ := io.ReadAll(resp.Body); string(who) != subject {
		t.Errorf("dialed subject seen by the listener = %q", who)
	}
	resp.Body.Close()

	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://node/upgrade", nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err = client.Do(req)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v %v", resp, err)
	}
	rwc := resp.Body.(io.ReadWriteCloser)
	io.WriteString(rwc, "ping")
	got := make([]byte, 4)
	if _, err := io.ReadFull(rwc, got); err != nil || string(got) != "ping" {
		t.Errorf("upgraded stream: %q, %v", got, err)
	}
	rwc.Close()
}

func TestNothingIsLeft(t *testing.T) {
	srv := bustest.Start(t)
	a, b := srv.Conn(), srv.Conn()
	l, err := Listen(a, subject)
	if err != nil {
		t.Fatal(err)
	}
	flush(t, a)
	before := runtime.NumGoroutine()
	for range 200 {
		c := dial(t, b)
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		go c.Write([]byte("x"))
		io.ReadFull(s, make([]byte, 1))
		s.Close()
		c.Close()
	}
	if n := b.NumSubscriptions(); n != 0 {
		t.Errorf("%d subscriptions left at the dialer", n)
	}
	for i := 0; runtime.NumGoroutine() > before+5; i++ {
		if i == 1000 {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
		runtime.Gosched()
		<-time.After(time.Millisecond)
	}
	l.(*Listener).mu.Lock()
	left := len(l.(*Listener).conns)
	l.(*Listener).mu.Unlock()
	if left != 0 {
		t.Errorf("%d streams left at the listener", left)
	}
	l.Close()
	if n := a.NumSubscriptions(); n != 0 {
		t.Errorf("%d subscriptions left at the listener", n)
	}
}
