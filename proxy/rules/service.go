package rules

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/troupe-run/troupe/proxy/feed"
)

// served is what one service contributes to the rules.
type served struct {
	// own are its chains in the nat table.
	own chains
	// entries lead to them, by block chain.
	entries map[string][]string
	// blocks are the block chains in entries, with the rule of the chain above that leads there.
	blocks map[string]string
	// refused are its rules in the reject chain.
	refused []string
	// flows are its UDP ports, for the clean-up of conntrack.
	flows []flow
}

// flow is a UDP port of a service, with the endpoints that may answer for it now.
type flow struct {
	addrs     []netip.Addr
	port      uint16
	nodePort  uint16
	endpoints []netip.AddrPort
}

// serve says which rules a service needs: pure, and the same for the same input.
func (s settings) serve(svc *feed.Service) *served {
	out := &served{own: make(chains), entries: make(map[string][]string), blocks: make(map[string]string)}
	if svc.ExternalName != "" {
		return out
	}
	for _, p := range svc.Ports {
		if protocols[p.Protocol] == "" {
			continue
		}
		port := servicePort{settings: s, svc: svc, port: p, out: out,
			proto: protocols[p.Protocol], id: svc.String() + ":" + p.Name + "/" + p.Protocol}
		port.clusterIPs, port.externalIPs = s.own(svc.ClusterIPs), s.own(svc.ExternalIPs)
		if len(port.clusterIPs) == 0 {
			continue // headless, or of the other family
		}
		port.all = s.endpoints(svc, p, func(feed.Endpoint) bool { return true })
		port.local = s.endpoints(svc, p, func(e feed.Endpoint) bool { return e.Node == s.node })
		port.serve()
	}
	return out
}

func (s settings) own(in []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range in {
		if s.serves(a) {
			out = append(out, a)
		}
	}
	return out
}

// endpoints returns who serves a port: the ready ones, else those that still serve while they
// terminate. An address that several slices name counts once.
func (s settings) endpoints(svc *feed.Service, p feed.Port, among func(feed.Endpoint) bool) []netip.AddrPort {
	var ready, leaving []netip.AddrPort
	for _, e := range svc.Endpoints {
		if !s.serves(e.Addr) || !among(e) {
			continue
		}
		for _, ep := range e.Ports {
			if ep.Name != p.Name || ep.Protocol != p.Protocol {
				continue
			}
			switch at := netip.AddrPortFrom(e.Addr, ep.Port); {
			case e.Ready:
				ready = append(ready, at)
			case e.Serving && e.Terminating:
				leaving = append(leaving, at)
			}
		}
	}
	if len(ready) == 0 {
		ready = leaving
	}
	slices.SortFunc(ready, netip.AddrPort.Compare)
	return slices.Compact(ready)
}

// servicePort builds the rules of one port of one service.
type servicePort struct {
	settings
	svc                     *feed.Service
	port                    feed.Port
	out                     *served
	proto, id               string
	clusterIPs, externalIPs []netip.Addr
	all, local              []netip.AddrPort
}

func (p *servicePort) serve() {
	svc, svl, ext := svcHead+hash(p.id), svlHead+hash(p.id), extHead+hash(p.id)
	outside := p.port.NodePort != 0 || len(p.externalIPs) > 0
	inner, usable := svc, p.all
	if p.svc.InternalLocal {
		inner, usable = svl, p.local
	}
	if len(p.all) > 0 && (!p.svc.InternalLocal || outside) {
		p.balance(svc, p.all)
	}
	if len(p.local) > 0 && (p.svc.InternalLocal || outside && p.svc.ExternalLocal) {
		p.balance(svl, p.local)
	}
	for _, ip := range p.clusterIPs {
		if len(usable) > 0 {
			p.enter(ip, inner)
		} else {
			p.refuse(ip)
		}
	}
	if outside {
		p.serveOutside(svc, svl, ext)
	}
	if p.port.Protocol == feed.UDP {
		p.out.flows = append(p.out.flows, flow{addrs: slices.Concat(p.clusterIPs, p.externalIPs), port: p.port.Port, nodePort: p.port.NodePort, endpoints: p.all})
	}
}

// serveOutside serves node port and external addresses.
func (p *servicePort) serveOutside(svc, svl, ext string) {
	usable := p.all
	if p.svc.ExternalLocal {
		usable = p.local
	}
	if len(p.all) > 0 {
		p.out.own[ext] = p.outsideRules(svc, svl)
	}
	for _, ip := range p.externalIPs {
		if len(p.all) > 0 {
			p.enter(ip, ext)
		}
		if len(usable) == 0 {
			p.refuseOutside("-d " + host(ip) + " -p " + p.proto)
		}
	}
	if p.port.NodePort == 0 {
		return
	}
	if len(p.all) > 0 {
		first, last, block := portBlock(p.port.Protocol, p.port.NodePort)
		p.out.blocks[block] = fmt.Sprintf("-p %s -m %s --dport %d:%d -j %s", p.proto, p.proto, first, last, block)
		p.out.entries[block] = append(p.out.entries[block],
			fmt.Sprintf("-p %s %s -m %s --dport %d -j %s", p.proto, p.comment(), p.proto, p.port.NodePort, ext))
	}
	if len(usable) == 0 {
		p.out.refused = append(p.out.refused, fmt.Sprintf("-p %s %s -m addrtype --dst-type LOCAL -m %s --dport %d %s",
			p.proto, p.comment(), p.proto, p.port.NodePort, p.verdict(len(p.all) > 0)))
	}
}

