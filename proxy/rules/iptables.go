package rules

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	goiptables "github.com/coreos/go-iptables/iptables"

	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/proxy/feed"
)

// lockWait is how many seconds a command waits for other users of iptables.
const lockWait = "10"

// IptablesConfig configures the iptables backend.
type IptablesConfig struct {
	// Node is this node's name, as endpoints carry it.
	Node string
	// PodCIDRs are the networks of all pods of the cluster, at most one per IP family. Traffic
	// from elsewhere to a cluster IP is masqueraded; without one nothing is.
	PodCIDRs []netip.Prefix
	// ServiceCIDRs are the networks of cluster IPs; their families are the ones that are served.
	ServiceCIDRs []netip.Prefix
	// Bridge is the interface all pods of this node hang on; empty means there is none.
	Bridge string
	// Log must not be nil.
	Log *slog.Logger
}

// Check reports every problem of the configuration.
func (c IptablesConfig) Check() error {
	var errs []error
	if c.Node == "" {
		errs = append(errs, fmt.Errorf("node name is empty: %w", messages.ErrInvalid))
	}
	if len(c.ServiceCIDRs) == 0 {
		errs = append(errs, fmt.Errorf("no service network: %w", messages.ErrInvalid))
	}
	for _, p := range slices.Concat(c.PodCIDRs, c.ServiceCIDRs) {
		if !p.IsValid() || p != p.Masked() {
			errs = append(errs, fmt.Errorf("network %s: %w", p, messages.ErrInvalid))
		}
	}
	return errors.Join(errs...)
}

// Iptables is the backend that writes iptables rules.
type Iptables struct {
	// mu keeps a call that was cancelled, and is on its way out, apart from the next one.
	mu       sync.Mutex
	families []*family
}

// NewIptables returns the backend. It finds its commands but writes nothing yet.
func NewIptables(cfg IptablesConfig) (*Iptables, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("configure iptables: %w", err)
	}
	out := &Iptables{}
	for _, ipv6 := range []bool{false, true} {
		ofFamily := func(p netip.Prefix) bool { return p.Addr().Is6() != ipv6 }
		services := slices.DeleteFunc(slices.Clone(cfg.ServiceCIDRs), ofFamily)
		if len(services) == 0 {
			continue
		}
		s := settings{ipv6: ipv6, node: cfg.Node, services: services}
		if pods := slices.DeleteFunc(slices.Clone(cfg.PodCIDRs), ofFamily); len(pods) > 0 {
			s.pods = pods[0]
		}
		if cfg.Bridge != "" && !bridgedPacketsSeen(ipv6) {
			cfg.Log.Warn("bridged packets bypass iptables: masquerading traffic between pods and services", "bridge", cfg.Bridge)
			s.bridge = cfg.Bridge
		}
		f, err := newFamily(s, cfg.Log)
		if err != nil {
			return nil, err
		}
		out.families = append(out.families, f)
	}
	return out, nil
}

// Sync implements [Backend].
func (b *Iptables) Sync(ctx context.Context, u feed.Update) error {
	return b.each(func(f *family) error {
		f.plan.update(u)
		return f.sync(ctx)
	})
}

// Verify implements [Backend].
func (b *Iptables) Verify(ctx context.Context) error {
	return b.each(func(f *family) error {
		f.known = false
		return f.sync(ctx)
	})
}

// Remove implements [Backend].
func (b *Iptables) Remove(ctx context.Context) error {
	return b.each(func(f *family) error { return f.remove(ctx) })
}

