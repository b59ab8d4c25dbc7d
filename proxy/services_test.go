package proxy

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/troupe-run/troupe/proxy/feed"
)

func TestServicesOfANamespace(t *testing.T) {
	name := func(ns, n string) feed.Name { return feed.Name{Namespace: ns, Name: n} }
	svc := func(n feed.Name) *feed.Service {
		return &feed.Service{Name: n, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.20")}, Ports: []feed.Port{{Name: "http", Protocol: feed.TCP, Port: 80}}}
	}
	a, b, other, headless := name("one", "a"), name("one", "b"), name("two", "c"), name("one", "headless")
	var s services
	apply := func(reset bool, changes map[feed.Name]*feed.Service) {
		s.apply(feed.Update{Reset: reset, Services: changes})
	}
	want := func(ns string, names ...string) {
		t.Helper()
		var got []string
		for _, svc := range s.in(ns) {
			got = append(got, svc.Name)
		}
		if diff := cmp.Diff(names, got); diff != "" {
			t.Errorf("services of %s (-want +got):\n%s", ns, diff)
		}
	}
	want("one")
	apply(true, map[feed.Name]*feed.Service{b: svc(b), a: svc(a), other: svc(other), headless: {Name: headless, Headless: true}})
	want("one", "a", "b")
	want("two", "c")
	if got := s.in("two")[0]; got.Spec.ClusterIP != "10.96.0.20" || got.Spec.Ports[0].Port != 80 {
		t.Errorf("restored: %v", got.Spec)
	}
	apply(false, map[feed.Name]*feed.Service{a: nil})
	want("one", "b")
	apply(true, map[feed.Name]*feed.Service{b: svc(b)})
	want("two")
	want("one", "b")
}
