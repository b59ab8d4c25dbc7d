package pod

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/node/eviction"
	"github.com/troupe-run/troupe/node/link"
	"github.com/troupe-run/troupe/node/probe"
	"github.com/troupe-run/troupe/node/runtime"
)

// Objects looks up what containers refer to. It never blocks.
type Objects interface {
	ConfigMap(namespace, name string) (cm *corev1.ConfigMap, ok bool)
	Secret(namespace, name string) (s *corev1.Secret, ok bool)
}

// Control is the node's way to the control plane; *link.Link is one. It never blocks.
type Control interface {
	Objects
	ReportPod(link.PodReport)
	Record(link.Event)
}

// Images gets images onto the node.
type Images interface {
	// Ensure returns the reference to run the image by, pulling it when the policy asks for it.
	// It records the Events users know and returns a *Trouble that names the waiting reason.
	Ensure(ctx context.Context, p *corev1.Pod, c *corev1.Container, secrets []*corev1.Secret, sandbox *cri.PodSandboxConfig) (ref string, err error)
}

// Volumes gives pods their files. Calls for one pod may overlap.
type Volumes interface {
	// Setup prepares all volumes of the pod; it may be called again.
	Setup(ctx context.Context, p *corev1.Pod) error
	// Refresh brings new content of ConfigMaps, Secrets, tokens and labels into the pod.
	Refresh(ctx context.Context, p *corev1.Pod) error
	// Usage returns the bytes that each emptyDir with a size limit takes on disk.
	Usage(ctx context.Context, p *corev1.Pod) (map[string]int64, error)
	// Mounts returns the mounts of one run of a container, with its hosts file and the file of its
	// termination message.
	Mounts(ctx context.Context, m MountRequest) ([]*cri.Mount, error)
	// Termination returns what a run wrote to its termination file, "" when it wrote nothing.
	Termination(uid types.UID, container string, attempt uint32) (string, error)
	// Teardown unmounts and removes everything of the pod.
	Teardown(ctx context.Context, uid types.UID) error
	// Sweep is Teardown of every pod that is not alive.
	Sweep(ctx context.Context, alive []types.UID) error
}

// MountRequest is what the mounts of one run of a container depend on.
type MountRequest struct {
	Pod       *corev1.Pod
	Container *corev1.Container
	Attempt   uint32
	// Lookup returns a variable of the container's environment.
	Lookup func(name string) (value string, ok bool)
	PodIPs []string
	// Domain is the cluster's DNS domain.
	Domain string
}

// Cgroups keeps one cgroup around each pod.
type Cgroups interface {
	// Ensure makes the pod's cgroup and returns the parent for its containers.
	Ensure(p *corev1.Pod) (parent string, err error)
	// Fit brings the pod's cgroup to what the pod has now; grow only gives it more.
	Fit(p *corev1.Pod, grow bool) error
	// Remove removes the pod's cgroup.
	Remove(uid types.UID) error
	// Sweep removes the cgroup of every pod that is not alive and that Ensure has not seen.
	Sweep(alive []types.UID) error
}

// Trouble is an error that users see as a waiting reason.
type Trouble struct {
	// Reason is a CamelCase word such as ImagePullBackOff.
	Reason  string
	Message string
	// After is when to try again; zero leaves it to the caller.
	After time.Duration
}

func (t *Trouble) Error() string { return t.Reason + ": " + t.Message }

// Facts are what pods depend on and may change while the node runs.
type Facts struct {
	// HostIPs are the node's addresses, the first being the primary one.
	HostIPs []string
	// Cluster is what the control plane told about DNS and the API.
	Cluster link.Cluster
	// Capacity is the node's, for resource fields without a limit.
	Capacity corev1.ResourceList
}

