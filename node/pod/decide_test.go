package pod

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// up is a pod whose volumes, sandbox and images are ready.
func up(p *corev1.Pod, containers ...container) *state {
	s := &state{uid: p.UID, pod: p, start: t0, volumes: step{done: true}, sandboxes: []sandbox{{id: "box", ready: true, ips: []string{"10.0.0.2"}}}}
	d := decision{s: s}
	d.each(func(c *corev1.Container, _ bool) { s.slot(c.Name).image = "img" })
	for _, c := range containers {
		if c.sandbox == "" {
			c.sandbox = "box"
		}
		s.upsert(c)
	}
	return s
}

func runs(name string) container {
	return container{id: name + "-0", name: name, state: cri.ContainerState_CONTAINER_RUNNING, started: t0}
}

func ended(name string, attempt uint32, code int32) container {
	return container{id: name + "-" + string(rune('0'+attempt)), name: name, attempt: attempt, state: cri.ContainerState_CONTAINER_EXITED,
		started: t0, finished: t0, code: code, read: true}
}

func always() *corev1.ContainerRestartPolicy {
	p := corev1.ContainerRestartPolicyAlways
	return &p
}

// withInit adds init containers; a name that ends with "+" is a sidecar.
func withInit(names ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for _, n := range names {
			c := corev1.Container{Name: strings.TrimSuffix(n, "+"), Image: "example/init:v1"}
			if strings.HasSuffix(n, "+") {
				c.RestartPolicy = always()
			}
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		}
	}
}

func policy(r corev1.RestartPolicy) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.RestartPolicy = r }
}

func second(p *corev1.Pod) {
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "log", Image: "example/log:v1"})
}

var kindNames = map[kind]string{
	setUpVolumes: "volumes", refreshVolumes: "refresh", runSandbox: "sandbox", stopSandbox: "stop-sandbox", removeSandbox: "remove-sandbox",
	ensureImage: "image", startContainer: "start", stopContainer: "stop", removeContainer: "remove", readContainer: "read", sweepPod: "sweep",
}

// spell writes a plan in one line.
func spell(p plan) string {
	var out []string
	for _, a := range p.actions {
		w := kindNames[a.kind]
		if a.name != "" {
			w += " " + a.name
		}
		if a.kind == startContainer && a.attempt > 0 {
			w += "#" + string(rune('0'+a.attempt))
		}
		if a.kind == stopContainer {
			w += " " + a.grace.String()
		}
		out = append(out, w)
	}
	if p.stop {
		out = append(out, "OVER")
	}
	if p.fail.reason != "" {
		out = append(out, "FAIL "+p.fail.reason)
	}
	if p.finished {
		out = append(out, "FINISHED")
	}
	if !p.wake.IsZero() {
		out = append(out, "wake "+p.wake.Sub(t0).String())
	}
	return strings.Join(out, ", ")
}

