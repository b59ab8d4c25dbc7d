package pod

import (
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/node/eviction"
)

// state is all that a pod actor knows. decide and statusOf read it and nothing else, so that both
// can be tested with tables; only the actor's handlers change it.
type state struct {
	uid types.UID
	// pod is the newest version wanted; nil for an orphan, found on the node but wanted by nobody.
	pod *corev1.Pod
	// unwanted says that the object is gone: whatever is left has to go.
	unwanted bool
	// start is when this node first saw the pod.
	start time.Time
	// failed ends the pod for good when its reason is set.
	failed failure
	// disrupted says that it failed for the good of others, rejected that it was not let in at all.
	disrupted, rejected bool
	// released says that nobody needs the containers of a pod that ended any more.
	released bool
	// stopping is when the pod began to stop; zero while it should run.
	stopping time.Time
	// swept is 1 once volumes and cgroup are taken down after the end, 2 once the logs are too.
	swept int
	// allotted is what the node has promised the containers, resize how far a change of it is.
	allotted allotment
	resize   resizing
	// usage is what volumes with a limit took on disk when measured last.
	usage map[string]int64
	// disk is what the whole pod took, measured if that has a limit.
	disk *eviction.Usage

	sandboxes  []sandbox   // newest first
	containers []container // newest first within a name
	volumes    step
	network    step     // creation of the sandbox
	removed    []string // IDs removed lately: late news about them is ignored
	slots      map[string]*slot
	lanes      map[string]*lane
}

// failure is why a pod failed as a whole.
type failure struct{ reason, message string }

// step is one precondition of a pod's containers.
type step struct {
	done bool
	retry
}

// retry is an attempt that failed and may be repeated.
type retry struct {
	reason, message string
	failures        int
	until           time.Time
}

// fail counts a failure and sets when to try again.
func (r *retry) fail(now time.Time, reason, message string) {
	r.reason, r.message = reason, message
	r.until = now.Add(min(retryMin<<min(r.failures, 10), retryMax))
	r.failures++
}

// Retries of a failed step start here and double up to the maximum.
const (
	retryMin = time.Second
	retryMax = time.Minute
)

// waits says whether the step has to wait for its back-off.
func (r *retry) waits(now time.Time) bool { return now.Before(r.until) }

// slot is what the actor remembers about one container of the spec, beside what the runtime knows.
type slot struct {
	// image is the reference that Ensure returned for the start to come; empty when not ensured.
	image string
	// wait is why the container could not be started.
	wait retry
	// crash is the CrashLoopBackOff clock.
	crash crash
	// resized is the container ID that was stopped to start with other resources.
	resized string
	// backOffTold is the container ID for which the BackOff event was recorded.
	backOffTold string
	// probes holds the newest results for the container ID probed.
	probes probes
}

// probes are the newest results of one container's probes. Without a probe of a kind its result
// is as if it had succeeded.
type probes struct {
	id        string
	started   bool
	ready     bool
	unhealthy string // why liveness or startup gave up
}

// lane is work in progress. A pod has one lane for its sandbox, one for its volumes and one for
// each container: what shares a lane never overlaps.
type lane struct {
	kind   kind
	id     string
	grace  time.Duration
	cancel func()
}

// sandbox is what the runtime said of one sandbox.
type sandbox struct {
	id      string
	attempt uint32
	ready   bool
	created time.Time
	ips     []string
	uid     types.UID // of the pod; set in lists
}

// container is what the runtime said of one attempt of a container.
type container struct {
	id, name, sandbox string
	attempt           uint32
	round             uint32 // see restart.go
	state             cri.ContainerState
	created           time.Time
	started           time.Time
	finished          time.Time
	code              int32
	reason, message   string
	image, imageRef   string
	hash              string
	logPath           string
	user              *cri.LinuxContainerUser      // nil when the runtime does not tell
	resources         *cri.LinuxContainerResources // nil when the runtime does not tell
	backoff           time.Duration
	// fallback says that the tail of the log may stand in for a termination message.
	fallback bool
	// read says that message and exit code are complete; an exited container needs it to count.
	read bool
	// unchanged marks an entry of a list that says nothing new but that the container exists.
	unchanged bool
	uid       types.UID // of the pod; set in lists
}