// Config of [Pods].
type Config struct {
	// Node is the node's name. Required.
	Node string
	// Stage is the system the actors live in. Required.
	Stage *stage.System
	// Runtime runs the pods. Required, like Images, Volumes, Control and Prober.
	Runtime runtime.Runtime
	Images  Images
	Volumes Volumes
	Control Control
	Prober  probe.Runner
	// Cgroups keeps a cgroup around each pod; nil leaves cgroups to the runtime.
	Cgroups Cgroups
	// Facts returns what may change. Required; it must not block.
	Facts func() Facts
	// Admit says why the node does not let a new pod in: a CamelCase reason and a text for users. A
	// nil Admit, or an empty reason, lets it in. It must not block.
	Admit func(p *corev1.Pod) (reason, message string)
	// Usage measures what a pod uses, nil when it cannot tell; a nil Usage measures nothing.
	Usage func(ctx context.Context, p *corev1.Pod) (*eviction.Usage, error)
	// Services returns the services whose variables pods of a namespace get; nil means only the
	// API's. It must not block.
	Services func(namespace string) []*corev1.Service
	// RuntimeName is the scheme of container IDs in statuses; empty means containerd.
	RuntimeName string
	// LogRoot is where pods' logs go; empty keeps no logs.
	LogRoot string
	// UserNamespaces says that the runtime gives users of their own to pods that ask for it; without,
	// these do not start.
	UserNamespaces bool
	// Resolver is the node's resolv.conf.
	Resolver *cri.DNSConfig
	// Memory is the node's memory in bytes; MinOOMScore the lowest oom_score_adj that may be set.
	Memory      int64
	MinOOMScore int64
	// Parallel bounds runtime calls that create or remove something; 0 means no bound.
	Parallel int
	// Relist is how often the runtime's records are compared while events flow; 0 means a minute.
	Relist time.Duration
	// Refresh is how often mounted content is looked at again; 0 means a minute, below 0 never.
	Refresh time.Duration
	// Quiet is how long a report that only says "being created" waits for a better one; 0 means
	// 100 ms.
	Quiet time.Duration
	// Health is told when the runtime stops answering (err) and answers again (nil); nil ignores.
	Health func(err error)
	// Clock tells the time; nil means the real one.
	Clock clock.PassiveClock
	// Log is the pods' logger; nil discards.
	Log *slog.Logger

	// starts is Parallel's semaphore.
	starts stage.Semaphore
	// promised is what the pods here have been promised.
	promised *ledger
}

// Check reports everything that is wrong with the config.
func (c *Config) Check() error {
	var errs []error
	need := func(name string, ok bool) {
		if !ok {
			errs = append(errs, fmt.Errorf("pod: %s is required", name))
		}
	}
	need("Node", c.Node != "")
	need("Stage", c.Stage != nil)
	need("Runtime", c.Runtime != nil)
	need("Images", c.Images != nil)
	need("Volumes", c.Volumes != nil)
	need("Control", c.Control != nil)
	need("Prober", c.Prober != nil)
	need("Facts", c.Facts != nil)
	return errors.Join(errs...)
}

func (c *Config) defaults() {
	if c.RuntimeName == "" {
		c.RuntimeName = "containerd"
	}
	if c.Relist == 0 {
		c.Relist = time.Minute
	}
	if c.Refresh == 0 {
		c.Refresh = time.Minute
	}
	if c.Quiet == 0 {
		c.Quiet = 100 * time.Millisecond
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.promised = newLedger()
	if c.Parallel > 0 {
		c.starts = stage.NewSemaphore(c.Parallel)
	}
}

// record writes a Kubernetes Event about a pod.
func (c *Config) record(p *corev1.Pod, kind, reason, format string, args ...any) {
	c.recordOf(p, "", kind, reason, format, args...)
}

// recordOf writes a Kubernetes Event about a container of a pod.
func (c *Config) recordOf(p *corev1.Pod, container, kind, reason, format string, args ...any) {
	if p != nil {
		c.Control.Record(link.Event{Pod: p, FieldPath: FieldPath(p, container), Type: kind, Reason: reason, Message: fmt.Sprintf(format, args...)})
	}
}

// FieldPath names a container of a pod as Events do, such as "spec.containers{web}"; it is empty
// when the pod has no such container.
func FieldPath(p *corev1.Pod, container string) string {
	is := func(c corev1.Container) bool { return c.Name == container }
	switch {
	case slices.ContainsFunc(p.Spec.Containers, is):
		return "spec.containers{" + container + "}"
	case slices.ContainsFunc(p.Spec.InitContainers, is):
		return "spec.initContainers{" + container + "}"
	case slices.ContainsFunc(p.Spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return c.Name == container }):
		return "spec.ephemeralContainers{" + container + "}"
	}
	return ""
}
