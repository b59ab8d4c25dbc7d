package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/messages/stream"
	"github.com/troupe-run/troupe/node/eviction"
	"github.com/troupe-run/troupe/node/image"
	"github.com/troupe-run/troupe/node/link"
	"github.com/troupe-run/troupe/node/pod"
	"github.com/troupe-run/troupe/node/runtime/sim"
	"github.com/troupe-run/troupe/node/server"
)

// SimConfig of simulated nodes.
type SimConfig struct {
	// Nodes is how many; 0 means 1, -1 none to begin with.
	Nodes int
	// Prefix and a number from 0 make a node's name; empty means "node-".
	Prefix string
	// Region is the region's name in subjects. Required.
	Region string
	// Conn is a connection that may use the subjects of all these nodes. Required.
	Conn *nats.Conn
	// Stage is the system the actors live in. Required.
	Stage *stage.System
	// DataDir keeps a checkpoint per node; empty keeps none.
	DataDir string
	// CPU (cores), Memory (bytes) and MaxPods are what each node offers; 0 means 32, 64 GiB, 110.
	CPU, Memory, MaxPods int64
	// Labels of all nodes, beside the ones every node has.
	Labels map[string]string
	// EvictionHard are the thresholds below which pods are evicted; nil means eviction.Default.
	// PressureTransition is for how long a condition stays; 0 means five minutes.
	EvictionHard       []eviction.Threshold
	PressureTransition time.Duration
	// Machines are runtimes by node name that run already, from [Sim.Machines] of an earlier life:
	// their containers are adopted.
	Machines map[string]*sim.Runtime
	// StartDelay and PullDelay are how long containers take to start and images to pull, unless
	// pods are annotated otherwise.
	StartDelay, PullDelay time.Duration
	// Clock tells the time; nil means the real one.
	Clock clock.PassiveClock
	// Log gets what an operator should know; nil discards.
	Log *slog.Logger
}

func (c *SimConfig) check() error {
	var errs []error
	if c.Region == "" {
		errs = append(errs, errors.New("node: a region is required"))
	}
	if c.Conn == nil {
		errs = append(errs, errors.New("node: a connection is required"))
	}
	if c.Stage == nil {
		errs = append(errs, errors.New("node: a stage is required"))
	}
	return errors.Join(errs...)
}

func (c *SimConfig) complete() {
	orElse := func(v *int64, otherwise int64) {
		if *v == 0 {
			*v = otherwise
		}
	}
	completeEviction(&c.EvictionHard, &c.PressureTransition)
	orElse(&c.CPU, 32)
	orElse(&c.Memory, 64<<30)
	orElse(&c.MaxPods, defaultMaxPods)
	if c.Nodes == 0 {
		c.Nodes = 1
	}
	if c.Prefix == "" {
		c.Prefix = "node-"
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// Sim is a set of simulated nodes in this process. It is safe for concurrent use.
type Sim struct {
	cfg  SimConfig
	hub  *link.Hub
	stop func(context.Context) error

	mu    sync.Mutex
	nodes map[string]*SimNode
}

// SimNode is one simulated node.
type SimNode struct {
	*Agent
	number int
	labels map[string]string
	rt     atomic.Pointer[sim.Runtime]
	burden atomic.Pointer[map[eviction.Signal]int64]
}

// Runtime returns the node's simulated runtime, nil before the node is registered. Tests make it
// fail.
func (n *SimNode) Runtime() *sim.Runtime { return n.rt.Load() }

// Node returns a node by its name, nil when there is none.
func (s *Sim) Node(name string) *SimNode {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes[name]
}

// Machines returns the runtimes of all nodes by name. They outlive their agents.
func (s *Sim) Machines() map[string]*sim.Runtime {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]*sim.Runtime, len(s.nodes))
	for name, n := range s.nodes {
		if rt := n.rt.Load(); rt != nil {
			out[name] = rt
		}
	}
	return out
}

