package rules

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/troupe-run/troupe/proxy/feed"
)

func testSettings() settings {
	return settings{node: "node-1", pods: netip.MustParsePrefix(podNet), services: []netip.Prefix{netip.MustParsePrefix(svcNet)}}
}

// render spells what a service gets, with readable names instead of hashes.
func render(s *served) []string {
	names := make(map[string]string)
	count := make(map[string]int)
	for _, chain := range slices.SortedFunc(mapsKeys(s.own), func(a, b string) int {
		return strings.Compare(strings.Join(s.own[a], "\n"), strings.Join(s.own[b], "\n"))
	}) {
		head := chain[len("TROUPE-"):len(svcHead)]
		names[chain] = fmt.Sprintf("%s%d", head, count[head])
		count[head]++
	}
	var out []string
	add := func(chain string, rules []string) {
		for _, r := range rules {
			for long, short := range names {
				r = strings.ReplaceAll(r, long, short)
			}
			out = append(out, strings.TrimPrefix(chain, "TROUPE-")+" "+strings.ReplaceAll(r, "TROUPE-", ""))
		}
	}
	for chain, rules := range s.own {
		add(names[chain], rules)
	}
	for block, rules := range s.entries {
		add(block, rules)
	}
	add("REJECT", s.refused)
	slices.Sort(out)
	return out
}

func mapsKeys(c chains) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range c {
			if !yield(k) {
				return
			}
		}
	}
}

func TestServe(t *testing.T) {
	const comment = `-m comment --comment "default/web:http"`
	tests := []struct {
		name string
		svc  *feed.Service
		want []string
	}{
		{"one endpoint", service("web", "10.96.0.20", nil, "a"), []string{
			"IP-10.96.0.0 -d 10.96.0.20/32 -p tcp " + comment + " -m tcp --dport 80 -j SVC-0",
			"SEP-0 -p tcp -m tcp -j DNAT --to-destination 10.244.0.11:8080",
			"SEP-0 -s 10.244.0.11/32 -j PROXY-MARK",
			"SVC-0 ! -s 10.244.0.0/16 -d 10.96.0.20/32 -p tcp -m tcp --dport 80 -j PROXY-MARK",
			"SVC-0 -j SEP-0",
		}},
		{"no endpoint: the last resort speaks", service("web", "10.96.0.20", nil), nil},
		{"no endpoint, foreign address", service("web", "10.97.0.20", nil), []string{
			"REJECT -d 10.97.0.20/32 -p tcp " + comment + " -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable",
		}},
		{"headless", service("web", "", nil, "a"), nil},
		{"external name", service("web", "10.96.0.20", func(s *feed.Service) { s.ExternalName = "example.com" }, "a"), nil},
		{"unknown protocol", service("web", "10.96.0.20", func(s *feed.Service) { s.Ports[0].Protocol = "DCCP" }, "a"), nil},
		{"sctp node port", service("web", "10.96.0.20", func(s *feed.Service) {
			s.Ports[0].Protocol, s.Ports[0].NodePort = feed.SCTP, 30100
			s.Endpoints[0].Ports[0].Protocol = feed.SCTP
		}, "a"), []string{
			"EXT-0 -j PROXY-MARK", "EXT-0 -j SVC-0",
			"IP-10.96.0.0 -d 10.96.0.20/32 -p sctp " + comment + " -m sctp --dport 80 -j SVC-0",
			"PORT-SCTP-30080 -p sctp " + comment + " -m sctp --dport 30100 -j EXT-0",
			"SEP-0 -p sctp -m sctp -j DNAT --to-destination 10.244.0.11:8080",
			"SEP-0 -s 10.244.0.11/32 -j PROXY-MARK",
			"SVC-0 ! -s 10.244.0.0/16 -d 10.96.0.20/32 -p sctp -m sctp --dport 80 -j PROXY-MARK",
			"SVC-0 -j SEP-0",
		}},
		{"node port without endpoints", service("web", "10.96.0.20", func(s *feed.Service) { s.Ports[0].NodePort = 30100 }), []string{
			"REJECT -p tcp " + comment + " -m addrtype --dst-type LOCAL -m tcp --dport 30100 -j REJECT --reject-with icmp-port-unreachable",
		}},
		{"two endpoints with affinity", service("web", "10.96.0.20", func(s *feed.Service) { s.Affinity = time.Minute }, "a", "b"), []string{
			"IP-10.96.0.0 -d 10.96.0.20/32 -p tcp " + comment + " -m tcp --dport 80 -j SVC-0",
			"SEP-0 -p tcp -m recent --set --name SEP-0 --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.244.0.11:8080",
			"SEP-0 -s 10.244.0.11/32 -j PROXY-MARK",
			"SEP-1 -p tcp -m recent --set --name SEP-1 --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.244.0.12:8080",
			"SEP-1 -s 10.244.0.12/32 -j PROXY-MARK",
			"SVC-0 ! -s 10.244.0.0/16 -d 10.96.0.20/32 -p tcp -m tcp --dport 80 -j PROXY-MARK",
			"SVC-0 -j SEP-1",
			"SVC-0 -m recent --rcheck --seconds 60 --reap --name SEP-0 --mask 255.255.255.255 --rsource -j SEP-0",
			"SVC-0 -m recent --rcheck --seconds 60 --reap --name SEP-1 --mask 255.255.255.255 --rsource -j SEP-1",
			"SVC-0 -m statistic --mode random --probability 0.50000000000 -j SEP-0",
		}},
		{"policy Local, endpoint elsewhere", service("web", "10.96.0.20", func(s *feed.Service) {
			s.InternalLocal, s.Endpoints[0].Node = true, "node-2"
		}, "a"), []string{
			"REJECT -d 10.96.0.20/32 -p tcp " + comment + " -m tcp --dport 80 -j DROP",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, render(testSettings().serve(tt.svc))); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
		})
	}
}

