package pod

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// withDebug adds an ephemeral container that looks at the first regular one.
func withDebug(p *corev1.Pod) {
	p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, corev1.EphemeralContainer{
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "example/sh:v1", Stdin: true, TTY: true},
		TargetContainerName:      p.Spec.Containers[0].Name,
	})
}

func TestDecideEphemeral(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		state *state
		image bool
		want  string
	}{
		{name: "its image comes first", state: up(newTestPod("web", withDebug), runs("web")), want: "image debug"},
		{name: "then it starts", state: up(newTestPod("web", withDebug), runs("web")), image: true, want: "start debug"},
		{name: "also while init goes on", state: up(newTestPod("web", withInit("a"), withDebug), runs("a")), image: true, want: "start debug"},
		{name: "once", state: up(newTestPod("web", withDebug), runs("web"), ended("debug", 0, 1)), image: true, want: ""},
		{name: "even if its records are lost", state: up(newTestPod("web", withDebug, func(p *corev1.Pod) {
			p.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{Name: "debug", ContainerID: "sim://x"}}
		}), runs("web")), image: true, want: ""},
		{name: "it keeps no pod alive", state: up(newTestPod("web", policy(corev1.RestartPolicyNever), withDebug), ended("web", 0, 0), runs("debug")), want: "OVER"},
		{name: "it stops with the others", state: up(deleted(newTestPod("web", withDebug), 30), runs("web"), runs("debug")), want: "stop debug 30s, stop web 30s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.image {
				tt.state.slot("debug").image = "img"
			}
			if got := spell(decide(tt.state, t0)); got != tt.want {
				t.Errorf("decide = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestEphemeralSharesProcesses(t *testing.T) {
	t.Parallel()
	yes := true
	p := newTestPod("web", withDebug)
	cfg := containerConfig(p, findContainer(p, "debug"), run{target: targetOf(up(p, runs("web")), "debug").id}, environment{})
	if o := cfg.Linux.SecurityContext.NamespaceOptions; o.Pid != cri.NamespaceMode_TARGET || o.TargetId != "web-0" || !cfg.Tty || !cfg.Stdin {
		t.Errorf("config = %v", cfg)
	}
	p.Spec.ShareProcessNamespace = &yes
	cfg = containerConfig(p, findContainer(p, "debug"), run{target: "web-0"}, environment{})
	if o := cfg.Linux.SecurityContext.NamespaceOptions; o.Pid != cri.NamespaceMode_POD || o.TargetId != "" {
		t.Errorf("in a pod that shares its processes: %v", o)
	}
	if got := FieldPath(p, "debug"); got != "spec.ephemeralContainers{debug}" {
		t.Errorf("FieldPath = %q", got)
	}
}

func TestDebugARunningPod(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := newTestPod("web", annotate("exit-after.debug", "10s", "exit-code.debug", "3"))
		b.want(p)
		p = p.DeepCopy()
		withDebug(p)
		b.want(p)
		st := b.status()
		if len(st.EphemeralContainerStatuses) != 1 || st.EphemeralContainerStatuses[0].State.Running == nil || st.EphemeralContainerStatuses[0].Ready || !isReady(st) {
			t.Fatalf("status = %+v\n%s", st, strings.Join(b.ctl.events, "\n"))
		}
		v, _ := b.pods.Find("default", "web")
		if _, ok := v.Running("debug"); !ok || len(v.Runs) != 2 {
			t.Errorf("exec finds %+v", v.Runs)
		}
		pass(time.Hour)
		c := b.status().EphemeralContainerStatuses[0]
		if got := stands(c.State); got != "terminated 3 Error" || c.RestartCount != 0 || !isReady(b.status()) {
			t.Errorf("after its end: %s, %+v", got, c)
		}

		// A new life of the agent does not start it again.
		p.Status = b.status()
		b.stop()
		b.start()
		b.want(p)
		b.synced()
		pass(time.Minute)
		if c := b.status().EphemeralContainerStatuses[0]; c.State.Terminated == nil || c.RestartCount != 0 {
			t.Errorf("after a restart of the agent: %+v", c)
		}
	})
}

func TestEphemeralNeedsItsTarget(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := newTestPod("web", withDebug)
		p.Spec.EphemeralContainers[0].TargetContainerName = "nobody"
		b.want(p)
		pass(time.Second)
		if c := b.status().EphemeralContainerStatuses[0]; stands(c.State) != "waiting CreateContainerConfigError" || c.State.Waiting.Message != "unable to find target container nobody" {
			t.Errorf("status = %+v", c)
		}
		if b.status().Phase != corev1.PodRunning {
			t.Errorf("phase %s", b.status().Phase)
		}
	})
}
