package dns

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/troupe-run/troupe/proxy/feed"
)

const (
	// schemaVersion is the version of the specification that the answers follow.
	schemaVersion = "1.1.0"
	// ttl is how many seconds answers may be kept. What a name resolves to can change any moment.
	ttl = 5
	// depth bounds how many aliases inside the cluster are followed.
	depth = 8
)

// zone answers the names of the cluster from a table.
type zone struct {
	table *Table
	// domain is the cluster's domain in lower case, with a dot at its end.
	domain string
	// self are the server's own addresses, for the zone's name server record.
	self []netip.Addr
	// networks are those whose reverse names are ours.
	networks []netip.Prefix
}

// reply is an answer in the making.
type reply struct {
	answer, extra []dns.RR
	// exists says that the name exists, be it without records of the type asked for.
	exists bool
	// follow is a foreign name at which the answer goes on.
	follow string
}

// owns says whether a name in lower case is ours to answer.
func (z *zone) owns(name string) bool {
	if dns.IsSubDomain(z.domain, name) {
		return true
	}
	addr, ok := reverse(name)
	return ok && slices.ContainsFunc(z.networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// answer looks one question up. Names in the answer are spelled as they were asked.
func (z *zone) answer(q dns.Question) reply {
	name := strings.ToLower(q.Name)
	if addr, ok := reverse(name); ok {
		return z.pointer(q, addr)
	}
	rest, _ := strings.CutSuffix(name, z.domain)
	labels := dns.SplitDomainName(rest)
	if len(labels) == 0 {
		return z.apex(q)
	}
	head, kind := labels[:len(labels)-1], labels[len(labels)-1]
	switch kind {
	case "svc":
		return z.svc(q, head, depth)
	case "pod":
		return z.pod(q, head)
	case "dns":
		return z.nameServer(q, head)
	case "dns-version":
		if len(head) == 0 {
			return z.version(q)
		}
	}
	return reply{}
}

func (z *zone) apex(q dns.Question) reply {
	r := reply{exists: true}
	switch q.Qtype {
	case dns.TypeSOA:
		r.answer = []dns.RR{z.soa(z.domain)}
	case dns.TypeNS:
		r.answer = []dns.RR{&dns.NS{Hdr: header(q.Name, dns.TypeNS), Ns: "ns.dns." + z.domain}}
		r.extra = z.hosts("ns.dns."+z.domain, z.self)
	}
	return r
}

func (z *zone) version(q dns.Question) reply {
	r := reply{exists: true}
	if q.Qtype == dns.TypeTXT {
		r.answer = []dns.RR{&dns.TXT{Hdr: header(q.Name, dns.TypeTXT), Txt: []string{schemaVersion}}}
	}
	return r
}

func (z *zone) nameServer(q dns.Question, head []string) reply {
	switch {
	case len(head) == 0:
		return reply{exists: true}
	case len(head) == 1 && head[0] == "ns":
		return reply{exists: true, answer: addressRecords(q, z.self)}
	}
	return reply{}
}

// pod answers the names that spell an address, in namespaces that exist.
func (z *zone) pod(q dns.Question, head []string) reply {
	if len(head) == 0 {
		return reply{exists: true}
	}
	if len(head) > 2 || !z.table.namespace(head[len(head)-1]) {
		return reply{}
	}
	if len(head) == 1 {
		return reply{exists: true}
	}
	addr, ok := undashed(head[0])
	if !ok {
		return reply{}
	}
	return reply{exists: true, answer: addressRecords(q, []netip.Addr{addr})}
}

// svc answers the names below "svc": a namespace, a service, an endpoint's host or a port.
func (z *zone) svc(q dns.Question, head []string, depth int) reply {
	if len(head) == 0 {
		return reply{exists: true}
	}
	ns := head[len(head)-1]
	if len(head) == 1 {
		return reply{exists: z.table.namespace(ns)}
	}
	name := feed.Name{Namespace: ns, Name: head[len(head)-2]}
	e := z.table.service(name)
	if e == nil || len(head) > 4 {
		return reply{}
	}
	switch len(head) {
	case 2:
		return z.service(q, e, depth)
	case 3:
		if addrs := e.hosts[head[0]]; len(addrs) > 0 {
			return reply{exists: true, answer: addressRecords(q, addrs)}
		}
		return reply{exists: e.protocol(head[0])}
	default:
		return z.port(q, e, name, head[0]+"."+head[1])
	}
}

// service answers a service's own name. A headless one without endpoints does not exist, says the
// specification.
func (z *zone) service(q dns.Question, e *entry, depth int) reply {
	if e.alias != "" {
		return z.alias(q, e, depth)
	}
	return reply{exists: len(e.addrs) > 0, answer: addressRecords(q, e.addrs)}
}

// alias answers with a CNAME and, as resolvers of small C libraries do not ask again, with what
// stands behind it.
func (z *zone) alias(q dns.Question, e *entry, depth int) reply {
	r := reply{exists: true, answer: []dns.RR{&dns.CNAME{Hdr: header(q.Name, dns.TypeCNAME), Target: e.alias}}}
	if q.Qtype == dns.TypeCNAME {
		return r
	}
	behind := strings.ToLower(e.alias)
	if !z.owns(behind) {
		r.follow = e.alias
		return r
	}
	rest, ok := strings.CutSuffix(behind, ".svc."+z.domain)
	if !ok || depth == 0 {
		return r
	}
	next := z.svc(dns.Question{Name: e.alias, Qtype: q.Qtype, Qclass: q.Qclass}, dns.SplitDomainName(rest), depth-1)
	r.answer = append(r.answer, next.answer...)
	r.follow = next.follow
	return r
}

// protocol says whether a label such as "_tcp" stands above some port of the service.
func (e *entry) protocol(label string) bool {
	for key := range e.ports {
		if strings.HasSuffix(key, "."+label) {
			return true
		}
	}
	return false
}

// port answers SRV for one named port.
func (z *zone) port(q dns.Question, e *entry, name feed.Name, key string) reply {
	targets := e.ports[key]
	r := reply{exists: len(targets) > 0}
	if q.Qtype != dns.TypeSRV {
		return r
	}
	own := serviceName(name) + "." + z.domain
	for _, t := range shuffled(targets) {
		host, addrs := own, e.addrs
		if t.host != "" {
			host, addrs = t.host+"."+own, e.hosts[t.host]
		}
		r.answer = append(r.answer, &dns.SRV{Hdr: header(q.Name, dns.TypeSRV), Weight: 100, Port: t.port, Target: host})
		r.extra = append(r.extra, z.hosts(host, addrs)...)
	}
	return r
}

// pointer answers reverse lookups.
func (z *zone) pointer(q dns.Question, addr netip.Addr) reply {
	names := z.table.names(addr)
	r := reply{exists: len(names) > 0}
	if q.Qtype == dns.TypePTR {
		for _, name := range names {
			r.answer = append(r.answer, &dns.PTR{Hdr: header(q.Name, dns.TypePTR), Ptr: name + "." + z.domain})
		}
	}
	return r
}

// soa is the authority over a name; negative answers carry it.
func (z *zone) soa(name string) dns.RR {
	owner := z.domain
	if !dns.IsSubDomain(z.domain, name) { // a reverse name: of a network as small as can be
		_, owner, _ = strings.Cut(name, ".")
	}
	return &dns.SOA{Hdr: header(owner, dns.TypeSOA), Ns: "ns.dns." + z.domain, Mbox: "hostmaster." + z.domain,
		Serial: uint32(z.table.revision.Load()), Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl}
}

// hosts returns all address records of a name.
func (z *zone) hosts(name string, addrs []netip.Addr) []dns.RR {
	var out []dns.RR
	for _, a := range addrs {
		out = append(out, addressRecord(name, a))
	}
	return out
}

// addressRecords returns the records of the type asked for, in an order that differs each time:
// many clients take the first.
func addressRecords(q dns.Question, addrs []netip.Addr) []dns.RR {
	var out []dns.RR
	for _, a := range shuffled(addrs) {
		if q.Qtype == dns.TypeA && a.Is4() || q.Qtype == dns.TypeAAAA && a.Is6() {
			out = append(out, addressRecord(q.Name, a))
		}
	}
	return out
}

func addressRecord(name string, a netip.Addr) dns.RR {
	if a.Is4() {
		return &dns.A{Hdr: header(name, dns.TypeA), A: a.AsSlice()}
	}
	return &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: a.AsSlice()}
}

func header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

func shuffled[T any](in []T) []T {
	if len(in) < 2 {
		return in
	}
	out := slices.Clone(in)
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// reverse reads the address out of a complete reverse name.
func reverse(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		labels := strings.Split(rest, ".")
		if len(labels) != 4 {
			return netip.Addr{}, false
		}
		slices.Reverse(labels)
		a, err := netip.ParseAddr(strings.Join(labels, "."))
		return a, err == nil && a.Is4()
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa.")
	if !ok || len(rest) != 63 {
		return netip.Addr{}, false
	}
	var b strings.Builder
	for i := range 32 {
		if i > 0 && i%4 == 0 {
			b.WriteByte(':')
		}
		at := 62 - 2*i
		if at > 0 && rest[at-1] != '.' {
			return netip.Addr{}, false
		}
		b.WriteByte(rest[at])
	}
	a, err := netip.ParseAddr(b.String())
	return a, err == nil
}
