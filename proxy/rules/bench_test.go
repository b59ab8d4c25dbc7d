package rules

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/troupe-run/troupe/proxy/feed"
	"github.com/troupe-run/troupe/proxy/netlab"
)

// many returns n services of two endpoints each, at addresses spread as an allocator would.
func many(n int) feed.Update {
	u := feed.Update{Reset: true, Services: make(map[feed.Name]*feed.Service, n)}
	for i := range n {
		s := service(fmt.Sprintf("s-%d", i), fmt.Sprintf("10.96.%d.%d", (i*7)%256, i/256+1), nil)
		for e := range 2 {
			s.Endpoints = append(s.Endpoints, feed.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 244, byte(i / 100), byte(i%100*2 + e + 1)}),
				Node: "node-1", Ready: true, Ports: []feed.Port{{Name: "http", Protocol: feed.TCP, Port: podPort}}})
		}
		u.Services[s.Name] = s
	}
	return u
}

func BenchmarkKernelFullSync(b *testing.B) {
	netlab.Need(b, "iptables", "iptables-save", "iptables-restore")
	set := many(5000)
	for b.Loop() {
		backend := backend(b)
		write(b, backend, set)
		b.StopTimer()
		if err := backend.Remove(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkKernelAdopt(b *testing.B) {
	netlab.Need(b, "iptables", "iptables-save", "iptables-restore")
	set := many(5000)
	write(b, backend(b), set)
	for b.Loop() {
		again := backend(b)
		write(b, again, set)
		if again.families[0].written != 0 {
			b.Fatal("wrote what was there")
		}
	}
}

func BenchmarkKernelOneEndpoint(b *testing.B) {
	netlab.Need(b, "iptables", "iptables-save", "iptables-restore")
	set := many(5000)
	backend := backend(b)
	write(b, backend, set)
	full := set.Services[feed.Name{Namespace: "default", Name: "s-2500"}]
	less := *full
	less.Endpoints = less.Endpoints[:1]
	for i := 0; b.Loop(); i++ {
		s := []*feed.Service{&less, full}[i%2]
		write(b, backend, feed.Update{Services: map[feed.Name]*feed.Service{s.Name: s}})
	}
}

func BenchmarkPlanFull(b *testing.B) {
	set := many(5000)
	for b.Loop() {
		newPlan(testSettings()).update(set)
	}
}

func BenchmarkPlanOneEndpoint(b *testing.B) {
	set := many(5000)
	p := newPlan(testSettings())
	p.update(set)
	p.settle()
	full := set.Services[feed.Name{Namespace: "default", Name: "s-2500"}]
	less := *full
	less.Endpoints = less.Endpoints[:1]
	for i := 0; b.Loop(); i++ {
		s := []*feed.Service{&less, full}[i%2]
		p.update(feed.Update{Services: map[feed.Name]*feed.Service{s.Name: s}})
		p.settle()
	}
}
