package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/troupe-run/troupe/proxy/feed"
)

// serve starts a server on a free port of the loopback address; foreign names go to upstream.
func serve(t *testing.T, table *Table, resolv string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte(resolv), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Start(Config{Addresses: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, ResolvConf: path,
		Log: slog.New(slog.DiscardHandler)}, table)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) //nolint:usetesting // the test's context has ended
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s.Addrs()[0].String()
}

func query(t *testing.T, addr, network, name string, qtype uint16, edns uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	if edns > 0 {
		m.SetEdns0(edns, false)
	}
	r, _, err := (&dns.Client{Net: network, Timeout: 5 * time.Second}).ExchangeContext(t.Context(), m, addr)
	if err != nil {
		t.Fatalf("%s by %s: %v", name, network, err)
	}
	return r
}

// large adds a headless service of n endpoints.
func large(n int) *Table {
	u := example()
	name := feed.Name{Namespace: "default", Name: "large"}
	s := &feed.Service{Name: name, Headless: true}
	for i := range n {
		s.Endpoints = append(s.Endpoints, feed.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 244, byte(i >> 8), byte(i)}), Ready: true})
	}
	u.Services[name] = s
	t := &Table{}
	t.Apply(u)
	return t
}

func TestServerTruncatesAndServesTCP(t *testing.T) {
	t.Parallel()
	addr := serve(t, large(300), "")
	for _, tt := range []struct {
		edns uint16
		most int
	}{{0, 512}, {1000, 1000}, {65000, maxUDP}} {
		r := query(t, addr, "udp", "large.default.svc.cluster.local.", dns.TypeA, tt.edns)
		r.Compress = true // as it came
		if !r.Truncated || r.Len() > tt.most || len(r.Answer) == 0 {
			t.Errorf("offer %d: truncated %v, %d bytes, %d records", tt.edns, r.Truncated, r.Len(), len(r.Answer))
		}
		if (r.IsEdns0() != nil) != (tt.edns > 0) {
			t.Errorf("offer %d: answered with EDNS %v", tt.edns, r.IsEdns0())
		}
	}
	if r := query(t, addr, "tcp", "large.default.svc.cluster.local.", dns.TypeA, 0); r.Truncated || len(r.Answer) != 300 {
		t.Errorf("by tcp: truncated %v, %d records", r.Truncated, len(r.Answer))
	}
}

func TestServerNegativeAnswersCarryAuthority(t *testing.T) {
	t.Parallel()
	addr := serve(t, large(0), "")
	r := query(t, addr, "udp", "nobody.default.svc.cluster.local.", dns.TypeA, 0)
	if r.Rcode != dns.RcodeNameError || !r.Authoritative || len(r.Ns) != 1 || r.Ns[0].Header().Rrtype != dns.TypeSOA {
		t.Errorf("no such name:\n%v", r)
	}
	r = query(t, addr, "udp", "web.default.svc.cluster.local.", dns.TypeTXT, 0)
	if r.Rcode != dns.RcodeSuccess || len(r.Answer) != 0 || len(r.Ns) != 1 || r.Ns[0].(*dns.SOA).Serial != 42 {
		t.Errorf("no data:\n%v", r)
	}
}

func TestServerWithoutSetDoesNotDenyNames(t *testing.T) {
	t.Parallel()
	addr := serve(t, &Table{}, "")
	if r := query(t, addr, "udp", "web.default.svc.cluster.local.", dns.TypeA, 0); r.Rcode != dns.RcodeServerFailure {
		t.Errorf("got %s", dns.RcodeToString[r.Rcode])
	}
}

// parent is a resolver that knows example.com.
func parent(t *testing.T) string {
	t.Helper()
	started := make(chan struct{})
	s := &dns.Server{Addr: "127.0.0.1:0", Net: "udp", NotifyStartedFunc: func() { close(started) },
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg)
			m.SetReply(q)
			if q.Question[0].Name == "www.example.com." {
				rr, _ := dns.NewRR("www.example.com. 60 IN A 192.0.2.53")
				m.Answer = []dns.RR{rr}
			} else {
				m.Rcode = dns.RcodeNameError
			}
			_ = w.WriteMsg(m)
		})}
	go func() { _ = s.ListenAndServe() }()
	<-started
	t.Cleanup(func() { _ = s.Shutdown() })
	return s.PacketConn.LocalAddr().String()
}

// elsewhere asks one fixed resolver, for resolv.conf knows no ports.
type elsewhere struct{ addr string }

func (e elsewhere) exchange(ctx context.Context, m *dns.Msg, network string) (*dns.Msg, error) {
	r, _, err := (&dns.Client{Net: network}).ExchangeContext(ctx, m, e.addr)
	return r, err
}