func TestServeIPv6(t *testing.T) {
	s := settings{ipv6: true, node: "node-1", pods: netip.MustParsePrefix("fd00:244::/56"), services: []netip.Prefix{netip.MustParsePrefix("fd00:96::/112")}}
	svc := service("web", "10.96.0.20", nil, "a")
	svc.ClusterIPs = append(svc.ClusterIPs, netip.MustParseAddr("fd00:96::20"))
	svc.Endpoints = append(svc.Endpoints, feed.Endpoint{Addr: netip.MustParseAddr("fd00:244::11"), Ready: true, Ports: svc.Endpoints[0].Ports})
	_, block := blockOf(svc.ClusterIPs[1])
	want := []string{
		block[len("TROUPE-"):] + ` -d fd00:96::20/128 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -j SVC-0`,
		"SEP-0 -p tcp -m tcp -j DNAT --to-destination [fd00:244::11]:8080",
		"SEP-0 -s fd00:244::11/128 -j PROXY-MARK",
		"SVC-0 ! -s fd00:244::/56 -d fd00:96::20/128 -p tcp -m tcp --dport 80 -j PROXY-MARK",
		"SVC-0 -j SEP-0",
	}
	if diff := cmp.Diff(want, render(s.serve(svc))); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if len(block) > 28 {
		t.Errorf("chain name %q is too long for the kernel", block)
	}
}

func TestProbabilityIsSpelledAsTheKernelKeepsIt(t *testing.T) {
	for n, want := range map[int]string{2: "0.50000000000", 3: "0.33333333349", 7: "0.14285714272"} {
		if got := probability(n); got != want {
			t.Errorf("1/%d: got %s, want %s", n, got, want)
		}
	}
}

// kernel is iptables-restore in memory, as strict as the real one about what does not exist.
type kernel struct{ tables tables }

func (k *kernel) restore(t *testing.T, input string) {
	t.Helper()
	var c chains
	for line := range strings.Lines(input) {
		line = strings.TrimSpace(line)
		switch {
		case line == "COMMIT":
			for chain, rules := range c {
				for _, r := range rules {
					if _, to, ok := strings.Cut(r, "-j TROUPE-"); ok {
						if _, there := c["TROUPE-"+strings.Fields(to)[0]]; !there {
							t.Fatalf("%s jumps into nothing: %s", chain, r)
						}
					}
				}
			}
		case line[0] == '*':
			c = k.tables[table(line[1:])]
		case line[0] == ':':
			c[strings.Fields(line[1:])[0]] = nil
		case strings.HasPrefix(line, "-X "):
			for chain, rules := range c {
				if slices.ContainsFunc(rules, func(r string) bool { return strings.HasSuffix(r, "-j "+line[3:]) }) {
					t.Fatalf("%s is deleted but %s jumps there", line[3:], chain)
				}
			}
			delete(c, line[3:])
		default:
			chain, rule, _ := strings.Cut(strings.TrimPrefix(line, "-A "), " ")
			if _, there := c[chain]; !there {
				t.Fatalf("rule for a chain that does not exist: %s", line)
			}
			c[chain] = append(c[chain], rule)
		}
	}
}

