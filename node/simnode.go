package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
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
	"github.com/troupe-run/troupe/node/image"
	"github.com/troupe-run/troupe/node/link"
	"github.com/troupe-run/troupe/node/pod"
	"github.com/troupe-run/troupe/node/runtime/sim"
	"github.com/troupe-run/troupe/node/server"
)

// SimConfig of simulated nodes.
type SimConfig struct {
	// Nodes is how many; 0 means 1.
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

// Sim is a set of simulated nodes in this process.
type Sim struct {
	nodes map[string]*SimNode
	hub   *link.Hub
	stop  func(context.Context) error
}

// SimNode is one simulated node.
type SimNode struct {
	*Agent
	rt atomic.Pointer[sim.Runtime]
}

// Runtime returns the node's simulated runtime, nil before the node is registered. Tests make it
// fail.
func (n *SimNode) Runtime() *sim.Runtime { return n.rt.Load() }

// Node returns a node by its name, nil when there is none.
func (s *Sim) Node(name string) *SimNode { return s.nodes[name] }

// StartSim starts simulated nodes: the same agents and pod actors as real ones, on a runtime that
// runs nothing. They share one connection and one listener.
func StartSim(ctx context.Context, cfg SimConfig) (_ *Sim, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.complete()
	s := &Sim{nodes: make(map[string]*SimNode, cfg.Nodes)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(context.WithoutCancel(ctx)))
		}
	}()
	if s.hub, err = link.NewHub(cfg.Conn, cfg.Region); err != nil {
		return nil, err
	}
	for i := range cfg.Nodes {
		if err := s.start(&cfg, fmt.Sprintf("%s%d", cfg.Prefix, i)); err != nil {
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
	n := s.nodes[node]
	if n == nil {
		return nil, false
	}
	rt := n.rt.Load()
	return simContainers{containers{n.find, rt}, rt}, rt != nil
}

// Close ends all nodes.
func (s *Sim) Close(ctx context.Context) error {
	var errs []error
	if s.stop != nil {
		errs = append(errs, s.stop(ctx))
	}
	for _, n := range s.nodes {
		errs = append(errs, n.Close(ctx))
	}
	if s.hub != nil {
		errs = append(errs, s.hub.Close())
	}
	return errors.Join(errs...)
}

// start starts one node.
func (s *Sim) start(cfg *SimConfig, name string) error {
	a := &Agent{name: name, stage: cfg.Stage, facts: &atomic.Pointer[pod.Facts]{}, pods: &atomic.Pointer[pod.Pods]{}}
	n := &SimNode{Agent: a}
	s.nodes[name] = n
	// Nodes need addresses that differ, not ones that answer: 127.0.0.0/8 holds all there can be.
	k := len(s.nodes)
	ip := netip.AddrFrom4([4]byte{127, byte(1 + k>>16), byte(k >> 8), byte(k)})
	resources := resourceList(cfg.CPU*1000, cfg.Memory, 100<<30, cfg.MaxPods)
	a.facts.Store(&pod.Facts{HostIPs: []string{ip.String()}, Capacity: resources})
	status := corev1.NodeStatus{
		Capacity: resources, Allocatable: resources,
		Conditions: nodeConditions(health{}, metav1.NewTime(cfg.Clock.Now()), nil),
		Addresses:  nodeAddresses(name, []netip.Addr{ip}),
		NodeInfo: corev1.NodeSystemInfo{
			MachineID: name, SystemUUID: name, BootID: name, KernelVersion: "simulated", OSImage: "simulated",
			ContainerRuntimeVersion: "sim://1.0.0", KubeletVersion: KubeletVersion, OperatingSystem: "linux", Architecture: "amd64",
		},
	}
	up := func(_ context.Context, r link.Registered) (*pod.Pods, error) { return n.up(cfg, resources, r) }
	lc := link.Config{Hub: s.hub, Region: cfg.Region, Node: nodeObject(name, cfg.Labels, nil, status), Log: cfg.Log}
	if cfg.DataDir != "" {
		lc.DataDir = cfg.DataDir + "/" + name
	}
	return startAgent(a, agentConfig{name: name, log: cfg.Log, up: up, status: status, clock: cfg.Clock}, lc)
}

// up makes the runtime, which needs the node's pod range, and starts to run pods.
func (n *SimNode) up(cfg *SimConfig, resources corev1.ResourceList, r link.Registered) (*pod.Pods, error) {
	podCIDR, err := netip.ParsePrefix(r.Node.Spec.PodCIDR)
	if err != nil {
		return nil, fmt.Errorf("the control plane gave no pod range: %w", err)
	}
	rt := sim.New(sim.Config{Node: n.name, PodCIDR: podCIDR, StartDelay: cfg.StartDelay, PullDelay: cfg.PullDelay, Clock: cfg.Clock})
	puller, err := image.NewPuller(image.PullerConfig{Service: rt, Clock: cfg.Clock, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	n.rt.Store(rt)
	return pod.Start(pod.Config{
		Node: n.name, Stage: n.stage, Runtime: rt, Control: n.link, Prober: rt,
		Images: images{puller, n.link.Record}, Volumes: simVolumes{n.link},
		Facts:       func() pod.Facts { return *n.facts.Load() },
		RuntimeName: "sim", Memory: resources.Memory().Value(), Refresh: -1,
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
func (simVolumes) Mounts(context.Context, pod.MountRequest) ([]*cri.Mount, error) { return nil, nil }
func (simVolumes) Termination(types.UID, string, uint32) (string, error)          { return "", nil }
func (simVolumes) Teardown(context.Context, types.UID) error                      { return nil }
func (simVolumes) Sweep(context.Context, []types.UID) error                       { return nil }

var _ pod.Volumes = simVolumes{}