func (c *container) running() bool { return c.state == cri.ContainerState_CONTAINER_RUNNING }
func (c *container) exited() bool  { return c.state == cri.ContainerState_CONTAINER_EXITED }

// current returns the newest attempt of a container, nil when there is none.
func (s *state) current(name string) *container { return s.nth(name, 0) }

// previous returns the attempt before the newest one.
func (s *state) previous(name string) *container { return s.nth(name, 1) }

func (s *state) nth(name string, n int) *container {
	for i := range s.containers {
		if s.containers[i].name == name {
			if n == 0 {
				return &s.containers[i]
			}
			n--
		}
	}
	return nil
}

func (s *state) byID(id string) *container {
	for i := range s.containers {
		if s.containers[i].id == id {
			return &s.containers[i]
		}
	}
	return nil
}

// live returns the sandbox containers belong in, nil when none is ready.
func (s *state) live() *sandbox {
	if len(s.sandboxes) > 0 && s.sandboxes[0].ready {
		return &s.sandboxes[0]
	}
	return nil
}

func (s *state) slot(name string) *slot {
	if x := s.slots[name]; x != nil {
		return x
	}
	x := &slot{}
	if s.slots == nil {
		s.slots = make(map[string]*slot, 1)
	}
	s.slots[name] = x
	return x
}

// glance is slot for readers: it never changes the state.
func (s *state) glance(name string) slot {
	if x := s.slots[name]; x != nil {
		return *x
	}
	return slot{}
}

func (s *state) busy(name string) *lane { return s.lanes[name] }

// upsertSandbox merges what the runtime said and says whether that was news; a sandbox never
// becomes ready again.
func (s *state) upsertSandbox(n sandbox) (news bool) {
	for i := range s.sandboxes {
		if o := &s.sandboxes[i]; o.id == n.id {
			news = o.ready && !n.ready || len(o.ips) == 0 && len(n.ips) > 0
			o.ready = o.ready && n.ready
			if len(n.ips) > 0 {
				o.ips = n.ips
			}
			return news
		}
	}
	if slices.Contains(s.removed, n.id) {
		return false
	}
	at := 0
	for at < len(s.sandboxes) && s.sandboxes[at].attempt > n.attempt {
		at++
	}
	s.sandboxes = append(s.sandboxes, sandbox{})
	copy(s.sandboxes[at+1:], s.sandboxes[at:])
	s.sandboxes[at] = n
	return true
}

// upsert merges what the runtime said and says whether that was news. Reports may overtake each
// other: a state never goes back.
func (s *state) upsert(n container) (news bool) {
	if n.unchanged || slices.Contains(s.removed, n.id) {
		return false
	}
	for i := range s.containers {
		o := &s.containers[i]
		if o.id != n.id {
			continue
		}
		if rank(n.state) < rank(o.state) || o.read {
			return false
		}
		news = n.state != o.state || n.read
		*o = n
		return news
	}
	at := 0
	for at < len(s.containers) && s.containers[at].attempt > n.attempt {
		at++
	}
	s.containers = append(s.containers, container{})
	copy(s.containers[at+1:], s.containers[at:])
	s.containers[at] = n
	return true
}

func rank(c cri.ContainerState) int {
	switch c {
	case cri.ContainerState_CONTAINER_CREATED:
		return 0
	case cri.ContainerState_CONTAINER_RUNNING:
		return 1
	case cri.ContainerState_CONTAINER_UNKNOWN:
		return 2
	default:
		return 3
	}
}

// remember keeps the IDs of what was removed last.
func (s *state) remember(id string) {
	if len(s.removed) >= maxRemoved {
		s.removed = append(s.removed[:0], s.removed[1:]...)
	}
	s.removed = append(s.removed, id)
}

