package rules

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/troupe-run/troupe/proxy/feed"
	"github.com/troupe-run/troupe/proxy/netlab"
)

// The laboratory: this process' namespace is the node, "a", "b" and "c" are pods on its bridge,
// "out" is a machine outside that is also the default route and, like a captive network, answers
// on port 80 of foreign addresses and of the service network's.
const (
	podNet  = "10.244.0.0/16"
	svcNet  = "10.96.0.0/16"
	nodeIP  = "192.168.77.1"
	outIP   = "192.168.77.2"
	bridge  = "troupe0"
	podPort = 8080
)

var pods = map[string]string{"a": "10.244.0.11", "b": "10.244.0.12", "c": "10.244.0.13"}

func lab(t testing.TB) {
	t.Helper()
	netlab.Need(t, "iptables", "iptables-save", "iptables-restore")
	netlab.Run(t, `
		sysctl -qw net.ipv4.ip_forward=1
		ip link add `+bridge+` type bridge
		ip addr add 10.244.0.1/24 dev `+bridge+`
		ip link set `+bridge+` up
		ip netns add out
		ip link add out0 type veth peer name eth0 netns out
		ip addr add `+nodeIP+`/24 dev out0
		ip link set out0 up
		ip -n out addr add `+outIP+`/24 dev eth0
		ip -n out link set eth0 up
		ip -n out link set lo up
		ip route add default via `+outIP+`
		ip -n out route add 10.244.0.0/16 via `+nodeIP+`
		ip -n out route add local 203.0.113.0/24 dev lo
		ip -n out route add local 10.96.0.0/16 dev lo
	`)
	t.Cleanup(func() { netlab.Run(t, "ip link del out0\nip netns del out\nip link del "+bridge) })
	answer(t, "out", net.JoinHostPort("0.0.0.0", "80"), "captive")
	for name, ip := range pods {
		netlab.Run(t, strings.NewReplacer("POD", name, "IP", ip).Replace(`
			ip netns add POD
			ip link add vPOD type veth peer name eth0 netns POD
			ip link set vPOD master `+bridge+`
			ip link set vPOD up
			ip link set vPOD type bridge_slave hairpin on
			ip -n POD addr add IP/24 dev eth0
			ip -n POD link set eth0 up
			ip -n POD link set lo up
			ip -n POD route add default via 10.244.0.1
		`))
		t.Cleanup(func() { netlab.Run(t, "ip link del v"+name+"\nip netns del "+name) })
		answer(t, name, net.JoinHostPort(ip, fmt.Sprint(podPort)), name)
	}
}

// answer serves TCP in a namespace: each connection is told "<name> <client address>".
func answer(t testing.TB, ns, addr, name string) {
	t.Helper()
	var l net.Listener
	var err error
	netlab.In(t, ns, func() { l, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp4", addr) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			from, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			fmt.Fprintf(conn, "%s %s", name, from)
			conn.Close()
		}
	}()
}

// call connects from a namespace and returns who answered and whom it saw, or why not:
// "refused", "silence".
func call(t testing.TB, ns, to string) (who, from string) {
	t.Helper()
	var conn net.Conn
	var err error
	var late net.Error
	netlab.In(t, ns, func() { conn, err = (&net.Dialer{Timeout: 500 * time.Millisecond}).Dial("tcp4", to) })
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused", ""
	case errors.As(err, &late) && late.Timeout():
		return "silence", ""
	case err != nil:
		t.Fatalf("call %s from %q: %v", to, ns, err)
	}
	defer conn.Close()
	text, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("call %s from %q: %v", to, ns, err)
	}
	who, from, _ = strings.Cut(string(text), " ")
	return who, from
}

// callers calls n times and returns how often each one answered.
func callers(t testing.TB, ns, to string, n int) map[string]int {
	t.Helper()
	out := make(map[string]int)
	for range n {
		who, _ := call(t, ns, to)
		out[who]++
	}
	return out
}

