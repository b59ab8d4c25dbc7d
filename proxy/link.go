package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"

	"github.com/troupe-run/troupe/proxy/rules"
)

// linked is a backend that looks after the interface of DNS, too, whenever rules are verified:
// network managers are known to remove what they did not make.
type linked struct {
	rules.Backend
	name  string
	addrs []netip.Addr
}

// Verify implements rules.Backend.
func (l linked) Verify(ctx context.Context) error {
	return errors.Join(ensureLink(l.name, l.addrs), l.Backend.Verify(ctx))
}

// ensureLink makes an interface that holds exactly the given addresses and no traffic: every node
// answers at the cluster's DNS address itself. It is a bridge without ports, for bridges are what
// pods need anyway and not every kernel has dummy interfaces.
func ensureLink(name string, addrs []netip.Addr) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return fmt.Errorf("add interface %s: %w", name, err)
		}
		link, err = netlink.LinkByName(name)
	}
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set interface %s up: %w", name, err)
	}
	if err := dropOthers(link, addrs); err != nil {
		return fmt.Errorf("clear interface %s: %w", name, err)
	}
	for _, a := range addrs {
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}
		if a.Is6() {
			addr.Flags = syscall.IFA_F_NODAD // without a carrier, it would stay tentative for ever
		}
		if err := netlink.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("add address %s to interface %s: %w", a, name, err)
		}
	}
	return nil
}

// dropOthers removes addresses of an earlier configuration.
func dropOthers(link netlink.Link, keep []netip.Addr) error {
	have, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, h := range have {
		a, ok := netip.AddrFromSlice(h.IP)
		if !ok || a.IsLinkLocalUnicast() || slices.Contains(keep, a.Unmap()) {
			continue
		}
		if err := netlink.AddrDel(link, &h); err != nil {
			return err
		}
	}
	return nil
}

// removeLink deletes the interface, with its addresses.
func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("remove interface %s: %w", name, err)
	}
	return nil
}

var _ rules.Backend = linked{}