// TestIncrementalEqualsWhole walks through random updates: writing only differences must lead to
// what a fresh start would write, and never through a state the kernel refuses.
func TestIncrementalEqualsWhole(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		p, k, have := newPlan(testSettings()), &kernel{newTables()}, newTables()
		all := make(map[feed.Name]*feed.Service)
		for step := range 60 {
			u := feed.Update{Services: make(map[feed.Name]*feed.Service)}
			for range 1 + r.IntN(6) {
				s := randomService(r)
				if r.IntN(4) == 0 {
					u.Services[s.Name] = nil
					delete(all, s.Name)
				} else {
					u.Services[s.Name], all[s.Name] = s, s
				}
			}
			if r.IntN(10) == 0 {
				u = feed.Update{Reset: true, Services: all}
			}
			p.update(u)
			var b bytes.Buffer
			for _, tab := range []table{filter, nat} {
				among := p.dirty[tab]
				if step == 0 {
					among = nil
				}
				d := compare(tab, p.wanted[tab], have[tab], among)
				d.write(&b, p.wanted[tab])
				d.note(p.wanted[tab], have[tab])
			}
			p.settle()
			k.restore(t, b.String())

			fresh := newPlan(testSettings())
			fresh.update(feed.Update{Reset: true, Services: all})
			if diff := cmp.Diff(fresh.wanted, p.wanted); diff != "" {
				t.Fatalf("seed %d, step %d: plan (-fresh +incremental):\n%s", seed, step, diff)
			}
			if diff := cmp.Diff(fresh.wanted, k.tables, cmp.Comparer(func(a, b []string) bool { return slices.Equal(a, b) })); diff != "" {
				t.Fatalf("seed %d, step %d: kernel (-wanted +has):\n%s", seed, step, diff)
			}
		}
	}
}

func randomService(r *rand.Rand) *feed.Service {
	n := r.IntN(12)
	return service(fmt.Sprintf("s-%d", n), fmt.Sprintf("10.96.%d.%d", r.IntN(3), n), func(s *feed.Service) {
		if r.IntN(2) == 0 {
			s.Ports[0].NodePort = uint16(30000 + 50*n)
		}
		if r.IntN(3) == 0 {
			s.Affinity = time.Hour
		}
		s.InternalLocal, s.ExternalLocal = r.IntN(3) == 0, r.IntN(3) == 0
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			e.Ready, e.Serving, e.Terminating = r.IntN(3) > 0, true, r.IntN(2) == 0
			e.Node = fmt.Sprintf("node-%d", 1+r.IntN(2))
		}
	}, []string{"a", "b", "c"}[:r.IntN(4)]...)
}

func TestParseIgnoresOthers(t *testing.T) {
	have, jumps := parse([]byte(`# Generated
*nat
:PREROUTING ACCEPT [0:0]
:TROUPE-SERVICES - [0:0]
:TROUPE-MASQ-troupe0 - [0:0]
:KUBE-SVC-ABC - [0:0]
-A PREROUTING -j TROUPE-SERVICES
-A POSTROUTING -s 10.244.0.0/16 -j TROUPE-MASQ-troupe0
-A TROUPE-SERVICES -m addrtype --dst-type LOCAL -j TROUPE-NODEPORTS
-A KUBE-SVC-ABC -j RETURN
COMMIT
`))
	if diff := cmp.Diff(chains{servicesChain: {"-m addrtype --dst-type LOCAL -j " + nodePortsChain}}, have); diff != "" {
		t.Errorf("chains (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string][]string{"PREROUTING": {"-j " + servicesChain}}, jumps); diff != "" {
		t.Errorf("jumps (-want +got):\n%s", diff)
	}
}