func TestHandlerForwards(t *testing.T) {
	t.Parallel()
	h := &handler{zone: exampleZone(), upstream: elsewhere{parent(t)}, slots: make(chan struct{}, 8), ctx: t.Context(), log: slog.New(slog.DiscardHandler)}
	ask := func(name string) *dns.Msg {
		q := new(dns.Msg)
		q.SetQuestion(name, dns.TypeA)
		r := h.respond(q, "udp")
		if r.Id != q.Id || !r.Response || !r.RecursionAvailable && !strings.Contains(name, "example") {
			t.Errorf("%s: header %v", name, r.MsgHdr)
		}
		return r
	}
	want := []string{"www.example.com. A 192.0.2.53"}
	if diff := cmp.Diff(want, texts(ask("www.example.com.").Answer)); diff != "" {
		t.Errorf("foreign name (-want +got):\n%s", diff)
	}
	if r := ask("no.example.com."); r.Rcode != dns.RcodeNameError {
		t.Errorf("foreign name that does not exist: %s", dns.RcodeToString[r.Rcode])
	}
	want = []string{"alias.default.svc.cluster.local. CNAME www.example.com.", "www.example.com. A 192.0.2.53"}
	if diff := cmp.Diff(want, texts(ask("alias.default.svc.cluster.local.").Answer)); diff != "" {
		t.Errorf("alias (-want +got):\n%s", diff)
	}
}

func TestResolversLeaveOurselvesOut(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string, at time.Time) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	r := &resolvers{path: path, own: addrs("10.96.0.10")}
	if _, err := r.servers(); err == nil {
		t.Error("no file: no error")
	}
	start := time.Unix(1e9, 0)
	write("nameserver 10.96.0.10\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n", start)
	got, err := r.servers()
	if diff := cmp.Diff([]string{"192.0.2.1:53", "[2001:db8::1]:53"}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	write("nameserver 10.96.0.10\n", start.Add(time.Hour))
	fresh, err := r.reread(r.known.Load(), start)
	if err != nil || len(fresh.servers) != 0 {
		t.Errorf("after a change: %v, %v", fresh, err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	h := &handler{zone: exampleZone(), upstream: elsewhere{}, ctx: t.Context(), log: slog.New(slog.DiscardHandler)}
	ask := func(change func(*dns.Msg)) int {
		q := new(dns.Msg)
		q.SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
		change(q)
		return h.guarded(q, "udp").Rcode
	}
	for want, change := range map[int]func(*dns.Msg){
		dns.RcodeSuccess:        func(*dns.Msg) {},
		dns.RcodeNotImplemented: func(q *dns.Msg) { q.Opcode = dns.OpcodeUpdate },
		dns.RcodeFormatError:    func(q *dns.Msg) { q.Question = nil },
		dns.RcodeRefused:        func(q *dns.Msg) { q.Question[0].Qclass = dns.ClassCHAOS },
		dns.RcodeBadVers:        func(q *dns.Msg) { q.SetEdns0(1232, false); q.IsEdns0().SetVersion(1) },
		dns.RcodeServerFailure:  func(q *dns.Msg) { q.Question[0].Name = "example.com." }, // no place to forward
	} {
		if got := ask(change); got != want {
			t.Errorf("got %s, want %s", dns.RcodeToString[got], dns.RcodeToString[want])
		}
	}
}

// FuzzRespond feeds what may come from the network to the whole path of a query: nothing but an
// answer that can be packed within its limit may come out.
func FuzzRespond(f *testing.F) {
	for _, name := range []string{"web.default.svc.cluster.local.", "20.0.96.10.in-addr.arpa.", "_http._tcp.pets.default.svc.cluster.local.", "1-2-3-4.default.pod.cluster.local.", "."} {
		q := new(dns.Msg)
		q.SetQuestion(name, dns.TypeSRV)
		b, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	zone := exampleZone()
	f.Fuzz(func(t *testing.T, b []byte) {
		q := new(dns.Msg)
		if q.Unpack(b) != nil {
			return
		}
		h := &handler{zone: zone, upstream: nowhere{}, slots: make(chan struct{}, 1), ctx: t.Context(), log: slog.New(slog.DiscardHandler)}
		out, err := fit(h.respond(q, "udp"), q, "udp").Pack()
		if err == nil && len(out) > maxUDP {
			t.Errorf("%d bytes", len(out))
		}
		if err != nil && len(q.Question) == 1 && zone.owns(strings.ToLower(q.Question[0].Name)) {
			t.Errorf("cannot be packed: %v", err)
		}
	})
}

type nowhere struct{}

func (nowhere) exchange(context.Context, *dns.Msg, string) (*dns.Msg, error) {
	return nil, fmt.Errorf("there is no network in this test")
}

func BenchmarkAnswer(b *testing.B) {
	h := &handler{zone: exampleZone(), upstream: nowhere{}, ctx: b.Context(), log: slog.New(slog.DiscardHandler)}
	q := new(dns.Msg)
	q.SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
	for b.Loop() {
		if m := h.respond(q, "udp"); len(m.Answer) != 1 {
			b.Fatal(m)
		}
	}
}