// service is a service of one TCP port "http" 80 on pods that are ready.
func service(name, ip string, change func(*feed.Service), backends ...string) *feed.Service {
	s := &feed.Service{Name: feed.Name{Namespace: "default", Name: name},
		Ports: []feed.Port{{Name: "http", Protocol: feed.TCP, Port: 80}}}
	if ip != "" {
		s.ClusterIPs = []netip.Addr{netip.MustParseAddr(ip)}
	}
	for _, pod := range backends {
		s.Endpoints = append(s.Endpoints, feed.Endpoint{Addr: netip.MustParseAddr(pods[pod]), Node: "node-1",
			Ready: true, Serving: true, Ports: []feed.Port{{Name: "http", Protocol: feed.TCP, Port: podPort}}})
	}
	if change != nil {
		change(s)
	}
	return s
}

func everything(services ...*feed.Service) feed.Update {
	u := feed.Update{Reset: true, Services: make(map[feed.Name]*feed.Service)}
	for _, s := range services {
		u.Services[s.Name] = s
	}
	return u
}

func config() IptablesConfig {
	return IptablesConfig{Node: "node-1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix(podNet)},
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix(svcNet)}, Bridge: bridge, Log: slog.New(slog.DiscardHandler)}
}

func backend(t testing.TB) *Iptables {
	t.Helper()
	b, err := NewIptables(config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Remove(context.Background()); err != nil { //nolint:usetesting // the test's context has ended
			t.Error(err)
		}
	})
	return b
}

func write(t testing.TB, b *Iptables, u feed.Update) {
	t.Helper()
	if err := b.Sync(t.Context(), u); err != nil {
		t.Fatal(err)
	}
}

func wantCall(t testing.TB, ns, to, who string) string {
	t.Helper()
	got, from := call(t, ns, to)
	if got != who {
		t.Errorf("%s called from %q: got %s, want %s", to, ns, got, who)
	}
	return from
}

