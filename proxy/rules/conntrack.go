package rules

import (
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
)

// staleFlows matches UDP conversations whose endpoint does not serve any more. UDP has no end, so
// the kernel would go on sending them to where their first packet went.
type staleFlows struct {
	byAddr map[netip.AddrPort]map[netip.AddrPort]bool
	byNode map[uint16]map[netip.AddrPort]bool
}

// newStaleFlows knows the UDP ports of a plan.
func newStaleFlows(p *plan) *staleFlows {
	s := &staleFlows{byAddr: make(map[netip.AddrPort]map[netip.AddrPort]bool), byNode: make(map[uint16]map[netip.AddrPort]bool)}
	for _, svc := range p.services {
		for _, f := range svc.flows {
			living := make(map[netip.AddrPort]bool, len(f.endpoints))
			for _, at := range f.endpoints {
				living[at] = true
			}
			for _, addr := range f.addrs {
				s.byAddr[netip.AddrPortFrom(addr, f.port)] = living
			}
			if f.nodePort != 0 {
				s.byNode[f.nodePort] = living
			}
		}
	}
	return s
}

// MatchConntrackFlow says whether a conversation is to be forgotten: it went to a service and is
// answered by none of its endpoints.
func (s *staleFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != syscall.IPPROTO_UDP {
		return false
	}
	dst, ok := netip.AddrFromSlice(flow.Forward.DstIP)
	src, ok2 := netip.AddrFromSlice(flow.Reverse.SrcIP)
	if !ok || !ok2 {
		return false
	}
	dst, src = dst.Unmap(), src.Unmap()
	answers := netip.AddrPortFrom(src, flow.Reverse.SrcPort)
	if living, served := s.byAddr[netip.AddrPortFrom(dst, flow.Forward.DstPort)]; served {
		return !living[answers]
	}
	// A port alone says little: only what was translated went to a node port.
	living, served := s.byNode[flow.Forward.DstPort]
	return served && dst != src && !living[answers]
}

// forgetFlows deletes the stale conversations of a plan's services from conntrack.
func forgetFlows(p *plan) error {
	var family netlink.InetFamily = syscall.AF_INET
	if p.settings.ipv6 {
		family = syscall.AF_INET6
	}
	_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, newStaleFlows(p))
	return err
}

var _ netlink.CustomConntrackFilter = (*staleFlows)(nil)
