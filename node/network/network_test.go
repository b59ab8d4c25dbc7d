package network_test

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/troupe-run/troupe/node/network"
)

// inNamespace moves the test, and every program it starts, into a network namespace of its own.
func inNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := exec.LookPath("iptables"); err != nil {
		t.Skip("iptables is not installed")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	own, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Set(home); err != nil {
			t.Error(err)
		}
		own.Close()
		home.Close()
	})
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func config(t *testing.T) network.Config {
	t.Helper()
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, "cni/bridge")); err != nil {
		t.Skip("CNI plugins are not built: run make tools")
	}
	return network.Config{
		DataDir: t.TempDir(), BinDir: bin, CacheDir: t.TempDir(), Bridge: "trtest0",
		PodCIDR: netip.MustParsePrefix("10.244.7.0/24"), ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16"),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// connect does what the container runtime does for a sandbox.
func connect(t *testing.T, cfg network.Config, id string, hostPort int) {
	t.Helper()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	pod, err := netns.NewNamed("troupe-test-" + id)
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	t.Cleanup(func() { _ = netns.DeleteNamed("troupe-test-" + id) })
	if err := netns.Set(home); err != nil {
		t.Fatal(err)
	}
	list, err := libcni.ConfListFromFile(filepath.Join(cfg.DataDir, "cni/net.d/10-trtest0.conflist"))
	if err != nil {
		t.Fatal(err)
	}
	c := libcni.NewCNIConfigWithCacheDir([]string{filepath.Join(cfg.BinDir, "cni")}, cfg.CacheDir, nil)
	_, err = c.AddNetworkList(t.Context(), list, &libcni.RuntimeConf{
		ContainerID: id, NetNS: "/run/netns/troupe-test-" + id, IfName: "eth0",
		CapabilityArgs: map[string]any{"portMappings": []map[string]any{{"hostPort": hostPort, "containerPort": 80, "protocol": "tcp"}}},
	})
	if err != nil {
		t.Fatalf("connect %s: %v", id, err)
	}
}

// rules returns all rules without counters and dates.
func rules(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	for _, table := range []string{"nat", "filter"} {
		text, err := exec.Command("iptables", "-t", table, "-S").CombinedOutput()
		if err != nil {
			t.Fatalf("list rules: %v: %s", err, text)
		}
		out.Write(text)
	}
	return out.String()
}

func leases(t *testing.T, cfg network.Config) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(cfg.DataDir, "cni/leases/trtest0/10.*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	return files
}

func ports(t *testing.T) int {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, l := range links {
		if l.Type() == "veth" {
			n++
		}
	}
	return n
}

func TestNetworkLeavesNothingBehind(t *testing.T) {
	inNamespace(t)
	cfg := config(t)
	pristine := rules(t)

	n, err := network.Setup(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := n.Gateway(), netip.MustParseAddr("10.244.7.1"); got != want {
		t.Errorf("gateway is %s, want %s", got, want)
	}
	first := rules(t)
	if first == pristine {
		t.Error("setup wrote no rules")
	}
	if _, err := network.Setup(t.Context(), cfg); err != nil {
		t.Fatalf("setup again: %v", err)
	}
	if diff := cmp.Diff(first, rules(t)); diff != "" {
		t.Errorf("a second setup changed rules (-first +second):\n%s", diff)
	}

	connect(t, cfg, "alive", 8001)
	connect(t, cfg, "dead", 8002)
	if out, err := exec.Command("ip", "netns", "exec", "troupe-test-alive", "ip", "route", "get", "192.0.2.1").CombinedOutput(); err != nil || !strings.Contains(string(out), "via 10.244.7.1") {
		t.Errorf("the pod has no way out: %v: %s", err, out)
	}
	if got := leases(t, cfg); len(got) != 2 || ports(t) != 2 {
		t.Fatalf("two pods have leases %v and %d ports", got, ports(t))
	}
	// What a crash in the middle of connecting leaves: an address that no cache knows.
	if err := os.WriteFile(filepath.Join(cfg.DataDir, "cni/leases/trtest0/10.244.7.99"), []byte("ghost\neth0"), 0o600); err != nil {
		t.Fatal(err)
	}
	spaces := []string{"/run/netns/troupe-test-alive", "/run/netns/troupe-test-gone"}
	if err := n.Sweep(t.Context(), []string{"alive"}, spaces); err != nil {
		t.Fatalf("sweep: %v", err)
	}
	if diff := cmp.Diff([]string{"10.244.7.2"}, leases(t, cfg)); diff != "" {
		t.Errorf("leases after the sweep (-want +got):\n%s", diff)
	}
	if got := ports(t); got != 1 {
		t.Errorf("%d ports after the sweep, want 1", got)
	}
	if got := rules(t); !strings.Contains(got, "8001") || strings.Contains(got, "8002") {
		t.Errorf("host ports after the sweep are wrong:\n%s", got)
	}

	// The results are in a folder that others use and may clear.
	results := filepath.Join(cfg.CacheDir, "results")
	if err := os.Rename(results, results+".away"); err != nil {
		t.Fatal(err)
	}
	if err := n.Sweep(t.Context(), []string{"alive"}, spaces); err != nil {
		t.Fatalf("sweep without results: %v", err)
	}
	if got := ports(t); got != 1 {
		t.Errorf("%d ports after a sweep without results, want 1", got)
	}
	if err := errors.Join(os.RemoveAll(results), os.Rename(results+".away", results)); err != nil {
		t.Fatal(err)
	}
	if err := n.Remove(t.Context()); err != nil {
		t.Fatalf("remove: %v", err)
	}
	if diff := cmp.Diff(pristine, rules(t)); diff != "" {
		t.Errorf("rules are left (-want +got):\n%s", diff)
	}
	if _, err := netlink.LinkByName("trtest0"); err == nil || ports(t) != 0 {
		t.Error("interfaces are left")
	}
	if got := leases(t, cfg); len(got) != 0 {
		t.Errorf("leases are left: %v", got)
	}
	if err := network.Remove(t.Context(), cfg); err != nil {
		t.Errorf("remove again: %v", err)
	}
}

func TestSetupFollowsItsConfig(t *testing.T) {
	inNamespace(t)
	cfg := config(t)
	if _, err := network.Setup(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	cfg.PodCIDR = netip.MustParsePrefix("10.9.0.0/24")
	cfg.ClusterCIDR = cfg.PodCIDR
	cfg.MTU = 1300
	n, err := network.Setup(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName(n.Bridge())
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	if len(addrs) != 1 || addrs[0].IP.String() != "10.9.0.1" || link.Attrs().MTU != 1300 {
		t.Errorf("bridge has addresses %v and MTU %d", addrs, link.Attrs().MTU)
	}
	if got := rules(t); strings.Contains(got, "10.244.") || strings.Count(got, "-j TROUPE-MASQ-trtest0") != 1 {
		t.Errorf("rules of the former range are left:\n%s", got)
	}
	if err := n.Remove(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCheckNamesEveryFault(t *testing.T) {
	err := network.Config{Bridge: "far-too-long-a-name", PodCIDR: netip.MustParsePrefix("fd00::/64")}.Check()
	for _, want := range []string{"DataDir", "BinDir", "Bridge", "PodCIDR", "Log"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}