// maxRemoved is more than a sandbox mostly takes with it; events are late by moments only.
const maxRemoved = 32

func (s *state) dropContainer(id string) {
	for i := range s.containers {
		if s.containers[i].id == id {
			s.containers = append(s.containers[:i], s.containers[i+1:]...)
			return
		}
	}
}

// dropSandbox forgets a sandbox with its containers. Events about these may still come.
func (s *state) dropSandbox(id string) {
	for i := range s.sandboxes {
		if s.sandboxes[i].id == id {
			s.sandboxes = append(s.sandboxes[:i], s.sandboxes[i+1:]...)
			break
		}
	}
	kept := s.containers[:0]
	for _, c := range s.containers {
		if c.sandbox != id {
			kept = append(kept, c)
		} else {
			s.remember(c.id)
		}
	}
	s.containers = kept
}

// Labels and annotations that tell whose a sandbox or container is. The first group is what every
// kubelet writes, so that other tools understand; a crash of the agent is survived by them.
const (
	labelPodName      = "io.kubernetes.pod.name"
	labelPodNamespace = "io.kubernetes.pod.namespace"
	labelPodUID       = "io.kubernetes.pod.uid"
	labelContainer    = "io.kubernetes.container.name"

	noteHash            = "io.kubernetes.container.hash"
	noteRestarts        = "io.kubernetes.container.restartCount"
	noteTerminationPath = "io.kubernetes.container.terminationMessagePath"
	noteTerminationHow  = "io.kubernetes.container.terminationMessagePolicy"
	noteGrace           = "io.kubernetes.pod.terminationGracePeriod"
	noteBackoff         = "troupe.run/restart-back-off"
	noteRound           = "troupe.run/restart-round"
	noteNode            = "troupe.run/node"
)

func sandboxOf(id string, m *cri.PodSandboxMetadata, st cri.PodSandboxState, created int64) sandbox {
	return sandbox{id: id, attempt: m.GetAttempt(), ready: st == cri.PodSandboxState_SANDBOX_READY, created: time.Unix(0, created)}
}

func sandboxStatus(st *cri.PodSandboxStatus) sandbox {
	out := sandboxOf(st.GetId(), st.GetMetadata(), st.GetState(), st.GetCreatedAt())
	if ip := st.GetNetwork().GetIp(); ip != "" {
		out.ips = append(out.ips, ip)
	}
	for _, ip := range st.GetNetwork().GetAdditionalIps() {
		out.ips = append(out.ips, ip.GetIp())
	}
	return out
}

func containerStatus(st *cri.ContainerStatus, sandbox string) container {
	notes := st.GetAnnotations()
	c := container{
		id: st.GetId(), name: st.GetMetadata().GetName(), sandbox: sandbox, attempt: st.GetMetadata().GetAttempt(),
		state: st.GetState(), created: stamp(st.GetCreatedAt()), started: stamp(st.GetStartedAt()), finished: stamp(st.GetFinishedAt()),
		code: st.GetExitCode(), reason: st.GetReason(), message: st.GetMessage(),
		image: st.GetImage().GetImage(), imageRef: st.GetImageRef(), logPath: st.GetLogPath(),
		hash: notes[noteHash], user: st.GetUser().GetLinux(), resources: st.GetResources().GetLinux(),
		fallback: notes[noteTerminationHow] == string(corev1.TerminationMessageFallbackToLogsOnError),
	}
	if st.GetImageRef() == "" {
		c.imageRef = st.GetImageId()
	}
	if n, err := strconv.ParseUint(notes[noteRestarts], 10, 32); err == nil {
		c.attempt = uint32(n)
	}
	if n, err := strconv.ParseUint(notes[noteRound], 10, 32); err == nil {
		c.round = uint32(n)
	}
	if d, err := time.ParseDuration(notes[noteBackoff]); err == nil {
		c.backoff = d
	}
	return c
}

func stamp(ns int64) time.Time {
	if ns <= 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}
