package servicecidr

import (
	"net/netip"

	networkingv1 "k8s.io/api/networking/v1"
)

// prefixes are the ranges of a ServiceCIDR that can be read.
func prefixes(c *networkingv1.ServiceCIDR) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range c.Spec.CIDRs {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

func contains(c *networkingv1.ServiceCIDR, addr netip.Addr) bool {
	for _, p := range prefixes(c) {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

func overlap(a, b *networkingv1.ServiceCIDR) bool {
	for _, p := range prefixes(a) {
		for _, q := range prefixes(b) {
			if p.Overlaps(q) {
				return true
			}
		}
	}
	return false
}

// inUse says that one of the addresses is in the range and in none of the others that stay.
func inUse(c *networkingv1.ServiceCIDR, all []*networkingv1.ServiceCIDR, ips []*networkingv1.IPAddress) bool {
	for _, ip := range ips {
		addr, err := netip.ParseAddr(ip.Name)
		if err != nil || !contains(c, addr) {
			continue
		}
		covered := false
		for _, other := range all {
			covered = covered || other.Name != c.Name && other.DeletionTimestamp == nil && contains(other, addr)
		}
		if !covered {
			return true
		}
	}
	return false
}
