package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
)

// Config says how the pods of this node are connected.
type Config struct {
	// DataDir holds leases of addresses and, by default, the CNI configuration. Required, absolute.
	DataDir string
	// BinDir holds the CNI plugins in BinDir/cni. Required.
	BinDir string
	// ConfDir is where the container runtime looks for CNI configuration. Empty means
	// <DataDir>/cni/net.d.
	ConfDir string
	// CacheDir is where the container runtime's CNI library keeps what it attached. Empty means
	// its default, /var/lib/cni.
	CacheDir string
	// Bridge names the bridge and the CNI network, at most 15 bytes. Empty means troupe0. Two
	// clusters on one machine need two.
	Bridge string
	// PodCIDR is the IPv4 range this node gives addresses from; its first one is the bridge's own.
	// Required.
	PodCIDR netip.Prefix
	// ClusterCIDR is the range of all pods of the cluster: traffic to it keeps its source address.
	// Zero means PodCIDR.
	ClusterCIDR netip.Prefix
	// MTU of the bridge and the pods, in bytes. Zero means that of the interface of the default
	// route, and 1500 without one.
	MTU int
	// Log gets what a person should know. Required.
	Log *slog.Logger
}

// interfaceName is what CRI runtimes call a pod's interface.
const interfaceName = "eth0"

// Check reports all that is wrong with the configuration at once.
func (c Config) Check() error {
	var errs []error
	if !filepath.IsAbs(c.DataDir) {
		errs = append(errs, fmt.Errorf("network: DataDir %q is not an absolute path", c.DataDir))
	}
	if c.BinDir == "" {
		errs = append(errs, errors.New("network: BinDir is missing"))
	}
	if len(c.Bridge) > 15 {
		errs = append(errs, fmt.Errorf("network: Bridge %q is longer than 15 bytes", c.Bridge))
	}
	for name, p := range map[string]netip.Prefix{"PodCIDR": c.PodCIDR, "ClusterCIDR": c.ClusterCIDR} {
		if name == "ClusterCIDR" && p == (netip.Prefix{}) {
			continue
		}
		if !p.IsValid() || !p.Addr().Is4() || p.Bits() > 29 {
			errs = append(errs, fmt.Errorf("network: %s %q is not an IPv4 range of at least 8 addresses", name, p))
		}
	}
	if c.Log == nil {
		errs = append(errs, errors.New("network: Log is missing"))
	}
	return errors.Join(errs...)
}

func (c Config) complete() (Config, error) {
	if err := c.Check(); err != nil {
		return c, err
	}
	c.PodCIDR = c.PodCIDR.Masked()
	if c.ClusterCIDR == (netip.Prefix{}) {
		c.ClusterCIDR = c.PodCIDR
	}
	c.ClusterCIDR = c.ClusterCIDR.Masked()
	if c.Bridge == "" {
		c.Bridge = "troupe0"
	}
	if c.ConfDir == "" {
		c.ConfDir = filepath.Join(c.DataDir, "cni", "net.d")
	}
	if c.CacheDir == "" {
		c.CacheDir = "/var/lib/cni"
	}
	return c, nil
}

func (c Config) gateway() netip.Prefix {
	return netip.PrefixFrom(c.PodCIDR.Addr().Next(), c.PodCIDR.Bits())
}
func (c Config) confFile() string  { return filepath.Join(c.ConfDir, "10-"+c.Bridge+".conflist") }
func (c Config) leaseRoot() string { return filepath.Join(c.DataDir, "cni", "leases") }
func (c Config) leases() string    { return filepath.Join(c.leaseRoot(), c.Bridge) }

// conflist is the CNI configuration of the pod network. Version 1.0.0 and not later: the plugins
// do not know the GC verb yet that a later one promises.
func (c Config) conflist() []byte {
	type object = map[string]any
	text, err := json.MarshalIndent(object{
		"cniVersion": "1.0.0",
		"name":       c.Bridge,
		"plugins": []object{
			{
				"type":             "bridge",
				"bridge":           c.Bridge,
				"isGateway":        true,
				"isDefaultGateway": true,
				"hairpinMode":      true, // a pod may reach itself through its Service
				"mtu":              c.MTU,
				"ipam": object{
					"type":    "host-local",
					"dataDir": c.leaseRoot(),
					"ranges":  [][]object{{{"subnet": c.PodCIDR.String(), "gateway": c.gateway().Addr().String()}}},
				},
			},
			{"type": "portmap", "backend": "iptables", "capabilities": object{"portMappings": true}},
		},
	}, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("encode CNI configuration: %v", err)) // maps of strings always encode
	}
	return text
}

// writeConf puts the configuration in place by a rename, because the runtime watches the folder.
func (c Config) writeConf() error {
	want := c.conflist()
	if have, err := os.ReadFile(c.confFile()); err == nil && string(have) == string(want) {
		return nil
	}
	for _, dir := range []string{c.ConfDir, c.leaseRoot()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("write CNI configuration: %w", err)
		}
	}
	draft := c.confFile() + ".new"
	if err := os.WriteFile(draft, want, 0o644); err != nil {
		return fmt.Errorf("write CNI configuration: %w", err)
	}
	if err := os.Rename(draft, c.confFile()); err != nil {
		return fmt.Errorf("write CNI configuration: %w", err)
	}
	return nil
}
