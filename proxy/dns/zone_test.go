package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/troupe-run/troupe/proxy/feed"
)

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

// example is the set all tests ask about.
func example() feed.Update {
	u := feed.Update{Reset: true, Revision: 42, Namespaces: map[string]bool{"default": true, "empty": true}, Services: map[feed.Name]*feed.Service{}}
	add := func(name string, s feed.Service) {
		s.Name = feed.Name{Namespace: "default", Name: name}
		u.Services[s.Name] = &s
	}
	http := feed.Port{Name: "http", Protocol: feed.TCP, Port: 80}
	add("web", feed.Service{ClusterIPs: addrs("10.96.0.20", "fd00:96::20"),
		Ports: []feed.Port{http, {Name: "metrics", Protocol: feed.UDP, Port: 9100}}})
	add("unnamed", feed.Service{ClusterIPs: addrs("10.96.0.21"), Ports: []feed.Port{{Protocol: feed.TCP, Port: 80}}})
	target := []feed.Port{{Name: "http", Protocol: feed.TCP, Port: 8080}}
	pets := []feed.Endpoint{
		{Addr: netip.MustParseAddr("10.244.1.1"), Hostname: "Pet-0", Ready: true, Ports: target},
		{Addr: netip.MustParseAddr("10.244.1.2"), Hostname: "pet-1", Ready: true, Ports: target},
		{Addr: netip.MustParseAddr("10.244.1.3"), Ready: true, Ports: target},
		{Addr: netip.MustParseAddr("10.244.1.4"), Hostname: "pet-3", Serving: true, Ports: target},
	}
	add("pets", feed.Service{Headless: true, Ports: []feed.Port{http}, Endpoints: pets})
	add("eager", feed.Service{Headless: true, Ports: []feed.Port{http}, Endpoints: pets[3:], PublishNotReady: true})
	add("sleepy", feed.Service{Headless: true, Ports: []feed.Port{http}, Endpoints: pets[3:]})
	add("alias", feed.Service{ExternalName: "www.example.com"})
	add("inner-alias", feed.Service{ExternalName: "web.default.svc.cluster.local"})
	add("self-alias", feed.Service{ExternalName: "self-alias.default.svc.cluster.local."})
	return u
}

