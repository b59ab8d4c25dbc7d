package sim

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/node/runtime"
)

// Annotation is the head of every key the runtime listens to.
const Annotation = "troupe.run/sim-"

// Config of a simulated runtime.
type Config struct {
	// Node names the node; it is part of IDs, so that they are unique in one process.
	Node string
	// PodCIDR is where pods' addresses come from; an invalid prefix means 10.244.0.0/24.
	PodCIDR netip.Prefix
	// StartDelay is how long containers take to start unless annotated; zero means at once.
	StartDelay time.Duration
	// PullDelay is how long images take to pull unless annotated; zero means at once.
	PullDelay time.Duration
	// Used is told when a container starts that uses something; nil means nobody is. It must not
	// block nor call the runtime.
	Used func()
	// Clock tells the time; nil means the real one.
	Clock clock.PassiveClock
}

// Runtime is a simulated [runtime.Runtime].
type Runtime struct {
	cfg Config
	ips *addresses

	mu         sync.Mutex
	seq        uint64
	down       error
	sandboxes  map[string]*sandbox
	containers map[string]*container
	images     map[string]*cri.Image
	listeners  map[*listener]struct{}
}

type listener struct {
	fn     func(*cri.ContainerEventResponse)
	broken chan struct{}
}

type sandbox struct {
	id      string
	config  *cri.PodSandboxConfig
	handler string
	ready   bool
	created int64
	ip      netip.Addr

	containers []*container
}

type container struct {
	id       string
	sandbox  *sandbox
	config   *cri.ContainerConfig
	state    cri.ContainerState
	limits   *cri.LinuxContainerResources
	created  int64
	started  int64
	finished int64
	code     int32
	reason   string
	message  string
	exit     *time.Timer
	ended    chan struct{} // made by the first who waits
}

// New returns an empty runtime.
func New(cfg Config) *Runtime {
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if !cfg.PodCIDR.IsValid() {
		cfg.PodCIDR = netip.MustParsePrefix("10.244.0.0/24")
	}
	return &Runtime{
		cfg: cfg, ips: newAddresses(cfg.PodCIDR),
		sandboxes: make(map[string]*sandbox), containers: make(map[string]*container),
		images: make(map[string]*cri.Image), listeners: make(map[*listener]struct{}),
	}
}

// Down makes every call fail with err, as a dead runtime does, and breaks event streams; nil
// brings the runtime back. Containers live on meanwhile.
func (r *Runtime) Down(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = nil
	if err == nil {
		return
	}
	r.down = fmt.Errorf("%w: %w", messages.ErrUnavailable, err)
	for l := range r.listeners {
		close(l.broken)
		delete(r.listeners, l)
	}
}

// Exit ends a running container of a pod with a code, as if it had ended by itself.
func (r *Runtime) Exit(namespace, pod, name string, code int32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.containers {
		m := c.sandbox.config.GetMetadata()
		if m.GetNamespace() == namespace && m.GetName() == pod && c.config.GetMetadata().GetName() == name &&
			c.state == cri.ContainerState_CONTAINER_RUNNING {
			r.end(c, code, "")
			return true
		}
	}
	return false
}

// Reboot leaves everything as a power cut does: sandboxes and containers have ended, their records
// are there.
func (r *Runtime) Reboot() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.containers {
		if c.state == cri.ContainerState_CONTAINER_RUNNING {
			r.end(c, 255, "Unknown")
		}
	}
	for _, s := range r.sandboxes {
		if s.ready && s.ip.IsValid() {
			r.ips.free(s.ip)
		}
		s.ready = false
	}
}

func (r *Runtime) now() int64 { return r.cfg.Clock.Now().UnixNano() }

// newID makes an ID of a CRI's length in the caller's critical section.
func (r *Runtime) newID() string {
	r.seq++
	return fmt.Sprintf("%x-%016x", r.cfg.Node, r.seq)
}

func notFound(what, id string) error { return fmt.Errorf("%s %s: %w", what, id, messages.ErrNotFound) }

// wait sleeps for d or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// knob reads an annotation, the container's own first.
func knob(annotations map[string]string, key, container string) string {
	if v, ok := annotations[Annotation+key+"."+container]; ok {
		return v
	}
	return annotations[Annotation+key]
}

func delay(annotations map[string]string, key, container string, otherwise time.Duration) time.Duration {
	if d, err := time.ParseDuration(knob(annotations, key, container)); err == nil {
		return d
	}
	return otherwise
}

func code(annotations map[string]string, key, container string) int32 {
	n, err := strconv.ParseInt(knob(annotations, key, container), 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}

func (r *Runtime) Version(context.Context) (*cri.VersionResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != nil {
		return nil, r.down
	}
	return &cri.VersionResponse{Version: "0.1.0", RuntimeName: "sim", RuntimeVersion: "1.0.0", RuntimeApiVersion: "v1"}, nil
}

func (r *Runtime) Status(context.Context) (*cri.RuntimeStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != nil {
		return nil, r.down
	}
	return &cri.RuntimeStatus{Conditions: []*cri.RuntimeCondition{{Type: "RuntimeReady", Status: true}, {Type: "NetworkReady", Status: true}}}, nil
}

var errBroken = errors.New("event stream broke")

func (r *Runtime) Events(ctx context.Context, fn func(*cri.ContainerEventResponse)) error {
	l := &listener{fn: fn, broken: make(chan struct{})}
	r.mu.Lock()
	if r.down != nil {
		defer r.mu.Unlock()
		return r.down
	}
	r.listeners[l] = struct{}{}
	r.mu.Unlock()
	select {
	case <-ctx.Done():
		r.mu.Lock()
		delete(r.listeners, l)
		r.mu.Unlock()
		return ctx.Err()
	case <-l.broken:
		return fmt.Errorf("%w: %w", messages.ErrUnavailable, errBroken)
	}
}

// emit tells the listeners in the caller's critical section; they only hand over.
//
// The statuses go along, as containerd's do.
func (r *Runtime) emit(kind cri.ContainerEventType, id string, s *sandbox) {
	if len(r.listeners) == 0 {
		return
	}
	e := &cri.ContainerEventResponse{ContainerId: id, ContainerEventType: kind, CreatedAt: r.now(), PodSandboxStatus: r.sandboxStatus(s)}
	for _, c := range s.containers {
		e.ContainersStatuses = append(e.ContainersStatuses, c.status())
	}
	for l := range r.listeners {
		l.fn(e)
	}
}

// Containers returns how many containers of each state the runtime knows.
func (r *Runtime) Containers() map[cri.ContainerState]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[cri.ContainerState]int)
	for _, c := range r.containers {
		out[c.state]++
	}
	return out
}

var _ runtime.Runtime = (*Runtime)(nil)
