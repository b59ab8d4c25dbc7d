package nodes

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/troupe-run/troupe/messages"
)

// cidrs gives each node its part of the cluster's pod CIDR. Only the keeper uses it.
type cidrs struct {
	whole netip.Prefix // invalid when the cluster gives out none
	mask  int
	owner map[netip.Prefix]string
	of    map[string]netip.Prefix // by node
	next  uint32                  // index from which to look for a free part
}

func newCIDRs(whole string, mask int) *cidrs {
	p, _ := netip.ParsePrefix(whole) // checked with the config; empty means none
	return &cidrs{whole: p.Masked(), mask: mask, owner: make(map[netip.Prefix]string), of: make(map[string]netip.Prefix)}
}

// taken notes what a Node object has. A part that is not of our size or place blocks nothing.
func (c *cidrs) taken(node, cidr string) {
	p, err := netip.ParsePrefix(cidr)
	if err != nil || c.of[node] == p {
		return
	}
	c.release(node)
	c.owner[p], c.of[node] = node, p
}

func (c *cidrs) release(node string) {
	if p, ok := c.of[node]; ok {
		delete(c.of, node)
		if c.owner[p] == node {
			delete(c.owner, p)
		}
	}
}

// grant returns the node's part, reserving a free one when it has none. Parts are given out round
// the range, so that one just released is not used again at once.
func (c *cidrs) grant(node string) (string, error) {
	if !c.whole.IsValid() {
		return "", nil
	}
	if p, ok := c.of[node]; ok {
		return p.String(), nil
	}
	count := uint32(1) << (c.mask - c.whole.Bits())
	for range count {
		p := c.part(c.next)
		c.next = (c.next + 1) % count
		if _, used := c.owner[p]; !used {
			c.owner[p], c.of[node] = node, p
			return p.String(), nil
		}
	}
	return "", fmt.Errorf("pod CIDR for %s: all %d parts of %s are taken: %w", node, count, c.whole, messages.ErrUnavailable)
}

func (c *cidrs) part(i uint32) netip.Prefix {
	base := c.whole.Addr().As4()
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(base[:])+i<<(32-c.mask))
	return netip.PrefixFrom(netip.AddrFrom4(a), c.mask)
}