func exampleZone() *zone {
	t := &Table{}
	t.Apply(example())
	return &zone{table: t, domain: "cluster.local.", self: addrs("10.96.0.10"),
		networks: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:96::/112")}}
}

// texts spells records without header, sorted: the order of answers is random on purpose.
func texts(rrs []dns.RR) []string {
	out := []string{}
	for _, rr := range rrs {
		h := rr.Header()
		out = append(out, fmt.Sprintf("%s %s %s", h.Name, dns.TypeToString[h.Rrtype], strings.TrimPrefix(rr.String(), h.String())))
	}
	slices.Sort(out)
	return out
}

func TestZone(t *testing.T) {
	const missing, nothing = "NXDOMAIN", "NODATA"
	one := func(s ...string) []string { return s }
	tests := []struct {
		name, query string
		qtype       uint16
		want        []string
	}{
		{"schema version", "dns-version.cluster.local.", dns.TypeTXT, one(`dns-version.cluster.local. TXT "1.1.0"`)},
		{"schema version, other type", "dns-version.cluster.local.", dns.TypeA, one(nothing)},
		{"cluster IP", "web.default.svc.cluster.local.", dns.TypeA, one("web.default.svc.cluster.local. A 10.96.0.20")},
		{"cluster IP, version 6", "web.default.svc.cluster.local.", dns.TypeAAAA, one("web.default.svc.cluster.local. AAAA fd00:96::20")},
		{"no address of that family", "unnamed.default.svc.cluster.local.", dns.TypeAAAA, one(nothing)},
		{"other type of a service", "web.default.svc.cluster.local.", dns.TypeMX, one(nothing)},
		{"case does not matter and is kept", "WEB.default.SVC.cluster.LOCAL.", dns.TypeA, one("WEB.default.SVC.cluster.LOCAL. A 10.96.0.20")},
		{"port", "_http._tcp.web.default.svc.cluster.local.", dns.TypeSRV, one("_http._tcp.web.default.svc.cluster.local. SRV 0 100 80 web.default.svc.cluster.local.")},
		{"port of another protocol", "_metrics._udp.web.default.svc.cluster.local.", dns.TypeSRV, one("_metrics._udp.web.default.svc.cluster.local. SRV 0 100 9100 web.default.svc.cluster.local.")},
		{"port under the wrong protocol", "_http._udp.web.default.svc.cluster.local.", dns.TypeSRV, one(missing)},
		{"port, other type", "_http._tcp.web.default.svc.cluster.local.", dns.TypeA, one(nothing)},
		{"above ports", "_tcp.web.default.svc.cluster.local.", dns.TypeSRV, one(nothing)},
		{"unnamed port", "_._tcp.unnamed.default.svc.cluster.local.", dns.TypeSRV, one(missing)},
		{"pointer", "20.0.96.10.in-addr.arpa.", dns.TypePTR, one("20.0.96.10.in-addr.arpa. PTR web.default.svc.cluster.local.")},
		{"pointer, version 6", "0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR,
			one("0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa. PTR web.default.svc.cluster.local.")},
		{"pointer to nobody", "99.0.96.10.in-addr.arpa.", dns.TypePTR, one(missing)},
		{"headless", "pets.default.svc.cluster.local.", dns.TypeA, one("pets.default.svc.cluster.local. A 10.244.1.1",
			"pets.default.svc.cluster.local. A 10.244.1.2", "pets.default.svc.cluster.local. A 10.244.1.3")},
		{"headless, no address of that family", "pets.default.svc.cluster.local.", dns.TypeAAAA, one(nothing)},
		{"endpoint by host name", "pet-0.pets.default.svc.cluster.local.", dns.TypeA, one("pet-0.pets.default.svc.cluster.local. A 10.244.1.1")},
		{"endpoint by address", "10-244-1-3.pets.default.svc.cluster.local.", dns.TypeA, one("10-244-1-3.pets.default.svc.cluster.local. A 10.244.1.3")},
		{"endpoint that has a host name by address", "10-244-1-1.pets.default.svc.cluster.local.", dns.TypeA, one(missing)},
		{"endpoint that is not ready", "pet-3.pets.default.svc.cluster.local.", dns.TypeA, one(missing)},
		{"endpoint of a service with cluster IP", "pet-0.web.default.svc.cluster.local.", dns.TypeA, one(missing)},
		{"ports of endpoints", "_http._tcp.pets.default.svc.cluster.local.", dns.TypeSRV, one(
			"_http._tcp.pets.default.svc.cluster.local. SRV 0 100 8080 10-244-1-3.pets.default.svc.cluster.local.",
			"_http._tcp.pets.default.svc.cluster.local. SRV 0 100 8080 pet-0.pets.default.svc.cluster.local.",
			"_http._tcp.pets.default.svc.cluster.local. SRV 0 100 8080 pet-1.pets.default.svc.cluster.local.")},
		{"pointer to an endpoint", "1.1.244.10.in-addr.arpa.", dns.TypePTR, one("1.1.244.10.in-addr.arpa. PTR pet-0.pets.default.svc.cluster.local.")},
		{"headless without ready endpoints", "sleepy.default.svc.cluster.local.", dns.TypeA, one(missing)},
		{"headless that publishes what is not ready", "eager.default.svc.cluster.local.", dns.TypeA, one("eager.default.svc.cluster.local. A 10.244.1.4")},
		{"external name", "alias.default.svc.cluster.local.", dns.TypeA, one("alias.default.svc.cluster.local. CNAME www.example.com.", "-> www.example.com.")},
		{"external name itself", "alias.default.svc.cluster.local.", dns.TypeCNAME, one("alias.default.svc.cluster.local. CNAME www.example.com.")},
		{"external name inside the cluster", "inner-alias.default.svc.cluster.local.", dns.TypeA, one(
			"inner-alias.default.svc.cluster.local. CNAME web.default.svc.cluster.local.", "web.default.svc.cluster.local. A 10.96.0.20")},
		{"pod", "10-244-1-9.default.pod.cluster.local.", dns.TypeA, one("10-244-1-9.default.pod.cluster.local. A 10.244.1.9")},
		{"pod, version 6", "fd00--1.default.pod.cluster.local.", dns.TypeAAAA, one("fd00--1.default.pod.cluster.local. AAAA fd00::1")},
		{"pod, other family", "10-244-1-9.default.pod.cluster.local.", dns.TypeAAAA, one(nothing)},
		{"pod that is no address", "10-244-1.default.pod.cluster.local.", dns.TypeA, one(missing)},
		{"pod of no namespace", "10-244-1-9.nowhere.pod.cluster.local.", dns.TypeA, one(missing)},
		{"no such service", "nobody.default.svc.cluster.local.", dns.TypeA, one(missing)},
		{"namespace", "empty.svc.cluster.local.", dns.TypeA, one(nothing)},
		{"no such namespace", "nowhere.svc.cluster.local.", dns.TypeA, one(missing)},
		{"top of services", "svc.cluster.local.", dns.TypeA, one(nothing)},
		{"too deep", "a.b.c.web.default.svc.cluster.local.", dns.TypeA, one(missing)},
		{"foreign name searched here", "www.example.com.default.svc.cluster.local.", dns.TypeA, one(missing)},
		{"apex", "cluster.local.", dns.TypeNS, one("cluster.local. NS ns.dns.cluster.local.")},
		{"name server", "ns.dns.cluster.local.", dns.TypeA, one("ns.dns.cluster.local. A 10.96.0.10")},
		{"elsewhere in the zone", "foo.cluster.local.", dns.TypeA, one(missing)},
	}
	z := exampleZone()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !z.owns(strings.ToLower(tt.query)) {
				t.Fatalf("%s is not ours", tt.query)
			}
			r := z.answer(dns.Question{Name: tt.query, Qtype: tt.qtype, Qclass: dns.ClassINET})
			got := texts(r.answer)
			switch {
			case r.follow != "":
				got = append(got, "-> "+r.follow)
			case !r.exists:
				got = append(got, missing)
			case len(got) == 0:
				got = append(got, nothing)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestServiceRecordsCarryAddresses(t *testing.T) {
	r := exampleZone().answer(dns.Question{Name: "_http._tcp.pets.default.svc.cluster.local.", Qtype: dns.TypeSRV, Qclass: dns.ClassINET})
	want := []string{"10-244-1-3.pets.default.svc.cluster.local. A 10.244.1.3", "pet-0.pets.default.svc.cluster.local. A 10.244.1.1", "pet-1.pets.default.svc.cluster.local. A 10.244.1.2"}
	if diff := cmp.Diff(want, texts(r.extra)); diff != "" {
		t.Errorf("additional section (-want +got):\n%s", diff)
	}
}

func TestAliasOfItselfEnds(t *testing.T) {
	r := exampleZone().answer(dns.Question{Name: "self-alias.default.svc.cluster.local.", Qtype: dns.TypeA, Qclass: dns.ClassINET})
	if len(r.answer) == 0 || len(r.answer) > depth+1 {
		t.Errorf("%d records", len(r.answer))
	}
}

func TestForeignNamesAreNotOurs(t *testing.T) {
	z := exampleZone()
	for _, name := range []string{".", "example.com.", "local.", "notcluster.local.", "xcluster.local.", "1.1.168.192.in-addr.arpa.", "96.10.in-addr.arpa.", "1.1.1.244.10.in-addr.arpa."} {
		if z.owns(name) {
			t.Errorf("%s is foreign", name)
		}
	}
}

func TestTableFollowsChanges(t *testing.T) {
	z := exampleZone()
	web := feed.Name{Namespace: "default", Name: "web"}
	ask := func(name string, qtype uint16) []string {
		return texts(z.answer(dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}).answer)
	}
	z.table.Apply(feed.Update{Revision: 43, Services: map[feed.Name]*feed.Service{web: {Name: web, ClusterIPs: addrs("10.96.0.99")}}})
	if got := ask("web.default.svc.cluster.local.", dns.TypeA); len(got) != 1 || !strings.HasSuffix(got[0], "10.96.0.99") {
		t.Errorf("after the address changed: %v", got)
	}
	if got := ask("20.0.96.10.in-addr.arpa.", dns.TypePTR); len(got) != 0 {
		t.Errorf("pointer of the old address: %v", got)
	}
	z.table.Apply(feed.Update{Revision: 44, Services: map[feed.Name]*feed.Service{web: nil}, Namespaces: map[string]bool{"empty": false}})
	for _, name := range []string{"web.default.svc.cluster.local.", "empty.svc.cluster.local."} {
		if r := z.answer(dns.Question{Name: name, Qtype: dns.TypeA, Qclass: dns.ClassINET}); r.exists {
			t.Errorf("%s still exists", name)
		}
	}
	z.table.Apply(feed.Update{Reset: true, Revision: 45})
	if got := ask("1.1.244.10.in-addr.arpa.", dns.TypePTR); len(got) != 0 || len(z.table.owners) != 0 {
		t.Errorf("after a reset to nothing: %v, owners %v", got, z.table.owners)
	}
}