func TestKernelServesServices(t *testing.T) {
	lab(t)
	b := backend(t)
	nodePort := func(s *feed.Service) { s.Ports[0].NodePort = 30080 }
	write(t, b, everything(
		service("one", "10.96.0.20", nodePort, "a"),
		service("two", "10.96.0.21", nil, "a", "b"),
		service("sticky", "10.96.0.22", func(s *feed.Service) { s.Affinity = time.Hour }, "a", "b", "c"),
		service("empty", "10.96.0.23", func(s *feed.Service) { s.Ports[0].NodePort = 30081 }),
		service("away", "10.96.0.24", func(s *feed.Service) {
			s.InternalLocal, s.ExternalLocal, s.Ports[0].NodePort = true, true, 30082
			s.Endpoints[0].Node = "node-2"
		}, "a"),
		service("near", "10.96.0.25", func(s *feed.Service) {
			s.InternalLocal, s.ExternalLocal, s.Ports[0].NodePort = true, true, 30083
			s.Endpoints[0].Node = "node-2"
		}, "a", "b"),
		service("migrated", "10.97.0.20", nil, "a"), // of a network that is none any more
		service("idle", "10.97.0.21", nil),
		service("public", "10.96.0.26", func(s *feed.Service) {
			s.ExternalIPs = []netip.Addr{netip.MustParseAddr("198.51.100.7")}
		}, "c"),
		service("leaving", "10.96.0.27", func(s *feed.Service) {
			s.Endpoints[0].Ready, s.Endpoints[0].Terminating = false, true
			s.Endpoints[1].Ready, s.Endpoints[1].Serving, s.Endpoints[1].Terminating = false, false, true
		}, "a", "b"),
	))

	t.Run("cluster IP from the node", func(t *testing.T) { wantCall(t, "", "10.96.0.20:80", "a") })
	t.Run("cluster IP from a pod keeps the pod's address", func(t *testing.T) {
		if from := wantCall(t, "b", "10.96.0.20:80", "a"); from != pods["b"] {
			t.Errorf("endpoint saw %s, want %s", from, pods["b"])
		}
	})
	t.Run("cluster IP from outside is masqueraded", func(t *testing.T) {
		netlab.Run(t, "ip -n out route add 10.97.0.20 via "+nodeIP)
		if from := wantCall(t, "out", "10.97.0.20:80", "a"); from != "10.244.0.1" {
			t.Errorf("endpoint saw %s, want the node", from)
		}
	})
	t.Run("hairpin", func(t *testing.T) {
		if from := wantCall(t, "a", "10.96.0.20:80", "a"); from != "10.244.0.1" {
			t.Errorf("endpoint saw %s, want the node", from)
		}
	})
	t.Run("spread", func(t *testing.T) {
		if got := callers(t, "c", "10.96.0.21:80", 40); got["a"] < 5 || got["b"] < 5 || got["a"]+got["b"] != 40 {
			t.Errorf("answers: %v", got)
		}
	})
	t.Run("affinity", func(t *testing.T) {
		if got := callers(t, "", "10.96.0.22:80", 20); len(got) != 1 {
			t.Errorf("answers: %v", got)
		}
	})
	t.Run("node port from outside, from the node, on the loopback address, from a pod", func(t *testing.T) {
		for ns, to := range map[string]string{"out": nodeIP, "": nodeIP, "b": nodeIP, "a": "10.244.0.1"} {
			wantCall(t, ns, to+":30080", "a")
		}
		wantCall(t, "", "127.0.0.1:30080", "a")
	})
	t.Run("no endpoints", func(t *testing.T) {
		for _, ns := range []string{"", "a"} {
			wantCall(t, ns, "10.96.0.23:80", "refused")
			wantCall(t, ns, nodeIP+":30081", "refused")
		}
		wantCall(t, "out", nodeIP+":30081", "refused")
	})
	t.Run("addresses and ports nobody serves", func(t *testing.T) {
		wantCall(t, "", "203.0.113.9:80", "captive") // the trap is set
		for _, ns := range []string{"", "a"} {
			wantCall(t, ns, "10.96.77.77:80", "refused")
			wantCall(t, ns, "10.96.0.20:81", "refused")
			wantCall(t, ns, "10.97.0.21:80", "refused")
		}
	})
	t.Run("endpoints elsewhere only, policy Local", func(t *testing.T) {
		wantCall(t, "b", "10.96.0.24:80", "silence")
		wantCall(t, "out", nodeIP+":30082", "silence")
		wantCall(t, "b", nodeIP+":30082", "a") // pods are inside: the policy is not about them
	})
	t.Run("endpoint here, policy Local", func(t *testing.T) {
		if got := callers(t, "c", "10.96.0.25:80", 10); got["b"] != 10 {
			t.Errorf("answers: %v", got)
		}
		if from := wantCall(t, "out", nodeIP+":30083", "b"); from != outIP {
			t.Errorf("endpoint saw %s, want the client %s", from, outIP)
		}
	})
	t.Run("external IP", func(t *testing.T) {
		wantCall(t, "", "198.51.100.7:80", "c")
		netlab.Run(t, "ip -n out route add 198.51.100.7 via "+nodeIP)
		wantCall(t, "out", "198.51.100.7:80", "c")
	})
	t.Run("endpoints that terminate serve when nobody else does", func(t *testing.T) {
		if got := callers(t, "c", "10.96.0.27:80", 10); got["a"] != 10 {
			t.Errorf("answers: %v", got)
		}
	})
}

func TestKernelFollowsChanges(t *testing.T) {
	lab(t)
	b := backend(t)
	two := service("web", "10.96.0.30", nil, "a", "b")
	write(t, b, everything(two))
	change := func(s *feed.Service) {
		t.Helper()
		write(t, b, feed.Update{Services: map[feed.Name]*feed.Service{two.Name: s}})
	}

	change(service("web", "10.96.0.30", nil, "b"))
	if got := callers(t, "c", "10.96.0.30:80", 10); got["b"] != 10 {
		t.Errorf("after an endpoint left: %v", got)
	}
	change(service("web", "10.96.0.31", nil, "b"))
	wantCall(t, "c", "10.96.0.30:80", "refused")
	wantCall(t, "c", "10.96.0.31:80", "b")
	change(nil)
	wantCall(t, "c", "10.96.0.31:80", "refused")
}

