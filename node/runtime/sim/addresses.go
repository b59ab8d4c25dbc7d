package sim

import (
	"fmt"
	"net/netip"

	"github.com/troupe-run/troupe/messages"
)

// addresses hands out the addresses of a prefix in turn, so that one just given back rests for as
// long as possible.
type addresses struct {
	prefix netip.Prefix
	last   netip.Addr
	used   map[netip.Addr]struct{}
}

func newAddresses(prefix netip.Prefix) *addresses {
	prefix = prefix.Masked()
	// The first address is the network's, the second the gateway's.
	return &addresses{prefix: prefix, last: prefix.Addr().Next(), used: make(map[netip.Addr]struct{})}
}

func (a *addresses) take() (netip.Addr, error) {
	start := a.last
	for {
		a.last = a.last.Next()
		if !a.prefix.Contains(a.last) {
			a.last = a.prefix.Addr().Next().Next()
		}
		if _, taken := a.used[a.last]; !taken {
			a.used[a.last] = struct{}{}
			return a.last, nil
		}
		if a.last == start {
			return netip.Addr{}, fmt.Errorf("take address of %s: all in use: %w", a.prefix, messages.ErrUnavailable)
		}
	}
}

func (a *addresses) free(addr netip.Addr) { delete(a.used, addr) }