// RemoveIptables does what [Iptables.Remove] does for every IP family this machine has iptables
// for, without knowing how they were used. A machine without iptables has nothing to remove.
func RemoveIptables(ctx context.Context, log *slog.Logger) error {
	var errs []error
	for _, ipv6 := range []bool{false, true} {
		if _, err := os.Stat("/proc/net/if_inet6"); ipv6 && err != nil {
			continue // the kernel has IPv6 switched off
		}
		f, err := newFamily(settings{ipv6: ipv6}, log)
		if errors.Is(err, exec.ErrNotFound) {
			continue
		}
		if err == nil {
			err = f.remove(ctx)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (b *Iptables) each(fn func(*family) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, f := range b.families {
		errs = append(errs, fn(f))
	}
	return errors.Join(errs...)
}

// family is the backend for one IP family: what is wanted and what the kernel is known to have.
type family struct {
	plan          *plan
	have          tables
	known         bool // have was read, and every write since succeeded
	save, restore string
	rules         *goiptables.IPTables
	log           *slog.Logger
	// written counts the chains written since the start.
	written int
}

func newFamily(s settings, log *slog.Logger) (*family, error) {
	f := &family{plan: newPlan(s), log: log}
	name, proto := "iptables", goiptables.ProtocolIPv4
	if s.ipv6 {
		name, proto = "ip6tables", goiptables.ProtocolIPv6
	}
	var errs [3]error
	var path string
	path, errs[0] = command(name)
	f.save, errs[1] = command(name + "-save")
	f.restore, errs[2] = command(name + "-restore")
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("find %s (Debian package iptables): %w", name, err)
	}
	var err error
	if f.rules, err = goiptables.New(goiptables.IPFamily(proto), goiptables.Path(path), goiptables.Timeout(10)); err != nil {
		return nil, fmt.Errorf("try %s: %w", path, err)
	}
	return f, nil
}

// command finds a system command, also when PATH is a user's.
func command(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	if path, e := exec.LookPath(filepath.Join("/usr/sbin", name)); e == nil {
		return path, nil
	}
	return "", err
}

// sync makes the kernel have what is wanted.
func (f *family) sync(ctx context.Context) error {
	if err := f.write(ctx); err != nil {
		f.known = false // what a failed command left behind is read back before the next try
		return err
	}
	f.plan.settle()
	if f.plan.flows {
		// The rules are right all the same, so this is not worth holding up a drain.
		if err := forgetFlows(f.plan); err != nil {
			f.log.Warn("stale udp conversations not forgotten", "err", err)
			return nil
		}
		f.plan.flows = false
	}
	return nil
}

func (f *family) write(ctx context.Context) error {
	var absent []hook
	whole := !f.known
	if whole {
		var err error
		if absent, err = f.read(ctx); err != nil {
			return err
		}
		if err := f.openLoopback(); err != nil {
			return err
		}
	}
	if err := f.apply(ctx, whole); err != nil {
		return err
	}
	if err := f.hook(absent); err != nil {
		return err
	}
	f.known = true
	return nil
}

// apply writes the differences, filter first: what is about to be served must not be refused by
// a rule of yesterday, and what is not served any more is refused by the last resort anyway.
func (f *family) apply(ctx context.Context, whole bool) error {
	var b bytes.Buffer
	var diffs []diff
	for _, t := range []table{filter, nat} {
		among := f.plan.dirty[t]
		if whole {
			among = nil
		}
		if d := compare(t, f.plan.wanted[t], f.have[t], among); !d.empty() {
			d.write(&b, f.plan.wanted[t])
			diffs = append(diffs, d)
		}
	}
	if len(diffs) == 0 {
		return nil
	}
	if err := f.run(ctx, &b); err != nil {
		return err
	}
	for _, d := range diffs {
		d.note(f.plan.wanted[d.table], f.have[d.table])
		f.written += len(d.put) + len(d.remove)
	}
	return nil
}

// read learns what the kernel has, and which hooks are missing.
func (f *family) read(ctx context.Context) (absent []hook, err error) {
	f.have = newTables()
	for _, t := range []table{filter, nat} {
		var out, complaint bytes.Buffer
		cmd := exec.CommandContext(ctx, f.save, "-t", string(t))
		cmd.Stdout, cmd.Stderr = &out, &complaint
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("read table %s: %w: %s", t, err, oneLine(&complaint))
		}
		var jumps map[string][]string
		f.have[t], jumps = parse(out.Bytes())
		absent = append(absent, missing(t, jumps)...)
	}
	return absent, nil
}

// hook inserts jumps at the top of the kernel's chains, keeping their order.
func (f *family) hook(absent []hook) error {
	for _, h := range slices.Backward(absent) {
		if err := f.rules.Insert(string(h.table), h.chain, 1, h.rule...); err != nil {
			return fmt.Errorf("hook into %s/%s: %w", h.table, h.chain, err)
		}
	}
	return nil
}

func (f *family) run(ctx context.Context, input *bytes.Buffer) error {
	var complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, f.restore, "--noflush", "--wait", lockWait)
	cmd.Stdin, cmd.Stderr = input, &complaint
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("write rules: %w: %s", err, oneLine(&complaint))
	}
	return nil
}

// remove deletes hooks, chains and the sysctl.
func (f *family) remove(ctx context.Context) error {
	f.known = false
	if _, err := f.read(ctx); err != nil {
		return err
	}
	for _, h := range hooks() {
		if _, there := f.have[h.table][h.rule[len(h.rule)-1]]; !there {
			continue // a chain that does not exist is not jumped to
		}
		if err := f.rules.DeleteIfExists(string(h.table), h.chain, h.rule...); err != nil {
			return fmt.Errorf("unhook from %s/%s: %w", h.table, h.chain, err)
		}
	}
	if err := f.closeLoopback(); err != nil {
		return err
	}
	var b bytes.Buffer
	for _, t := range []table{nat, filter} {
		ownChains(t, f.have[t]).write(&b, nil)
	}
	if b.Len() == 0 {
		return nil
	}
	return f.run(ctx, &b)
}

func oneLine(b *bytes.Buffer) string {
	return strings.Join(strings.Fields(b.String()), " ")
}

var _ Backend = (*Iptables)(nil)
