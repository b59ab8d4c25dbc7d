package network

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// ensureBridge makes the bridge with the gateway's address, before any pod, so that services of
// the node can listen there from the start.
func (n *Network) ensureBridge() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = n.cfg.Bridge
	attrs.MTU = n.cfg.MTU
	// A fixed hardware address: otherwise the bridge takes the lowest of its ports', which changes
	// with each pod and breaks connections until neighbours have noticed.
	attrs.HardwareAddr = hardwareAddr(n.cfg)
	err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make bridge %s: %w", n.cfg.Bridge, err)
	}
	link, err := netlink.LinkByName(n.cfg.Bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", n.cfg.Bridge, err)
	}
	if link.Type() != "bridge" {
		return fmt.Errorf("interface %s is there and no bridge: choose another bridge name", n.cfg.Bridge)
	}
	if link.Attrs().MTU != n.cfg.MTU {
		if err := netlink.LinkSetMTU(link, n.cfg.MTU); err != nil {
			return fmt.Errorf("set MTU of bridge %s: %w", n.cfg.Bridge, err)
		}
	}
	if err := n.ensureAddress(link); err != nil {
		return fmt.Errorf("set address of bridge %s: %w", n.cfg.Bridge, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set bridge %s up: %w", n.cfg.Bridge, err)
	}
	return nil
}

// ensureAddress leaves the gateway as the only IPv4 address.
func (n *Network) ensureAddress(link netlink.Link) error {
	gw := n.cfg.gateway()
	want := &net.IPNet{IP: gw.Addr().AsSlice(), Mask: net.CIDRMask(gw.Bits(), 32)}
	have, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	there := false
	for _, a := range have {
		if a.IPNet.String() == want.String() {
			there = true
			continue
		}
		if err := netlink.AddrDel(link, &a); err != nil {
			return err
		}
	}
	if there {
		return nil
	}
	return netlink.AddrAdd(link, &netlink.Addr{IPNet: want})
}

// sweepInterfaces deletes bridge ports that belong to no living sandbox. Which interface belongs
// to which sandbox is in the results the CNI library keeps, in a folder that all its users share and
// anybody may have cleared: a port that leads into a network namespace in use stays in any case.
func (n *Network) sweepInterfaces(alive map[string]bool, spaces []string) error {
	used := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(n.cfg.CacheDir, "results", n.cfg.Bridge+"-*"))
	if err != nil {
		return fmt.Errorf("sweep interfaces: %w", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // disconnected meanwhile
		}
		var attached struct {
			ContainerID string `json:"containerId"`
			Result      struct {
				Interfaces []struct {
					Name    string `json:"name"`
					Sandbox string `json:"sandbox"`
				} `json:"interfaces"`
			} `json:"result"`
		}
		if err := json.Unmarshal(text, &attached); err != nil {
			return fmt.Errorf("sweep interfaces: read %s: %w", file, err)
		}
		for _, i := range attached.Result.Interfaces {
			if i.Sandbox == "" && alive[attached.ContainerID] {
				used[i.Name] = true
			}
		}
	}
	ends, err := nearEnds(spaces)
	if err != nil {
		return fmt.Errorf("sweep interfaces: %w", err)
	}
	return n.deletePorts(func(l *netlink.LinkAttrs) bool { return !used[l.Name] && !ends[l.Index] })
}

// nearEnds are the indexes, here, of the veth pairs whose far ends are in these namespaces.
func nearEnds(spaces []string) (map[int]bool, error) {
	out := map[int]bool{}
	for _, path := range spaces {
		space, err := netns.GetFromPath(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // it went meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("open network namespace %s: %w", path, err)
		}
		there, err := netlink.NewHandleAt(space)
		if err == nil {
			var links []netlink.Link
			links, err = there.LinkList()
			for _, l := range links {
				if l.Type() == "veth" {
					out[l.Attrs().ParentIndex] = true
				}
			}
			there.Close()
		}
		_ = space.Close() // it was only read
		if err != nil {
			return nil, fmt.Errorf("list interfaces of network namespace %s: %w", path, err)
		}
	}
	return out, nil
}

// deletePorts deletes the veth pairs on the bridge whose near end is condemned.
func (n *Network) deletePorts(condemned func(l *netlink.LinkAttrs) bool) error {
	bridge, err := netlink.LinkByName(n.cfg.Bridge)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", n.cfg.Bridge, err)
	}
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	var errs []error
	for _, l := range links {
		if l.Attrs().MasterIndex != bridge.Attrs().Index || l.Type() != "veth" || !condemned(l.Attrs()) {
			continue
		}
		if err := netlink.LinkDel(l); err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) && !strings.Contains(err.Error(), "no such device") {
			errs = append(errs, fmt.Errorf("delete interface %s: %w", l.Attrs().Name, err))
		}
	}
	return errors.Join(errs...)
}

func (n *Network) removeBridge() error {
	if err := n.deletePorts(func(*netlink.LinkAttrs) bool { return true }); err != nil {
		return err
	}
	link, err := netlink.LinkByName(n.cfg.Bridge)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", n.cfg.Bridge, err)
	}
	if err := netlink.LinkDel(link); err != nil {
		return fmt.Errorf("delete bridge %s: %w", n.cfg.Bridge, err)
	}
	return nil
}

// hardwareAddr derives a locally administered unicast address from what makes the bridge unique.
func hardwareAddr(c Config) net.HardwareAddr {
	sum := sha256.Sum256([]byte(c.Bridge + c.PodCIDR.String()))
	return net.HardwareAddr{0x0a, sum[0], sum[1], sum[2], sum[3], sum[4]}
}

// defaultMTU is that of the interface the default route leaves by: packets of pods go there too.
func defaultMTU() (int, error) {
	const ethernet = 1500
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return 0, fmt.Errorf("find MTU: list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
			return link.Attrs().MTU, nil
		}
	}
	return ethernet, nil
}