func TestSecondSyncWritesNothing(t *testing.T) {
	lab(t)
	set := everything(
		service("plain", "10.96.0.40", func(s *feed.Service) { s.Ports[0].NodePort = 30090 }, "a", "b", "c"),
		service("sticky", "10.96.0.41", func(s *feed.Service) { s.Affinity = 3 * time.Hour }, "a", "b", "c"),
		service("empty", "10.96.0.42", func(s *feed.Service) { s.Ports[0].NodePort = 30091 }),
		service("local", "10.96.0.43", func(s *feed.Service) {
			s.InternalLocal, s.ExternalLocal, s.Ports[0].NodePort = true, true, 30092
			s.Endpoints[0].Node = "node-2"
			s.ExternalIPs = []netip.Addr{netip.MustParseAddr("198.51.100.9")}
		}, "a"),
	)
	first := backend(t)
	write(t, first, set)
	before := saved(t)

	write(t, first, set)
	if err := first.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := backend(t) // as after a crash: it knows only what the kernel tells it
	write(t, second, set)
	if second.families[0].written != 0 {
		t.Errorf("a new process wrote %d chains that were right", second.families[0].written)
	}
	if diff := cmp.Diff(before, saved(t)); diff != "" {
		t.Errorf("rules changed:\n%s", diff)
	}
}

func TestNewProcessRemovesStaleRules(t *testing.T) {
	lab(t)
	write(t, backend(t), everything(service("old", "10.96.0.50", nil, "a"), service("kept", "10.96.0.51", nil, "b")))
	second := backend(t)
	write(t, second, everything(service("kept", "10.96.0.51", nil, "b")))
	wantCall(t, "c", "10.96.0.50:80", "refused")
	wantCall(t, "c", "10.96.0.51:80", "b")
	if rules := saved(t); strings.Contains(rules, "default/old") || strings.Contains(rules, "10.96.0.50") {
		t.Errorf("rules of a service that is gone:\n%s", rules)
	}
}

func TestVerifyMendsWhatOthersBroke(t *testing.T) {
	lab(t)
	b := backend(t)
	write(t, b, everything(service("web", "10.96.0.60", nil, "a")))
	netlab.Run(t, "iptables -t nat -F\niptables -t filter -D FORWARD 1")
	wantCall(t, "c", "10.96.0.60:80", "captive") // nothing is left of us
	if err := b.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantCall(t, "c", "10.96.0.60:80", "a")
	wantCall(t, "c", "10.96.0.61:80", "refused")
}