func TestDecide(t *testing.T) {
	t.Parallel()
	limit := int64(60)
	tests := []struct {
		name  string
		state *state
		edit  func(*state)
		after time.Duration
		want  string
	}{
		{name: "a new pod prepares everything at once", state: &state{pod: newTestPod("web"), start: t0}, want: "volumes, sandbox, image web"},
		{name: "nothing starts before the volumes are there", state: up(newTestPod("web")), edit: func(s *state) {
			s.volumes.done = false
			s.lanes = map[string]*lane{laneVolumes: {kind: setUpVolumes}}
		}, want: ""},
		{name: "a container starts when all is ready", state: up(newTestPod("web")), want: "start web"},
		{name: "the second container waits for the first", state: up(newTestPod("web", second)), want: "start web"},
		{name: "the second follows the first", state: up(newTestPod("web", second), runs("web")), want: "start log"},
		{name: "a pull of the first does not delay the second", state: up(newTestPod("web", second)), edit: func(s *state) {
			s.slot("web").image = ""
			s.lanes = map[string]*lane{"web": {kind: ensureImage}}
		}, want: "start log"},
		{name: "a running pod needs nothing", state: up(newTestPod("web"), runs("web")), want: ""},
		{name: "an exit is read before it counts", state: up(newTestPod("web")), edit: func(s *state) {
			c := ended("web", 0, 1)
			c.read, c.sandbox = false, "box"
			s.upsert(c)
		}, want: "read web"},
		{name: "the first restart is at once", state: up(newTestPod("web"), ended("web", 0, 1)), want: "start web#1"},
		{name: "the second waits", state: up(newTestPod("web"), ended("web", 1, 1)), edit: func(s *state) { s.slot("web").crash = crash{crashMin} }, want: "wake 10s"},
		{name: "and comes", state: up(newTestPod("web"), ended("web", 1, 1)), edit: func(s *state) { s.slot("web").crash = crash{crashMin} }, after: 10 * time.Second, want: "start web#2"},
		{name: "a failed start waits for its retry", state: up(newTestPod("web")), edit: func(s *state) { s.slot("web").wait.fail(t0, reasonConfig, "") }, want: "wake 1s"},
		{name: "a half-made container is cleared away", state: up(newTestPod("web"), container{id: "web-0", name: "web"}), want: "remove web"},

		{name: "init runs first", state: up(newTestPod("web", withInit("a", "b"))), want: "start a"},
		{name: "and in order", state: up(newTestPod("web", withInit("a", "b")), ended("a", 0, 0)), want: "start b"},
		{name: "and alone", state: up(newTestPod("web", withInit("a", "b")), runs("a")), want: ""},
		{name: "then the containers", state: up(newTestPod("web", withInit("a", "b")), ended("a", 0, 0), ended("b", 0, 0)), want: "start web"},
		{name: "a failed init is retried", state: up(newTestPod("web", withInit("a")), ended("a", 0, 1)), want: "start a#1"},
		{name: "but not when the pod never restarts", state: up(newTestPod("web", withInit("a"), policy(corev1.RestartPolicyNever)), ended("a", 0, 1)), want: "OVER"},
		{name: "a sidecar lets the next begin", state: up(newTestPod("web", withInit("s+", "a")), runs("s")), want: "start a"},
		{name: "once it has started", state: up(newTestPod("web", withInit("s+", "a"), func(p *corev1.Pod) { p.Spec.InitContainers[0].StartupProbe = &corev1.Probe{} }), runs("s")), want: ""},
		{name: "a sidecar that ended comes back beside the containers", state: up(newTestPod("web", withInit("s+")), ended("s", 0, 0), runs("web")), want: "start s#1"},

		{name: "nothing is cleared away before its last words are read", state: up(newTestPod("web"), ended("web", 0, 0)), edit: func(s *state) {
			s.unwanted, s.containers[0].read = true, false
			s.lanes = map[string]*lane{"web": {kind: stopContainer, id: "web-0", grace: time.Minute}}
		}, want: ""},
		{name: "never: one end is the end", state: up(newTestPod("web", policy(corev1.RestartPolicyNever)), ended("web", 0, 1)), want: "OVER"},
		{name: "on failure: success is the end", state: up(newTestPod("web", policy(corev1.RestartPolicyOnFailure)), ended("web", 0, 0)), want: "OVER"},
		{name: "on failure: failure is not", state: up(newTestPod("web", policy(corev1.RestartPolicyOnFailure)), ended("web", 0, 1)), want: "start web#1"},
		{name: "a rule restarts what the policy would not", state: up(newTestPod("web", policy(corev1.RestartPolicyNever), func(p *corev1.Pod) {
			never := corev1.ContainerRestartPolicyNever
			p.Spec.Containers[0].RestartPolicy = &never
			p.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestart,
				ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}}}}
		}), ended("web", 0, 42)), want: "start web#1"},
		{name: "a container's own policy wins", state: up(newTestPod("web", policy(corev1.RestartPolicyNever), func(p *corev1.Pod) {
			onFailure := corev1.ContainerRestartPolicyOnFailure
			p.Spec.Containers[0].RestartPolicy = &onFailure
		}), ended("web", 0, 1)), want: "start web#1"},
		{name: "also when it says never", state: up(newTestPod("web", second, func(p *corev1.Pod) {
			never := corev1.ContainerRestartPolicyNever
			p.Spec.Containers[0].RestartPolicy = &never
		}), ended("web", 0, 1), runs("log")), want: ""},
		{name: "a rule may name the codes that do not count", state: up(newTestPod("web", func(p *corev1.Pod) {
			never := corev1.ContainerRestartPolicyNever
			p.Spec.Containers[0].RestartPolicy = &never
			p.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestart,
				ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpNotIn, Values: []int32{0, 42}}}}
		}), ended("web", 0, 42)), want: "OVER"},
		{name: "a deadline ends the pod", state: up(newTestPod("web", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = &limit }), runs("web")), after: time.Minute, want: "FAIL DeadlineExceeded"},
		{name: "and is waited for", state: up(newTestPod("web", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = &limit }), runs("web")), want: "wake 1m0s"},

		{name: "a dead sandbox is replaced", state: up(newTestPod("web"), ended("web", 0, 137)), edit: func(s *state) { s.sandboxes[0].ready = false; s.slot("web").image = "" }, want: "sandbox, image web"},
		{name: "after what still runs in it is stopped", state: up(newTestPod("web"), runs("web")), edit: func(s *state) { s.sandboxes[0].ready = false }, want: "stop-sandbox"},
		{name: "a second ready sandbox goes", state: up(newTestPod("web"), runs("web")), edit: func(s *state) { s.upsertSandbox(sandbox{id: "old", ready: true}); s.sandboxes[0].attempt = 1 }, want: "stop-sandbox"},
		{name: "a dead one without containers is removed", state: up(newTestPod("web"), runs("web")), edit: func(s *state) { s.sandboxes[0].attempt = 1; s.upsertSandbox(sandbox{id: "old"}) }, want: "remove-sandbox"},

		{name: "a failed liveness probe stops the container", state: up(newTestPod("web"), runs("web")), edit: func(s *state) {
			s.slot("web").probes = probes{id: "web-0", started: true, unhealthy: "Container web failed liveness probe, will be restarted"}
		}, want: "stop web 30s"},
		{name: "a verdict on an earlier run does not", state: up(newTestPod("web"), runs("web")), edit: func(s *state) {
			s.slot("web").probes = probes{id: "web-9", unhealthy: "x"}
		}, want: ""},
		{name: "a new image stops the container", state: up(newTestPod("web"), runs("web")), edit: func(s *state) { s.containers[0].hash = "other" }, want: "stop web 30s"},

		{name: "deletion stops the containers first", state: up(deleted(newTestPod("web", second), 30), runs("web"), runs("log")), want: "stop log 30s, stop web 30s"},
		{name: "sidecars after them, the last first", state: up(deleted(newTestPod("web", withInit("s+", "u+")), 30), runs("s"), runs("u"), ended("web", 0, 0)), want: "stop u 30s"},
		{name: "with what is left of the grace", state: up(deleted(newTestPod("web", withInit("s+")), 30), runs("s"), ended("web", 0, 0)), edit: func(s *state) { s.stopping = t0 }, after: 20 * time.Second, want: "stop s 10s"},
		{name: "at least a little", state: up(deleted(newTestPod("web", withInit("s+")), 30), runs("s"), ended("web", 0, 0)), edit: func(s *state) { s.stopping = t0 }, after: time.Minute, want: "stop s 2s"},
		{name: "then the sandbox", state: up(deleted(newTestPod("web"), 30), ended("web", 0, 0)), want: "stop-sandbox"},
		{name: "and its records", state: up(deleted(newTestPod("web"), 30), ended("web", 0, 0)), edit: func(s *state) { s.sandboxes[0].ready = false }, want: "remove-sandbox"},
		{name: "then the files", state: up(deleted(newTestPod("web"), 30)), edit: func(s *state) { s.sandboxes = nil }, want: "sweep"},
		{name: "then nothing is left", state: up(deleted(newTestPod("web"), 30)), edit: func(s *state) { s.sandboxes, s.swept = nil, 2 }, want: "FINISHED"},
		{name: "a stop under way is left alone", state: up(deleted(newTestPod("web"), 30), runs("web")), edit: func(s *state) {
			s.lanes = map[string]*lane{"web": {kind: stopContainer, id: "web-0", grace: 30 * time.Second}}
		}, want: ""},
		{name: "until the grace is cut short", state: up(deleted(newTestPod("web"), 0), runs("web")), edit: func(s *state) {
			s.lanes = map[string]*lane{"web": {kind: stopContainer, id: "web-0", grace: 30 * time.Second}}
		}, want: "stop web 0s"},
		{name: "a start under way is waited for", state: up(deleted(newTestPod("web"), 30)), edit: func(s *state) { s.lanes = map[string]*lane{"web": {kind: startContainer}} }, want: ""},
		{name: "a pod that has ended keeps its records", state: up(newTestPod("web", policy(corev1.RestartPolicyNever), func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), ended("web", 0, 0)),
			edit: func(s *state) { s.sandboxes[0].ready, s.swept = false, 1 }, want: ""},
		{name: "an orphan goes entirely", state: &state{unwanted: true, sandboxes: []sandbox{{id: "box", ready: true}}, containers: []container{runs("web")}}, want: "stop web 30s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.edit != nil {
				tt.edit(tt.state)
			}
			if got := spell(decide(tt.state, t0.Add(tt.after))); got != tt.want {
				t.Errorf("decide = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestOldRunsAreRemoved(t *testing.T) {
	t.Parallel()
	s := up(newTestPod("web"), ended("web", 0, 1), ended("web", 1, 1), ended("web", 2, 1))
	s.slot("web").crash = crash{time.Hour}
	if got, want := spell(decide(s, t0)), "remove web"; got != want {
		t.Errorf("decide = %q, want %q", got, want)
	}
	if id := decide(s, t0).actions[0].id; id != "web-0" {
		t.Errorf("removes %s, not the oldest", id)
	}
}

func TestCrashClock(t *testing.T) {
	t.Parallel()
	var c crash
	var got []time.Duration
	for range 8 {
		d, _ := c.next(t0, t0.Add(time.Second))
		got = append(got, d)
		c = c.after(d)
	}
	s := time.Second
	if diff := cmp.Diff([]time.Duration{0, 10 * s, 20 * s, 40 * s, 80 * s, 160 * s, 300 * s, 300 * s}, got); diff != "" {
		t.Error(diff)
	}
	if d, at := c.next(t0, t0.Add(11*time.Minute)); d != 0 || !at.Equal(t0.Add(11*time.Minute)) {
		t.Errorf("after a long run: %s", d)
	}
}

func TestLateNewsAreIgnored(t *testing.T) {
	t.Parallel()
	s := up(newTestPod("web", second), ended("web", 0, 0), runs("log"))
	s.dropSandbox("box")
	late := ended("web", 0, 0)
	late.read = false
	if s.upsert(late) || s.upsert(runs("log")) || len(s.containers) != 0 {
		t.Errorf("containers that went with their sandbox are back: %+v", s.containers)
	}
	for i := range 3 * maxRemoved {
		s.remember(string(rune('a' + i)))
	}
	if len(s.removed) != maxRemoved {
		t.Errorf("%d are remembered", len(s.removed))
	}
}
