package rules

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

const (
	routeLocalnet = "/proc/sys/net/ipv4/conf/all/route_localnet"
	bridgeCall4   = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	bridgeCall6   = "/proc/sys/net/bridge/bridge-nf-call-ip6tables"
)

// openedByUs marks the rule that guards the loopback network when we opened it: whoever removes
// the rules, in whatever process, knows from it whether to close it again.
const openedByUs = `-m comment --comment "opened by troupe" `

// openLoopback lets node ports answer on 127.0.0.1, guarded by a rule against neighbours.
func (f *family) openLoopback() error {
	if f.plan.settings.ipv6 {
		return nil
	}
	guard := f.plan.wanted[filter][localChain][0]
	if strings.Contains(guard, openedByUs) {
		return setSysctl(routeLocalnet, "1")
	}
	open, err := sysctl(routeLocalnet)
	if err != nil {
		return err
	}
	before := f.have[filter][localChain]
	if open == "1" && !slices.ContainsFunc(before, func(r string) bool { return strings.Contains(r, openedByUs) }) {
		return nil // it was open before us and stays so
	}
	f.plan.set(filter, localChain, []string{strings.Replace(guard, "-m conntrack", openedByUs+"-m conntrack", 1)}, true)
	return setSysctl(routeLocalnet, "1")
}

// closeLoopback reverts openLoopback.
func (f *family) closeLoopback() error {
	for _, rule := range f.have[filter][localChain] {
		if strings.Contains(rule, openedByUs) {
			return setSysctl(routeLocalnet, "0")
		}
	}
	return nil
}

// bridgedPacketsSeen says whether iptables sees what a bridge forwards, after trying to make it so.
func bridgedPacketsSeen(ipv6 bool) bool {
	path := bridgeCall4
	if ipv6 {
		path = bridgeCall6
	}
	if _, err := os.Stat(path); err != nil {
		_ = exec.Command("modprobe", "br_netfilter").Run() // containers have no modprobe; the file tells
	}
	return setSysctl(path, "1") == nil
}

func sysctl(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read sysctl: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// setSysctl writes only what differs: /proc/sys may be read-only and right.
func setSysctl(path, value string) error {
	if now, err := sysctl(path); err != nil || now == value {
		return err
	}
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		return fmt.Errorf("set sysctl: %w", err)
	}
	return nil
}
