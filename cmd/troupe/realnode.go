package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/cluster"
	"github.com/troupe-run/troupe/node"
	"github.com/troupe-run/troupe/proxy"
)

func startReal(ctx context.Context, cfg node.Config, c *cluster.Cluster, p *progress) (func(context.Context) error, error) {
	nc, err := c.NodeConn(cfg.Name)
	if err != nil {
		return nothing, err
	}
	cfg.Region, cfg.Conn, cfg.Stage, cfg.Step = c.Region(), nc, c.Stage(), p.step
	withProxy(&cfg)
	agent, err := node.Start(ctx, cfg)
	if err != nil {
		nc.Close()
		return nothing, fmt.Errorf("start the node: %w", err)
	}
	patience, cancel := context.WithTimeout(ctx, nodeReadyWait)
	defer cancel()
	if err := waitReady(patience, c, agent); err != nil {
		fmt.Fprintf(p.out, "  %v; going on, see kubectl describe node %s\n", err, cfg.Name)
	} else {
		p.step("node "+cfg.Name, "Ready")
	}
	return func(ctx context.Context) error {
		defer nc.Close()
		return agent.Close(ctx)
	}, nil
}

// waitReady waits until the node's agent runs pods and the cluster shows the node as Ready, which a
// cluster that is resumed does from the start.
func waitReady(ctx context.Context, c *cluster.Cluster, agent *node.Agent) error {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for agent.Pods() == nil {
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("node %s does not run pods yet", agent.Name())
		}
	}
	return c.WaitNode(ctx, agent.Name())
}

// nodeReadyWait is how long "ready" is held back for the node; a node in trouble shows in kubectl
// and heals on its own.
const nodeReadyWait = 15 * time.Second

// withProxy lets the node serve services and names.
func withProxy(cfg *node.Config) {
	var running atomic.Pointer[proxy.Proxy]
	cfg.Services = func(namespace string) []*corev1.Service {
		if p := running.Load(); p != nil {
			return p.Services(namespace)
		}
		return nil
	}
	conn, stage, region, log := cfg.Conn, cfg.Stage, cfg.Region, cfg.Log
	cfg.Proxy = func(ctx context.Context, in node.ProxyInput) (func(context.Context) error, error) {
		pods, err := netip.ParsePrefix(in.Cluster.PodCIDR)
		if err != nil {
			return nil, fmt.Errorf("the cluster's pod range: %w", err)
		}
		services, err := netip.ParsePrefix(in.Cluster.ServiceCIDR)
		if err != nil {
			return nil, fmt.Errorf("the cluster's service range: %w", err)
		}
		p, err := proxy.Start(ctx, proxy.Config{
			Stage: stage, Conn: conn, Region: region, Node: in.Node, PodCIDRs: []netip.Prefix{pods}, ServiceCIDRs: []netip.Prefix{services},
			Bridge: in.Bridge, Domain: in.Cluster.Domain, Log: log,
		})
		if err != nil {
			return nil, err
		}
		running.Store(p)
		return p.Close, nil
	}
}

// reachableByPods makes the API listen where pods can reach it, too: at the address that the pod
// bridge of this, the first node is going to have.
func reachableByPods(ctx context.Context, cfg *cluster.Config) error {
	at, err := netip.ParseAddrPort(cfg.Listener.Addr().String())
	if err != nil {
		return err
	}
	gateway := netip.AddrPortFrom(cfg.PodCIDR.Addr().Next(), at.Port())
	cfg.Advertise = gateway
	if at.Addr().IsUnspecified() {
		return nil // every address is listened on
	}
	// The bridge comes later, with the node.
	early := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1) })
		if err != nil {
			return err
		}
		return failed
	}}
	l, err := early.Listen(ctx, "tcp4", gateway.String())
	if err != nil {
		return fmt.Errorf("listen where pods reach the API: %w; choose another --pod-cidr or --api-addr", err)
	}
	cfg.Also = append(cfg.Also, l)
	return nil
}
