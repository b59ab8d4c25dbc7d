package alloc

import (
	"math/big"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// span is a range with the number of its usable addresses, the first of which has offset 1.
type span struct {
	netip.Prefix
	size uint64
}

func spanOf(cidr netip.Prefix) span {
	bits := cidr.Addr().BitLen() - cidr.Bits()
	// Ranges beyond this are more than anybody uses; the rest of a large IPv6 range is left alone.
	s := span{cidr.Masked(), 1<<min(bits, 20) - 1}
	if cidr.Addr().Is4() && s.size > 1 {
		s.size-- // not the broadcast address
	}
	return s
}

func (s span) family() corev1.IPFamily {
	if s.Addr().Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

func (s span) at(offset uint64) netip.Addr {
	base := new(big.Int).SetBytes(s.Addr().AsSlice())
	raw := base.Add(base, new(big.Int).SetUint64(offset)).FillBytes(make([]byte, s.Addr().BitLen()/8))
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}

func (s span) usable(addr netip.Addr) bool {
	return s.Contains(addr) && addr != s.Addr() && (!addr.Is4() || s.Contains(addr.Next()) || s.size <= 1)
}

// spans are the ranges of a family that addresses are handed out of: those of the ServiceCIDRs that
// are ready and not going, oldest first, or the configured one while there are none at all.
func (t *taken) spans(family corev1.IPFamily) []span {
	cidrs := objects.List[*networkingv1.ServiceCIDR](t.reader, messages.ServiceCIDRs, "")
	if len(cidrs) == 0 {
		if t.base.family() != family {
			return nil
		}
		return []span{t.base}
	}
	slices.SortFunc(cidrs, func(a, b *networkingv1.ServiceCIDR) int {
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	var out []span
	for _, c := range cidrs {
		if c.DeletionTimestamp != nil || !meta.IsStatusConditionTrue(c.Status.Conditions, networkingv1.ServiceCIDRConditionReady) {
			continue
		}
		for _, text := range c.Spec.CIDRs {
			if p, err := netip.ParsePrefix(text); err == nil {
				if s := spanOf(p); s.family() == family {
					out = append(out, s)
				}
			}
		}
	}
	return out
}

func rangeNames(spans []span) string {
	names := make([]string, len(spans))
	for i, s := range spans {
		names[i] = s.String()
	}
	return strings.Join(names, ", ")
}
