package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

// Network is the pod network of this node. See [Setup].
type Network struct {
	cfg Config
	cni *libcni.CNIConfig
}

// Setup makes the bridge with its address, forwarding and masquerading, and writes the CNI
// configuration by which the container runtime connects pods. It repairs what is there and keeps
// running pods connected.
func Setup(ctx context.Context, cfg Config) (*Network, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	if cfg.MTU == 0 {
		if cfg.MTU, err = defaultMTU(); err != nil {
			return nil, err
		}
	}
	n := newNetwork(cfg)
	if err := n.ensureBridge(); err != nil {
		return nil, err
	}
	if err := n.forwardPackets(ctx); err != nil {
		return nil, err
	}
	if err := n.ensureRules(); err != nil {
		return nil, err
	}
	if err := cfg.writeConf(); err != nil {
		return nil, err
	}
	return n, nil
}

func newNetwork(cfg Config) *Network {
	path := []string{filepath.Join(cfg.BinDir, "cni")}
	return &Network{cfg: cfg, cni: libcni.NewCNIConfigWithCacheDir(path, cfg.CacheDir, nil)}
}

// Gateway is the bridge's own address, at which pods reach services of their node.
func (n *Network) Gateway() netip.Addr { return n.cfg.gateway().Addr() }

// Bridge is the name of the bridge.
func (n *Network) Bridge() string { return n.cfg.Bridge }

// forwardPackets makes the kernel route between pods and the world, and show packets that stay on
// the bridge to iptables: without the latter a pod cannot reach a Service whose endpoint is on its
// own node, because the answer would bypass the translation of addresses.
func (n *Network) forwardPackets(ctx context.Context) error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("switch on forwarding: %w", err)
	}
	const onBridge = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	if _, err := os.Stat(onBridge); errors.Is(err, os.ErrNotExist) {
		// Built in or loaded already in most places; where it is neither, loading is worth a try.
		_ = exec.CommandContext(ctx, "modprobe", "br_netfilter").Run()
	}
	if err := os.WriteFile(onBridge, []byte("1"), 0o644); err != nil {
		n.cfg.Log.Warn("pods will not reach services with endpoints on their own node: load kernel module br_netfilter", "err", err)
	}
	return nil
}

// Sweep gives back the addresses, host ports and interfaces of sandboxes that are gone without
// having been taken down, as a crash leaves them. living are the IDs of all sandboxes there are,
// spaces the paths of their network namespaces: interfaces that lead there stay, whatever else is
// known of them. Call it before pods are started: one that is being connected meanwhile would count
// as dead.
func (n *Network) Sweep(ctx context.Context, living, spaces []string) error {
	alive := make(map[string]bool, len(living))
	valid := make([]types.GCAttachment, len(living))
	for i, id := range living {
		alive[id] = true
		valid[i] = types.GCAttachment{ContainerID: id, IfName: interfaceName}
	}
	list, err := libcni.ConfListFromBytes(n.cfg.conflist())
	if err != nil {
		return fmt.Errorf("sweep pod network: %w", err)
	}
	var errs []error
	if err := n.cni.GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: valid}); err != nil {
		errs = append(errs, fmt.Errorf("sweep pod network: %w", err))
	}
	// What died in the middle of being connected is in no cache, but may hold an address and an
	// interface.
	errs = append(errs, n.sweepLeases(alive), n.sweepInterfaces(alive, spaces))
	return errors.Join(errs...)
}

// sweepLeases deletes leases of dead sandboxes. A lease is a file named by its address, whose first
// line is the sandbox.
func (n *Network) sweepLeases(alive map[string]bool) error {
	entries, err := os.ReadDir(n.cfg.leases())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("sweep addresses: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if _, err := netip.ParseAddr(e.Name()); err != nil {
			continue // the lock and the memory of the last address
		}
		file := filepath.Join(n.cfg.leases(), e.Name())
		text, err := os.ReadFile(file)
		if err != nil {
			continue // given back meanwhile
		}
		id, _, _ := strings.Cut(string(text), "\n")
		if alive[strings.TrimSpace(id)] {
			continue
		}
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("sweep address %s: %w", e.Name(), err))
		}
	}
	return errors.Join(errs...)
}

// Remove deletes all of a pod network: interfaces, bridge, rules, CNI configuration, leases and
// cache. It needs no Setup before it and is content when nothing is there. Pods should be gone.
func Remove(ctx context.Context, cfg Config) error {
	cfg, err := cfg.complete()
	if err != nil {
		return err
	}
	return newNetwork(cfg).Remove(ctx)
}

// Remove is the method form of [Remove].
func (n *Network) Remove(ctx context.Context) error {
	var errs []error
	if _, err := os.Stat(filepath.Join(n.cfg.BinDir, "cni", "bridge")); err == nil {
		errs = append(errs, n.Sweep(ctx, nil, nil)) // host ports go with their plugin only
	}
	errs = append(errs, n.removeBridge(), n.removeRules())
	if err := os.Remove(n.cfg.confFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, fmt.Errorf("remove CNI configuration: %w", err))
	}
	if err := os.RemoveAll(n.cfg.leases()); err != nil {
		errs = append(errs, fmt.Errorf("remove leases of addresses: %w", err))
	}
	// Folders that we may have made and others may use go only when empty.
	for _, dir := range []string{n.cfg.leaseRoot(), filepath.Join(n.cfg.CacheDir, "results"), n.cfg.CacheDir} {
		_ = os.Remove(dir)
	}
	return errors.Join(errs...)
}
