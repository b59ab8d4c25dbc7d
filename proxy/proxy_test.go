package proxy_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/actors/proxyfeed"
	"github.com/troupe-run/troupe/actors/stage/stagetest"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/messages/bustest"
	"github.com/troupe-run/troupe/proxy"
	"github.com/troupe-run/troupe/proxy/netlab"
)

func TestMain(m *testing.M) { netlab.Main(m) }

// pod makes a namespace with one address behind the bridge and answers TCP on port 8080 there.
func pod(t *testing.T, name, ip string) {
	t.Helper()
	netlab.Run(t, strings.NewReplacer("POD", name, "IP", ip).Replace(`
		ip netns add POD
		ip link add vPOD type veth peer name eth0 netns POD
		ip link set vPOD master troupe0
		ip link set vPOD up
		ip link set vPOD type bridge_slave hairpin on
		ip -n POD addr add IP/24 dev eth0
		ip -n POD link set eth0 up
		ip -n POD link set lo up
		ip -n POD route add default via 10.244.0.1
	`))
	t.Cleanup(func() { netlab.Run(t, "ip link del v"+name+"\nip netns del "+name) })
	var l net.Listener
	netlab.In(t, name, func() {
		var err error
		if l, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp4", ip+":8080"); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, name)
			conn.Close()
		}
	}()
}

// fetch connects from a namespace and returns what it is told; an error is told, too.
func fetch(t *testing.T, ns, to string) string {
	t.Helper()
	var conn net.Conn
	var err error
	netlab.In(t, ns, func() { conn, err = (&net.Dialer{Timeout: time.Second}).Dial("tcp4", to) })
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	b, err := io.ReadAll(conn)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// resolve asks the cluster's DNS from a namespace.
func resolve(t *testing.T, ns, network, name string) string {
	t.Helper()
	var conn net.Conn
	var err error
	netlab.In(t, ns, func() { conn, err = (&net.Dialer{Timeout: time.Second}).Dial(network, "10.96.0.10:53") })
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	q := new(dns.Msg)
	q.SetQuestion(name, dns.TypeA)
	r, _, err := (&dns.Client{Net: network}).ExchangeWithConn(q, &dns.Conn{Conn: conn})
	switch {
	case err != nil:
		return err.Error()
	case len(r.Answer) == 0:
		return dns.RcodeToString[r.Rcode]
	}
	return r.Answer[0].(*dns.A).A.String()
}

// eventually waits until get returns want.
func eventually(t *testing.T, want string, get func() string) {
	t.Helper()
	var got string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if got = get(); got == want {
			return
		}
	}
	t.Fatalf("got %q, want %q", got, want)
}

func TestProxyServesAServiceEndToEnd(t *testing.T) {
	netlab.Need(t, "iptables", "iptables-save", "iptables-restore")
	netlab.Run(t, `
		sysctl -qw net.ipv4.ip_forward=1
		ip link add troupe0 type bridge
		ip addr add 10.244.0.1/24 dev troupe0
		ip link set troupe0 up
		ip route add default via 10.244.0.254
	`)
	pod(t, "a", "10.244.0.11")
	pod(t, "b", "10.244.0.12")
	before := state(t)

	bus, sys := bustest.Start(t), stagetest.New(t)
	store := objectstest.New(clock.RealClock{})
	store.Serve(messages.Services, messages.EndpointSlices, messages.Namespaces)
	log := slog.New(slog.DiscardHandler)
	pid, err := sys.Spawn(proxyfeed.Props(proxyfeed.Config{Conn: bus.Conn(), Region: "local", Reader: store, Feed: store, Log: log}), "proxyfeed")
	if err != nil {
		t.Fatal(err)
	}
	control := proxyfeed.At(sys, pid)

	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolv, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := proxy.Config{Stage: sys, Conn: bus.Conn(), Region: "local", Node: "node-1", ResolvConf: resolv,
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
		Bridge: "troupe0", Log: log}
	p, err := proxy.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}

	store.Put(&corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: "default"}},
		web(), slice("10.244.0.11"))
	for _, ns := range []string{"", "a", "b"} {
		eventually(t, "a", func() string { return fetch(t, ns, "10.96.0.20:80") })
		eventually(t, "10.96.0.20", func() string { return resolve(t, ns, "udp", "web.default.svc.cluster.local.") })
		eventually(t, "10.96.0.20", func() string { return resolve(t, ns, "tcp", "web.default.svc.cluster.local.") })
	}
	eventually(t, "NXDOMAIN", func() string { return resolve(t, "a", "udp", "nobody.default.svc.cluster.local.") })
	eventually(t, "SERVFAIL", func() string { return resolve(t, "a", "udp", "www.example.com.") })

	// A drain: once the revision without the endpoint is applied, nobody reaches it any more.
	store.Put(slice("10.244.0.12"))
	now := objectstest.Must[*discoveryv1.EndpointSlice](t, store, objectstest.KeyOf(slice()))
	var rev uint64
	if _, err := fmt.Sscan(now.ResourceVersion, &rev); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := control.WaitApplied(ctx, rev); err != nil {
		t.Fatal(err)
	}
	if got := fetch(t, "", "10.96.0.20:80"); got != "b" {
		t.Errorf("after the drain %s answered", got)
	}
	if p.Applied() < rev {
		t.Errorf("applied %d, want at least %d", p.Applied(), rev)
	}

	// Services work while troupe restarts, and the next proxy takes over.
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := fetch(t, "a", "10.96.0.20:80"); got != "b" {
		t.Errorf("while the proxy is down %s answered", got)
	}
	cfg.Conn = bus.Conn()
	if p, err = proxy.Start(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "10.96.0.20", func() string { return resolve(t, "a", "udp", "web.default.svc.cluster.local.") })

	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := proxy.Remove(t.Context(), "", log); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(before, state(t)); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
}

func web() *corev1.Service {
	return &corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.20", Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080}}}}
}

func slice(addrs ...string) *discoveryv1.EndpointSlice {
	port, name, node := int32(8080), "http", "node-1"
	s := &discoveryv1.EndpointSlice{TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}}}
	for _, a := range addrs {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}, NodeName: &node})
	}
	return s
}

// state is what a proxy may leave behind: rules, interfaces, addresses.
func state(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	for _, words := range [][]string{{"iptables-save", "-t", "nat"}, {"iptables-save", "-t", "filter"}} {
		for line := range strings.Lines(netlab.Output(t, words...)) {
			if strings.HasPrefix(line, "-A") || strings.HasPrefix(line, ":TROUPE") {
				out.WriteString(line)
			}
		}
	}
	out.WriteString(netlab.Output(t, "ip", "-br", "addr"))
	out.WriteString(netlab.Output(t, "sysctl", "net.ipv4.conf.all.route_localnet"))
	return out.String()
}