func TestRemoveLeavesNoTrace(t *testing.T) {
	lab(t)
	// Other people's chains stay, also those of other parts of troupe.
	netlab.Run(t, "iptables -t nat -N TROUPE-POSTROUTING\niptables -t nat -A POSTROUTING -j TROUPE-POSTROUTING")
	t.Cleanup(func() {
		netlab.Run(t, "iptables -t nat -D POSTROUTING -j TROUPE-POSTROUTING\niptables -t nat -X TROUPE-POSTROUTING")
	})
	before, sysctlBefore := saved(t), netlab.Output(t, "sysctl", "-n", "net.ipv4.conf.all.route_localnet")
	b := backend(t)
	write(t, b, everything(service("web", "10.96.0.70", func(s *feed.Service) { s.Ports[0].NodePort = 30070 }, "a", "b")))
	if saved(t) == before {
		t.Fatal("nothing was written")
	}
	other := backend(t) // removal is another process' business, too
	for range 2 {
		if err := other.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(before, saved(t)); diff != "" {
		t.Errorf("left behind:\n%s", diff)
	}
	if got := netlab.Output(t, "sysctl", "-n", "net.ipv4.conf.all.route_localnet"); got != sysctlBefore {
		t.Errorf("route_localnet is %q, was %q", got, sysctlBefore)
	}
}

func TestStaleUDPConversationsAreForgotten(t *testing.T) {
	lab(t)
	b := backend(t)
	udp := func(s *feed.Service) {
		s.Ports[0].Protocol = feed.UDP
		for i := range s.Endpoints {
			s.Endpoints[i].Ports = []feed.Port{{Name: "http", Protocol: feed.UDP, Port: podPort}}
		}
	}
	for _, pod := range []string{"a", "b"} {
		var conn net.PacketConn
		netlab.In(t, pod, func() {
			var err error
			if conn, err = net.ListenPacket("udp4", fmt.Sprintf("%s:%d", pods[pod], podPort)); err != nil {
				t.Fatal(err)
			}
		})
		t.Cleanup(func() { conn.Close() })
		go func() {
			buf := make([]byte, 16)
			for {
				_, from, err := conn.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = conn.WriteTo([]byte(pod), from)
			}
		}()
	}
	write(t, b, everything(service("dns", "10.96.0.80", udp, "a")))
	var client net.Conn
	netlab.In(t, "c", func() {
		var err error
		if client, err = net.Dial("udp4", "10.96.0.80:80"); err != nil {
			t.Fatal(err)
		}
	})
	defer client.Close()
	ask := func() string {
		_ = client.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err := client.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 16)
		n, err := client.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	if got := ask(); got != "a" {
		t.Fatalf("got %s, want a", got)
	}
	write(t, b, everything(service("dns", "10.96.0.80", udp, "b")))
	if got := ask(); got != "b" {
		t.Errorf("the same socket got %s after its endpoint left, want b", got)
	}
}

// saved returns all rules without counters and dates.
func saved(t testing.TB) string {
	t.Helper()
	var out strings.Builder
	for _, table := range []string{"nat", "filter"} {
		text, err := exec.Command("iptables-save", "-t", table).Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "-A") || strings.HasPrefix(line, ":") {
				line, _, _ = strings.Cut(line, " [")
				out.WriteString(strings.TrimSpace(line) + "\n")
			}
		}
	}
	return out.String()
}

func TestIPv6IsTheSameCode(t *testing.T) {
	netlab.Need(t, "ip6tables", "ip6tables-save", "ip6tables-restore")
	cfg := config()
	cfg.ServiceCIDRs = append(cfg.ServiceCIDRs, netip.MustParsePrefix("fd00:96::/112"))
	cfg.PodCIDRs = append(cfg.PodCIDRs, netip.MustParsePrefix("fd00:244::/56"))
	set := everything(service("six", "fd00:96::20", func(s *feed.Service) {
		s.Affinity, s.Ports[0].NodePort = time.Hour, 30066
		for i := range 3 {
			s.Endpoints = append(s.Endpoints, feed.Endpoint{Addr: netip.MustParseAddr(fmt.Sprintf("fd00:244::%d", i+1)),
				Ready: true, Ports: []feed.Port{{Name: "http", Protocol: feed.TCP, Port: podPort}}})
		}
	}), service("idle", "fd00:96::21", func(s *feed.Service) { s.Ports[0].NodePort = 30067 }))
	first, err := NewIptables(cfg)
	if err != nil {
		t.Fatal(err)
	}
	write(t, first, set)
	second, err := NewIptables(cfg)
	if err != nil {
		t.Fatal(err)
	}
	write(t, second, set)
	if n := second.families[1].written; n != 0 {
		t.Errorf("a new process wrote %d chains that were right", n)
	}
	if err := second.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := netlab.Output(t, "ip6tables-save"); strings.Contains(left, "TROUPE") {
		t.Errorf("left behind:\n%s", left)
	}
}
