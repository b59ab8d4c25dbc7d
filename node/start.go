package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/node/eviction"
	"github.com/troupe-run/troupe/node/host"
	"github.com/troupe-run/troupe/node/image"
	"github.com/troupe-run/troupe/node/link"
	"github.com/troupe-run/troupe/node/network"
	"github.com/troupe-run/troupe/node/pod"
	"github.com/troupe-run/troupe/node/probe"
	"github.com/troupe-run/troupe/node/runtime"
	"github.com/troupe-run/troupe/node/volume"
)

// parallelStarts bounds the runtime calls of one node that create or remove something: more of
// them only wait for each other inside the runtime and the kernel.
const parallelStarts = 16

// Start starts a real node and returns when its runtime answers and it talks to the bus. The
// network and the pods follow as soon as the control plane has registered the node.
func Start(ctx context.Context, cfg Config) (_ *Agent, err error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	cfg.complete()
	if cfg.Name == "" {
		if cfg.Name, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("find own name: %w", err)
		}
		cfg.Name = strings.ToLower(cfg.Name)
	}
	if len(cfg.Addresses) == 0 {
		cfg.Addresses = hostAddresses()
	}
	m := &machineNode{cfg: cfg, a: &Agent{name: cfg.Name, stage: cfg.Stage, facts: &atomic.Pointer[pod.Facts]{}, pods: &atomic.Pointer[pod.Pods]{}}}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.a.Close(context.WithoutCancel(ctx)))
		}
	}()
	if err := m.startRuntime(ctx); err != nil {
		return nil, err
	}
	status, err := m.firstStatus()
	if err != nil {
		return nil, err
	}
	m.images = image.NewCollector(m.rt, cfg.Clock, cfg.Log)
	err = startAgent(m.a, agentConfig{
		name: cfg.Name, log: cfg.Log, up: m.up, measure: m.measure, status: status, clock: cfg.Clock,
		images:  func(ctx context.Context) ([]corev1.ContainerImage, error) { return listImages(ctx, m.rt) },
		collect: m.images.Collect,
		gauge:   m, rules: eviction.Rules{Thresholds: cfg.EvictionHard, Transition: cfg.PressureTransition}, pressEvery: pressEvery,
	}, link.Config{
		Conn: cfg.Conn, Region: cfg.Region, Node: nodeObject(cfg.Name, cfg.Labels, cfg.Taints, status), DataDir: cfg.DataDir, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	if err := serve(m.a, cfg.Conn, cfg.Region, cfg.Log, containers{m.a.find, m.a.facts, m.rt}); err != nil {
		return nil, err
	}
	return m.a, nil
}

// machineNode is the making of a real node.
type machineNode struct {
	cfg      Config
	a        *Agent
	host     *host.Host
	rt       *runtime.CRI
	version  *cri.VersionResponse
	capacity corev1.ResourceList
	images   *image.Collector
	imageDir string // where the runtime keeps images, once it has said so
	net      *network.Network
	stopNet  func(context.Context) error
}

// startRuntime starts or adopts containerd and connects to it.
func (m *machineNode) startRuntime(ctx context.Context) error {
	h, err := host.Start(ctx, host.Config{
		DataDir: m.cfg.DataDir, RunDir: m.cfg.RunDir, BinDir: m.cfg.BinDir, Address: m.cfg.ContainerdAddress, Log: m.cfg.Log,
	})
	if err != nil {
		return err
	}
	m.host = h
	m.a.onClose(func(context.Context) error { return h.Close() })
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- h.Run(watch) }()
	m.a.onClose(func(context.Context) error {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
	if m.rt, err = runtime.DialCRI(h.Socket()); err != nil {
		return err
	}
	m.a.onClose(func(context.Context) error { return m.rt.Close() })
	if m.version, err = m.rt.Version(ctx); err != nil {
		return fmt.Errorf("ask container runtime for its version: %w", err)
	}
	m.cfg.Step("runtime", m.runtimeVersion())
	return nil
}

func (m *machineNode) runtimeVersion() string {
	return m.version.GetRuntimeName() + "://" + strings.TrimPrefix(m.version.GetRuntimeVersion(), "v")
}

// firstStatus measures the machine and says that it is well, which Start has just seen.
func (m *machineNode) firstStatus() (corev1.NodeStatus, error) {
	total, allocatable, err := capacity(m.cfg.DataDir, m.cfg.MaxPods, m.cfg.EvictionHard)
	if err != nil {
		return corev1.NodeStatus{}, err
	}
	m.capacity = total
	f := pod.Facts{Capacity: allocatable}
	for _, ip := range m.cfg.Addresses {
		f.HostIPs = append(f.HostIPs, ip.String())
	}
	m.a.facts.Store(&f)
	return corev1.NodeStatus{
		Capacity: total, Allocatable: allocatable,
		Conditions: nodeConditions(health{}, metav1.NewTime(m.cfg.Clock.Now()), nil),
		Addresses:  nodeAddresses(m.cfg.Name, m.cfg.Addresses),
		NodeInfo:   systemInfo(m.runtimeVersion()),
	}, nil
}

// up connects the node's pod range and starts to run pods.
func (m *machineNode) up(ctx context.Context, r link.Registered) (*pod.Pods, error) {
	podCIDR, err := netip.ParsePrefix(r.Node.Spec.PodCIDR)
	if err != nil {
		return nil, fmt.Errorf("the control plane gave no pod range: %w", err)
	}
	if err := m.connect(ctx, podCIDR, r.Cluster); err != nil {
		return nil, err
	}
	manager, err := volume.NewManager(volume.Config{
		Dir: filepath.Join(m.cfg.DataDir, "pods"), Objects: m.a.link, Tokens: desk{m.a.link},
		Allocatable: func() corev1.ResourceList { return m.a.facts.Load().Capacity }, Clock: m.cfg.Clock, Log: m.cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	puller, err := image.NewPuller(image.PullerConfig{Service: m.rt, Pulled: pulledInto(m.a), Clock: m.cfg.Clock, Log: m.cfg.Log})
	if err != nil {
		return nil, err
	}
	pc := pod.Config{
		Node: m.cfg.Name, Stage: m.cfg.Stage, Runtime: m.rt, Control: m.a.link, Prober: probe.New(m.rt),
		Images: images{puller, m.a.link.Record}, Volumes: newVolumes(manager),
		Facts:       func() pod.Facts { return *m.a.facts.Load() },
		Services:    m.cfg.Services,
		RuntimeName: m.version.GetRuntimeName(),
		LogRoot:     m.logs(),
		Admit:       m.a.admit,
		Usage: func(ctx context.Context, p *corev1.Pod) (*eviction.Usage, error) {
			all, err := m.usage(ctx, []*corev1.Pod{p})
			return all[p.UID], err
		},
		Memory: m.capacity.Memory().Value(), MinOOMScore: lowestOOMScore(),
		Parallel: parallelStarts,
		Health:   func(err error) { m.a.stage.Send(m.a.pid, runtimeHealth{err}) },
		Clock:    m.cfg.Clock, Log: m.cfg.Log,
	}
	if m.cfg.ContainerdAddress == "" {
		pc.Cgroups = newCgroups(m.cfg.DataDir)
	}
	if pc.Resolver, err = resolver(); err != nil {
		return nil, err
	}
	p, err := pod.Start(pc)
	if err != nil {
		return nil, err
	}
	m.cfg.Step("pods", podCIDR.String())
	return p, nil
}

// logs is where pods' logs go.
func (m *machineNode) logs() string { return filepath.Join(m.cfg.DataDir, "logs") }

// connect sets up the pod network, clears what a crash left of it, and starts the proxy.
func (m *machineNode) connect(ctx context.Context, podCIDR netip.Prefix, cluster link.Cluster) error {
	nc := network.Config{DataDir: m.cfg.DataDir, BinDir: m.binDir(), Bridge: m.cfg.Bridge, PodCIDR: podCIDR, Log: m.cfg.Log}
	if c, err := netip.ParsePrefix(cluster.PodCIDR); err == nil {
		nc.ClusterCIDR = c
	}
	if m.cfg.ContainerdAddress != "" {
		nc.ConfDir = systemCNI
	}
	var err error
	if m.net, err = network.Setup(ctx, nc); err != nil {
		return err
	}
	if err := m.host.SweepOrphans(ctx, 0); err != nil {
		m.cfg.Log.Warn("forgotten containers stay until the next start", "node", m.cfg.Name, "err", err)
	}
	living, err := m.rt.ListPodSandbox(ctx, nil)
	if err != nil {
		return err
	}
	ids := make([]string, len(living))
	for i, b := range living {
		ids[i] = b.GetId()
	}
	if err := m.net.Sweep(ctx, ids, m.host.NetworkNamespaces()); err != nil {
		// Leftovers cost addresses, not correctness; the pods need the network now.
		m.cfg.Log.Warn("leftovers of the pod network stay until the next start", "node", m.cfg.Name, "err", err)
	}
	m.cfg.Step("network", m.net.Bridge())
	if m.cfg.Proxy == nil || m.stopNet != nil {
		return nil
	}
	stop, err := m.cfg.Proxy(ctx, ProxyInput{
		Node: m.cfg.Name, HostIPs: m.cfg.Addresses, Bridge: m.net.Bridge(), Gateway: m.net.Gateway(), PodCIDR: podCIDR, Cluster: cluster,
	})
	if err != nil {
		return fmt.Errorf("start proxy: %w", err)
	}
	m.stopNet = stop
	m.a.onClose(stop)
	m.cfg.Step("proxy", cluster.DNS)
	return nil
}

// systemCNI is where a containerd that is not ours looks for pod networks.
const systemCNI = "/etc/cni/net.d"

func (m *machineNode) binDir() string {
	if m.cfg.BinDir != "" {
		return m.cfg.BinDir
	}
	self, err := os.Executable()
	if err != nil {
		return "." // network reports the plugins missing there
	}
	return filepath.Dir(self)
}

// resolver reads the machine's resolv.conf, the real one where a stub of systemd stands before it.
func resolver() (*cri.DNSConfig, error) {
	for _, path := range []string{"/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"} {
		f, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read resolver configuration: %w", err)
		}
		defer f.Close()
		return pod.ParseResolvConf(f)
	}
	return &cri.DNSConfig{}, nil
}
