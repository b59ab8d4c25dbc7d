package node

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/node/eviction"
	"github.com/troupe-run/troupe/node/link"
)

// KubeletVersion is the version of Kubernetes whose node behaviour this is.
const KubeletVersion = "v1.36.6-troupe"

// Config of a real node.
type Config struct {
	// Name of the node; empty means the machine's host name.
	Name string
	// DataDir keeps what must survive a reboot: checkpoint, images, volumes, logs. Required,
	// absolute.
	DataDir string
	// RunDir holds sockets and running state; empty means a folder below /run of DataDir's own.
	RunDir string
	// BinDir holds containerd, its shim, pause and cni/; empty means the folder of this program.
	BinDir string
	// ContainerdAddress is the socket of a containerd that runs already; empty starts an own one.
	ContainerdAddress string
	// Region is the region's name in subjects. Required.
	Region string
	// Conn is the node's connection to the bus. Required; the caller closes it.
	Conn *nats.Conn
	// Stage is the system the actors live in. Required.
	Stage *stage.System
	// Bridge names the pod bridge; empty means troupe0.
	Bridge string
	// Addresses are the node's own; none means the one the default route leaves by.
	Addresses []netip.Addr
	// Labels and Taints the node registers with, beside the ones every node has.
	Labels map[string]string
	Taints []corev1.Taint
	// MaxPods is how many pods the node takes; 0 means 110.
	MaxPods int64
	// EvictionHard are the thresholds below which pods are evicted; nil means eviction.Default.
	EvictionHard []eviction.Threshold
	// PressureTransition is for how long a condition of pressure stays after it was last seen; 0
	// means five minutes.
	PressureTransition time.Duration
	// Services returns the services whose variables pods of a namespace get; nil means only the
	// API's. It must not block.
	Services func(namespace string) []*corev1.Service
	// Proxy starts the node's share of services and DNS once the pod network is up, before any pod
	// starts; stop ends it. Nil starts none.
	Proxy func(ctx context.Context, in ProxyInput) (stop func(context.Context) error, err error)
	// Step is told of each part that is up. Nil means nobody is.
	Step func(name, detail string)
	// Clock tells the time; nil means the real one.
	Clock clock.WithTicker
	// Log gets what an operator should know. Required.
	Log *slog.Logger
}

// ProxyInput is what a node's proxy needs to know of the node.
type ProxyInput struct {
	Node    string
	HostIPs []netip.Addr
	// Bridge is the pods' bridge and Gateway its address, at which pods reach the node.
	Bridge  string
	Gateway netip.Addr
	// PodCIDR is this node's range.
	PodCIDR netip.Prefix
	Cluster link.Cluster
}

// Check reports everything that is wrong with the configuration.
func (c *Config) Check() error {
	var errs []error
	if !filepath.IsAbs(c.DataDir) {
		errs = append(errs, errors.New("node: DataDir must be an absolute path"))
	}
	if c.Region == "" {
		errs = append(errs, errors.New("node: a region is required"))
	}
	if c.Conn == nil {
		errs = append(errs, errors.New("node: a connection is required"))
	}
	if c.Stage == nil {
		errs = append(errs, errors.New("node: a stage is required"))
	}
	if c.Log == nil {
		errs = append(errs, errors.New("node: a logger is required"))
	}
	return errors.Join(errs...)
}

func (c *Config) complete() {
	if c.MaxPods == 0 {
		c.MaxPods = defaultMaxPods
	}
	if c.Step == nil {
		c.Step = func(string, string) {}
	}
	completeEviction(&c.EvictionHard, &c.PressureTransition)
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
}

// completeEviction fills in what kubelets do by default.
func completeEviction(thresholds *[]eviction.Threshold, period *time.Duration) {
	if *thresholds == nil {
		list, err := eviction.Parse(eviction.Default)
		if err != nil {
			panic(err) // it is ours
		}
		*thresholds = list
	}
	if *period == 0 {
		*period = transition
	}
}

const defaultMaxPods = 110
