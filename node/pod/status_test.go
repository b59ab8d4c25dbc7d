package pod

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	facts := nodeFacts{runtime: "containerd", hostIPs: []string{"192.0.2.1"}}
	tests := []struct {
		name  string
		state *state
		edit  func(*state)
		after time.Duration
		phase corev1.PodPhase
		// how the first container stands, and why the pod is not ready
		container, ready string
	}{
		{name: "nothing yet", state: &state{pod: newTestPod("web"), start: t0}, phase: corev1.PodPending, container: "waiting ContainerCreating", ready: "ContainersNotReady"},
		{name: "init first", state: up(newTestPod("web", withInit("a")), runs("a")), phase: corev1.PodPending, container: "waiting PodInitializing", ready: "ContainersNotReady"},
		{name: "running", state: up(newTestPod("web"), runs("web")), phase: corev1.PodRunning, container: "running"},
		{name: "one of two", state: up(newTestPod("web", second), runs("web")), phase: corev1.PodPending, container: "running", ready: "ContainersNotReady"},
		{name: "crashed, coming back", state: up(newTestPod("web"), ended("web", 0, 1)), phase: corev1.PodRunning, container: "terminated 1 Error", ready: "ContainersNotReady"},
		{name: "in back-off", state: up(newTestPod("web"), ended("web", 1, 1)), edit: func(s *state) { s.slot("web").crash = crash{crashMin} },
			phase: corev1.PodRunning, container: "waiting CrashLoopBackOff", ready: "ContainersNotReady"},
		{name: "back-off is over", state: up(newTestPod("web"), ended("web", 1, 1)), edit: func(s *state) { s.slot("web").crash = crash{crashMin} }, after: 11 * time.Second,
			phase: corev1.PodRunning, container: "terminated 1 Error", ready: "ContainersNotReady"},
		{name: "cannot be configured", state: up(newTestPod("web")), edit: func(s *state) { s.slot("web").wait.fail(t0, reasonConfig, "") },
			phase: corev1.PodPending, container: "waiting CreateContainerConfigError", ready: "ContainersNotReady"},
		{name: "succeeded", state: up(newTestPod("web", policy(corev1.RestartPolicyNever)), ended("web", 0, 0)), edit: func(s *state) { s.stopping = t0 },
			phase: corev1.PodSucceeded, container: "terminated 0 Completed", ready: "PodCompleted"},
		{name: "failed", state: up(newTestPod("web", policy(corev1.RestartPolicyNever)), ended("web", 0, 1)), edit: func(s *state) { s.stopping = t0 },
			phase: corev1.PodFailed, container: "terminated 1 Error", ready: "PodFailed"},
		{name: "ended but for a sidecar", state: up(newTestPod("web", withInit("s+"), policy(corev1.RestartPolicyNever)), runs("s"), ended("web", 0, 0)), edit: func(s *state) {
			s.stopping, s.pod.Status.Phase = t0, corev1.PodRunning
		}, phase: corev1.PodRunning, container: "terminated 0 Completed", ready: "ContainersNotReady"},
		{name: "a gate is not open", state: up(newTestPod("web", func(p *corev1.Pod) {
			p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example/gate"}}
		}), runs("web")), phase: corev1.PodRunning, container: "running", ready: "ReadinessGatesNotReady"},
		{name: "and now it is", state: up(newTestPod("web", func(p *corev1.Pod) {
			p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example/gate"}}
			p.Status.Conditions = []corev1.PodCondition{{Type: "example/gate", Status: corev1.ConditionTrue}}
		}), runs("web")), phase: corev1.PodRunning, container: "running"},
		{name: "its records were lost", state: up(deleted(newTestPod("web", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", ContainerID: "containerd://x", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
		}), 30)), edit: func(s *state) { s.stopping = t0 }, phase: corev1.PodFailed, container: "terminated 137 ContainerStatusUnknown", ready: "PodFailed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.edit != nil {
				tt.edit(tt.state)
			}
			st := statusOf(tt.state, t0.Add(tt.after), facts)
			c := findCondition(st.Conditions, corev1.PodReady)
			if got := stands(st.ContainerStatuses[0].State); st.Phase != tt.phase || got != tt.container || c.Reason != tt.ready ||
				(c.Status == corev1.ConditionTrue) != (tt.ready == "") {
				t.Errorf("phase %s, container %q, ready %s %q", st.Phase, got, c.Status, c.Reason)
			}
		})
	}
}

func stands(s corev1.ContainerState) string {
	switch {
	case s.Running != nil:
		return "running"
	case s.Terminated != nil:
		return fmt.Sprintf("terminated %d %s", s.Terminated.ExitCode, s.Terminated.Reason)
	default:
		return "waiting " + s.Waiting.Reason
	}
}

func TestTransitionTimesAreKept(t *testing.T) {
	t.Parallel()
	s := up(newTestPod("web"), runs("web"))
	p := *s.pod
	p.Status = statusOf(s, t0, nodeFacts{})
	s.pod = &p
	later := statusOf(s, t0.Add(time.Hour), nodeFacts{})
	for _, c := range later.Conditions {
		if !c.LastTransitionTime.Time.Equal(t0) {
			t.Errorf("%s moved at %s without a change", c.Type, c.LastTransitionTime)
		}
	}
	s.sandboxes[0].ready = false
	if c := findCondition(statusOf(s, t0.Add(time.Hour), nodeFacts{}).Conditions, corev1.PodReadyToStartContainers); !c.LastTransitionTime.Time.Equal(t0.Add(time.Hour)) {
		t.Errorf("%s = %+v", c.Type, c)
	}
}

func TestStatusTellsOfMountsAndUsers(t *testing.T) {
	t.Parallel()
	enabled := corev1.RecursiveReadOnlyEnabled
	p := newTestPod("web", func(p *corev1.Pod) {
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{
			{Name: "a", MountPath: "/a"}, {Name: "b", MountPath: "/b", ReadOnly: true}, {Name: "c", MountPath: "/c", ReadOnly: true, RecursiveReadOnly: &enabled},
		}
	})
	x := runs("web")
	x.user = &cri.LinuxContainerUser{Uid: 1000, Gid: 100, SupplementalGroups: []int64{100, 2000}}
	got := statusOf(up(p, x), t0, nodeFacts{}).ContainerStatuses[0]
	disabled := corev1.RecursiveReadOnlyDisabled
	want := []corev1.VolumeMountStatus{
		{Name: "a", MountPath: "/a"}, {Name: "b", MountPath: "/b", ReadOnly: true, RecursiveReadOnly: &disabled},
		{Name: "c", MountPath: "/c", ReadOnly: true, RecursiveReadOnly: &enabled},
	}
	if diff := cmp.Diff(want, got.VolumeMounts); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	user := &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: 1000, GID: 100, SupplementalGroups: []int64{100, 2000}}}
	if diff := cmp.Diff(user, got.User); diff != "" {
		t.Errorf("user (-want +got):\n%s", diff)
	}
	if got := statusOf(up(p), t0, nodeFacts{}).ContainerStatuses[0]; got.User != nil || got.VolumeMounts != nil {
		t.Errorf("before it runs: %+v", got)
	}
}