// StartSim starts simulated nodes: the same agents and pod actors as real ones, on a runtime that
// runs nothing. They share one connection and one listener.
func StartSim(ctx context.Context, cfg SimConfig) (_ *Sim, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.complete()
	s := &Sim{cfg: cfg, nodes: make(map[string]*SimNode, cfg.Nodes)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(context.WithoutCancel(ctx)))
		}
	}()
	if s.hub, err = link.NewHub(cfg.Conn, cfg.Region); err != nil {
		return nil, err
	}
	for i := range max(cfg.Nodes, 0) {
		if err := s.Add(fmt.Sprintf("%s%d", cfg.Prefix, i), nil); err != nil {
			return nil, err
		}
	}
	l, err := stream.Listen(cfg.Conn, messages.NodeStreamAll(cfg.Region))
	if err != nil {
		return nil, err
	}
	s.stop, err = runServer(server.Config{NodeContainers: s.containers, Log: cfg.Log}, l)
	return s, err
}

func (s *Sim) containers(node string) (server.Containers, bool) {
	n := s.Node(node)
	if n == nil {
		return nil, false
	}
	rt := n.rt.Load()
	return simContainers{containers{n.find, n.facts, rt}, rt, node}, rt != nil
}

// Close ends all nodes.
func (s *Sim) Close(ctx context.Context) error {
	var errs []error
	if s.stop != nil {
		errs = append(errs, s.stop(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nodes {
		errs = append(errs, n.Close(ctx))
	}
	if s.hub != nil {
		errs = append(errs, s.hub.Close())
	}
	return errors.Join(errs...)
}

// Add starts one more node, with labels beside those of all. A name that was there before is
// started anew on the same runtime, whose containers are adopted; [SimNode.Close] came before.
func (s *Sim) Add(name string, labels map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cfg, old := &s.cfg, s.nodes[name]
	n := &SimNode{labels: maps.Clone(cfg.Labels), Agent: &Agent{
		name: name, stage: cfg.Stage, facts: &atomic.Pointer[pod.Facts]{}, pods: &atomic.Pointer[pod.Pods]{},
	}}
	n.rt.Store(cfg.Machines[name])
	k := len(s.nodes) + 1 // nodes never leave the map
	if old != nil {
		n.labels, k = old.labels, old.number
		n.rt.Store(old.rt.Load())
	}
	if n.labels == nil {
		n.labels = make(map[string]string, len(labels))
	}
	maps.Copy(n.labels, labels)
	n.number = k
	s.nodes[name] = n
	return n.start(cfg, s.hub)
}

func (n *SimNode) start(cfg *SimConfig, hub *link.Hub) error {
	// Nodes need addresses that differ, not ones that answer: 127.0.0.0/8 holds all there can be.
	ip := netip.AddrFrom4([4]byte{127, byte(1 + n.number>>16), byte(n.number >> 8), byte(n.number)})
	resources := resourceList(cfg.CPU*1000, cfg.Memory, simDisk, cfg.MaxPods)
	n.facts.Store(&pod.Facts{HostIPs: []string{ip.String()}, Capacity: resources})
	status := corev1.NodeStatus{
		Capacity: resources, Allocatable: resources,
		Conditions: nodeConditions(health{}, metav1.NewTime(cfg.Clock.Now()), nil),
		Addresses:  nodeAddresses(n.name, []netip.Addr{ip}),
		NodeInfo: corev1.NodeSystemInfo{
			MachineID: n.name, SystemUUID: n.name, BootID: n.name, KernelVersion: "simulated", OSImage: "simulated",
			ContainerRuntimeVersion: "sim://1.0.0", KubeletVersion: KubeletVersion, OperatingSystem: "linux", Architecture: "amd64",
		},
	}
	up := func(_ context.Context, r link.Registered) (*pod.Pods, error) { return n.up(cfg, resources, r) }
	lc := link.Config{Hub: hub, Region: cfg.Region, Node: nodeObject(n.name, n.labels, nil, status), Log: cfg.Log}
	if cfg.DataDir != "" {
		lc.DataDir = filepath.Join(cfg.DataDir, n.name)
	}
	images := func(ctx context.Context) ([]corev1.ContainerImage, error) {
		if rt := n.rt.Load(); rt != nil {
			return listImages(ctx, rt)
		}
		return nil, nil
	}
	return startAgent(n.Agent, agentConfig{
		name: n.name, log: cfg.Log, up: up, images: images, status: status, clock: cfg.Clock,
		gauge: simGauge{n, cfg.Memory}, rules: eviction.Rules{Thresholds: cfg.EvictionHard, Transition: cfg.PressureTransition},
	}, lc)
}

// PowerOff ends the node as a power cut does: its containers have ended, too.
func (n *SimNode) PowerOff(ctx context.Context) error {
	err := n.Close(ctx)
	if rt := n.rt.Load(); rt != nil {
		rt.Reboot()
	}
	return err
}

// up makes the runtime, which needs the node's pod range, unless it runs already, and starts to
// run pods.
func (n *SimNode) up(cfg *SimConfig, resources corev1.ResourceList, r link.Registered) (*pod.Pods, error) {
	podCIDR, err := netip.ParsePrefix(r.Node.Spec.PodCIDR)
	if err != nil {
		return nil, fmt.Errorf("the control plane gave no pod range: %w", err)
	}
	rt := n.rt.Load()
	if rt == nil {
		rt = sim.New(sim.Config{Node: n.name, PodCIDR: podCIDR, StartDelay: cfg.StartDelay, PullDelay: cfg.PullDelay, Used: n.press, Clock: cfg.Clock})
	}
	puller, err := image.NewPuller(image.PullerConfig{Service: rt, Pulled: pulledInto(n.Agent), Clock: cfg.Clock, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	n.rt.Store(rt)
	return pod.Start(pod.Config{
		Node: n.name, Stage: n.stage, Runtime: rt, Control: n.link, Prober: rt,
		Images: images{puller, n.link.Record}, Volumes: simVolumes{n.link},
		Facts:          func() pod.Facts { return *n.facts.Load() },
		Admit:          n.admit,
		UserNamespaces: true, // nothing runs as anybody
		RuntimeName:    "sim", Memory: resources.Memory().Value(), Refresh: -1,
		Health: func(err error) { n.stage.Send(n.pid, runtimeHealth{err}) },
		Clock:  cfg.Clock, Log: cfg.Log,
	})
}

// simVolumes keeps no files; it only minds that what volumes come from exists.
type simVolumes struct{ objects pod.Objects }

func (v simVolumes) Setup(_ context.Context, p *corev1.Pod) error {
	for i := range p.Spec.Volumes {
		x := &p.Spec.Volumes[i]
		switch {
		case x.ConfigMap != nil && (x.ConfigMap.Optional == nil || !*x.ConfigMap.Optional):
			if _, ok := v.objects.ConfigMap(p.Namespace, x.ConfigMap.Name); !ok {
				return fmt.Errorf("MountVolume.SetUp failed for volume %q : configmap %q not found", x.Name, x.ConfigMap.Name)
			}
		case x.Secret != nil && (x.Secret.Optional == nil || !*x.Secret.Optional):
			if _, ok := v.objects.Secret(p.Namespace, x.Secret.SecretName); !ok {
				return fmt.Errorf("MountVolume.SetUp failed for volume %q : secret %q not found", x.Name, x.Secret.SecretName)
			}
		}
	}
	return nil
}

func (simVolumes) Refresh(context.Context, *corev1.Pod) error                     { return nil }
func (simVolumes) Usage(context.Context, *corev1.Pod) (map[string]int64, error)   { return nil, nil }
func (simVolumes) Mounts(context.Context, pod.MountRequest) ([]*cri.Mount, error) { return nil, nil }
func (simVolumes) Termination(types.UID, string, uint32) (string, error)          { return "", nil }
func (simVolumes) Teardown(context.Context, types.UID) error                      { return nil }
func (simVolumes) Sweep(context.Context, []types.UID) error                       { return nil }

var _ pod.Volumes = simVolumes{}
