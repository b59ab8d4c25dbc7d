package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/proto/proxypb"
	"github.com/troupe-run/troupe/proxy/dns"
	"github.com/troupe-run/troupe/proxy/feed"
	"github.com/troupe-run/troupe/proxy/rules"
)

// Proxy is the running proxy of one node.
type Proxy struct {
	cfg         Config
	dns         *dns.Server
	feed, rules *actor.PID
	applied     atomic.Uint64
	services    services
}

// Start starts the proxy. It does not wait for the control plane: until that was heard, rules that
// are there stay as they are, and DNS answers that it does not know yet.
func Start(ctx context.Context, cfg Config) (_ *Proxy, err error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("configure proxy: %w", err)
	}
	cfg = cfg.complete()
	p := &Proxy{cfg: cfg}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close(context.WithoutCancel(ctx)))
		}
	}()
	backend, err := rules.NewIptables(cfg.iptables())
	if err != nil {
		return nil, err
	}
	if err := ensureLink(cfg.Link, cfg.DNSAddresses); err != nil {
		return nil, err
	}
	table := &dns.Table{}
	if p.dns, err = dns.Start(cfg.dns(), table); err != nil {
		return nil, err
	}
	return p, p.perform(linked{backend, cfg.Link, cfg.DNSAddresses}, table)
}

// perform starts the actors. Rules and feed know each other, so the first one born learns later
// who the other is.
func (p *Proxy) perform(backend rules.Backend, table *dns.Table) (err error) {
	var feedPID atomic.Pointer[actor.PID]
	p.rules, err = p.cfg.Stage.Spawn(rules.Props(rules.Config{
		Backend: backend,
		Resend: func() {
			if pid := feedPID.Load(); pid != nil {
				p.cfg.Stage.Send(pid, feed.Resend{})
			}
		},
		Applied: p.report,
		Report:  p.cfg.Report,
		Log:     p.cfg.Log,
	}), "proxy-rules")
	if err != nil {
		return err
	}
	p.feed, err = p.cfg.Stage.Spawn(feed.Props(feed.Config{
		Conn:   p.cfg.Conn,
		Region: p.cfg.Region,
		Node:   p.cfg.Node,
		Deliver: func(u feed.Update) {
			table.Apply(u)
			p.services.apply(u)
			p.cfg.Stage.Send(p.rules, rules.Change{Update: u})
		},
		Log: p.cfg.Log,
	}), "proxy-feed")
	feedPID.Store(p.feed)
	return err
}

// report tells the control plane how far the rules have come. Reports are repeated with every
// look at the rules, so a lost one does no harm.
func (p *Proxy) report(source string, revision uint64) {
	p.applied.Store(revision)
	data, err := proto.Marshal(&proxypb.Applied{Source: source, Revision: revision})
	if err == nil {
		err = p.cfg.Conn.Publish(messages.NodeUp(p.cfg.Region, p.cfg.Node, "applied"), data)
	}
	if err != nil {
		p.cfg.Log.Warn("applied revision not reported", "rev", revision, "err", err)
	}
}

// Applied returns the revision of the cluster state up to which the kernel serves; 0 before the
// first.
func (p *Proxy) Applied() uint64 { return p.applied.Load() }

// Services returns the services of a namespace that have a cluster IP, reduced to name, addresses
// and ports: what the environment of pods is made of. The list is shared and must not be changed.
func (p *Proxy) Services(namespace string) []*corev1.Service { return p.services.in(namespace) }

// DNSAddresses returns where DNS answers.
func (p *Proxy) DNSAddresses() []netip.Addr { return p.cfg.DNSAddresses }

// Close ends the proxy and leaves rules and interface in place.
func (p *Proxy) Close(ctx context.Context) error {
	var errs []error
	for _, pid := range []*actor.PID{p.feed, p.rules} {
		if pid != nil {
			errs = append(errs, p.cfg.Stage.Stop(ctx, pid))
		}
	}
	if p.dns != nil {
		errs = append(errs, p.dns.Close(ctx))
	}
	return errors.Join(errs...)
}

// Remove deletes every trace that a proxy left on this machine: rules, interface, sysctl. The proxy
// must have been closed; it need not have run in this process. link is [Config.Link].
func Remove(ctx context.Context, link string, log *slog.Logger) error {
	link = Config{Link: link}.complete().Link
	return errors.Join(rules.RemoveIptables(ctx, log), removeLink(link))
}

func (c Config) iptables() rules.IptablesConfig {
	return rules.IptablesConfig{Node: c.Node, PodCIDRs: c.PodCIDRs, ServiceCIDRs: c.ServiceCIDRs, Bridge: c.Bridge, Log: c.Log}
}

func (c Config) dns() dns.Config {
	out := dns.Config{Domain: c.Domain, Networks: slices.Concat(c.PodCIDRs, c.ServiceCIDRs), ResolvConf: c.ResolvConf, Log: c.Log}
	for _, a := range c.DNSAddresses {
		out.Addresses = append(out.Addresses, netip.AddrPortFrom(a, dnsPort))
	}
	return out
}