// outsideRules decides what traffic from outside meets. With the Local policy the client's address
// is kept; pods and the node itself are inside and reach every endpoint all the same.
func (p *servicePort) outsideRules(svc, svl string) []string {
	if !p.svc.ExternalLocal {
		return []string{"-j " + markChain, "-j " + svc}
	}
	var out []string
	if p.pods.IsValid() {
		out = append(out, fmt.Sprintf("-s %s -j %s", p.pods, svc))
	}
	out = append(out,
		"-m addrtype --src-type LOCAL -j "+markChain,
		"-m addrtype --src-type LOCAL -j "+svc)
	if len(p.local) > 0 {
		out = append(out, "-j "+svl)
	}
	return out
}

// enter adds the rule that leads from an address to a chain.
func (p *servicePort) enter(ip netip.Addr, chain string) {
	block, name := blockOf(ip)
	p.out.blocks[name] = fmt.Sprintf("-d %s -j %s", block, name)
	p.out.entries[name] = append(p.out.entries[name],
		fmt.Sprintf("-d %s -p %s %s -m %s --dport %d -j %s", host(ip), p.proto, p.comment(), p.proto, p.port.Port, chain))
}

// refuse adds the rule for a cluster IP that nobody serves. Without any endpoint the last resort
// speaks for it, unless the address is of no known network; with endpoints elsewhere that policy
// forbids, Kubernetes promises silence.
func (p *servicePort) refuse(ip netip.Addr) {
	if elsewhere := len(p.all) > 0; elsewhere || !p.covered(ip) {
		p.out.refused = append(p.out.refused, fmt.Sprintf("-d %s -p %s %s -m %s --dport %d %s",
			host(ip), p.proto, p.comment(), p.proto, p.port.Port, p.verdict(elsewhere)))
	}
}

func (p *servicePort) refuseOutside(match string) {
	p.out.refused = append(p.out.refused, fmt.Sprintf("%s %s -m %s --dport %d %s",
		match, p.comment(), p.proto, p.port.Port, p.verdict(len(p.all) > 0)))
}

// verdict is REJECT when there is no endpoint at all, DROP when there are some on other nodes: a
// load balancer in front must find out, and try those.
func (p *servicePort) verdict(elsewhere bool) string {
	if elsewhere {
		return "-j DROP"
	}
	return p.rejectWith()
}

// comment names the service for people who read the rules.
func (p *servicePort) comment() string {
	text := p.svc.String()
	if p.port.Name != "" {
		text += ":" + p.port.Name
	}
	return `-m comment --comment "` + text + `"`
}

// balance adds the chain that chooses among endpoints, and a chain for each of them.
func (p *servicePort) balance(chain string, to []netip.AddrPort) {
	var out []string
	if p.pods.IsValid() {
		for _, ip := range p.clusterIPs {
			out = append(out, fmt.Sprintf("! -s %s -d %s -p %s -m %s --dport %d -j %s", p.pods, host(ip), p.proto, p.proto, p.port.Port, markChain))
		}
	}
	seps := make([]string, len(to))
	for i, at := range to {
		seps[i] = sepHead + hash(p.id, at.String())
		p.out.own[seps[i]] = p.endpointRules(seps[i], at)
	}
	if seconds := int(p.svc.Affinity.Seconds()); seconds > 0 {
		for _, sep := range seps {
			out = append(out, fmt.Sprintf("-m recent --rcheck --seconds %d --reap --name %s --mask %s --rsource -j %s", seconds, sep, p.mask(), sep))
		}
	}
	for i, sep := range seps {
		if left := len(seps) - i; left > 1 {
			out = append(out, fmt.Sprintf("-m statistic --mode random --probability %s -j %s", probability(left), sep))
		} else {
			out = append(out, "-j "+sep)
		}
	}
	p.out.own[chain] = out
}

// endpointRules leads to one endpoint. An endpoint that reaches itself would answer itself
// directly, hence the mark.
func (p *servicePort) endpointRules(sep string, at netip.AddrPort) []string {
	var dnat strings.Builder
	dnat.WriteString("-p " + p.proto)
	if p.svc.Affinity > 0 {
		fmt.Fprintf(&dnat, " -m recent --set --name %s --mask %s --rsource", sep, p.mask())
	}
	fmt.Fprintf(&dnat, " -m %s -j DNAT --to-destination %s", p.proto, at)
	return []string{fmt.Sprintf("-s %s -j %s", host(at.Addr()), markChain), dnat.String()}
}

// probability spells 1/n as iptables prints it back: the kernel keeps 31 bits of it.
func probability(n int) string {
	return fmt.Sprintf("%.11f", math.Round(1/float64(n)*(1<<31))/(1<<31))
}
