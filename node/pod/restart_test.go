package pod

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// rule lets a container never restart but by rules for exit codes, "!" before them meaning all others.
func rules(container string, list ...corev1.ContainerRestartRule) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		never := corev1.ContainerRestartPolicyNever
		for _, in := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
			for i := range in {
				if in[i].Name == container {
					if in[i].RestartPolicy == nil {
						in[i].RestartPolicy = &never
					}
					in[i].RestartPolicyRules = list
				}
			}
		}
	}
}

func on(action corev1.ContainerRestartRuleAction, operator corev1.ContainerRestartRuleOnExitCodesOperator, codes ...int32) corev1.ContainerRestartRule {
	return corev1.ContainerRestartRule{Action: action, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: operator, Values: codes}}
}

const (
	opIn  = corev1.ContainerRestartRuleOnExitCodesOpIn
	opNot = corev1.ContainerRestartRuleOnExitCodesOpNotIn
	just  = corev1.ContainerRestartRuleActionRestart
	all   = corev1.ContainerRestartRuleActionRestartAllContainers
)

func inRound(n uint32, c container) container {
	c.round = n
	return c
}

func lasted(d time.Duration, c container) container {
	c.started = c.finished.Add(-d)
	return c
}

func TestTheFirstRuleDecides(t *testing.T) {
	t.Parallel()
	p := newTestPod("web", policy(corev1.RestartPolicyAlways), rules("web", on(just, opIn, 1, 2), on(all, opIn, 2, 3), on(just, opNot, 3, 4)))
	for code, want := range map[int32]corev1.ContainerRestartRuleAction{1: just, 2: just, 3: all, 4: "", 0: just} {
		if got := ruleFor(&p.Spec.Containers[0], code); got != want {
			t.Errorf("exit %d: %q, want %q", code, got, want)
		}
		if got := restarts(&p.Spec, &p.Spec.Containers[0], code); got != (want != "") {
			t.Errorf("exit %d: starts again: %v", code, got)
		}
	}
}

func TestRestartOfAll(t *testing.T) {
	t.Parallel()
	never := policy(corev1.RestartPolicyNever)
	web := rules("web", on(all, opIn, 42))
	crowd := func(c ...container) *state {
		return up(newTestPod("web", second, withInit("s+", "a"), never, web), c...)
	}
	tests := []struct {
		name  string
		state *state
		edit  func(*state)
		want  string
	}{
		{name: "what runs is killed", state: crowd(runs("s"), ended("a", 0, 0), ended("web", 0, 42), runs("log")), want: "stop s 0s, stop log 0s"},
		{name: "once", state: crowd(runs("s"), ended("a", 0, 0), ended("web", 0, 42), runs("log")), edit: func(s *state) {
			s.lanes = map[string]*lane{"s": {kind: stopContainer}}
		}, want: "stop log 0s"},
		{name: "harder than a stop that is under way", state: crowd(ended("s", 0, 0), ended("a", 0, 0), ended("web", 0, 42), runs("log")), edit: func(s *state) {
			s.lanes = map[string]*lane{"log": {kind: stopContainer, grace: time.Minute}}
		}, want: "stop log 0s"},
		{name: "another code does nothing", state: crowd(runs("s"), ended("a", 0, 0), ended("web", 0, 41), runs("log")), want: ""},
		{name: "then all begins anew", state: crowd(ended("s", 0, 137), ended("a", 0, 0), lasted(time.Minute, ended("web", 0, 42)), ended("log", 0, 137)), want: "start s#1"},
		{name: "init containers in their order", state: crowd(inRound(1, runs("s")), ended("a", 0, 0), ended("web", 0, 42), ended("log", 0, 137)), want: "start a#1"},
		{name: "and before the others", state: crowd(inRound(1, runs("s")), inRound(1, runs("a")), ended("web", 0, 42), ended("log", 0, 137)), want: ""},
		{name: "these whatever their policy", state: crowd(inRound(1, runs("s")), inRound(1, ended("a", 1, 0)), lasted(time.Minute, ended("web", 0, 42)), ended("log", 0, 0)), want: "start web#1"},
		{name: "one after the other", state: crowd(inRound(1, runs("s")), inRound(1, ended("a", 1, 0)), inRound(1, container{id: "web-1", name: "web", attempt: 1, state: cri.ContainerState_CONTAINER_RUNNING}), ended("log", 0, 0)), want: "start log#1"},
		{name: "from there on the policies count", state: crowd(inRound(1, runs("s")), inRound(1, ended("a", 1, 0)), inRound(1, ended("web", 1, 0)), inRound(1, ended("log", 1, 0))), want: "OVER"},
		{name: "an agent that died in between does not begin once more", state: crowd(inRound(1, runs("s")), inRound(1, ended("a", 1, 0)), ended("web", 0, 42), inRound(1, runs("log"))), want: "start web#1"},
		{name: "the next round", state: crowd(inRound(1, ended("s", 1, 137)), inRound(1, ended("a", 1, 0)), inRound(1, lasted(time.Minute, ended("web", 1, 42))), inRound(1, ended("log", 1, 137))), want: "start s#2"},
		{name: "an init container may ask for it", state: up(newTestPod("web", withInit("a"), never, rules("a", on(all, opIn, 42))), ended("a", 0, 42)), want: "start a#1"},
		{name: "who ends at once waits as after a crash", state: up(newTestPod("web", never, web), ended("web", 0, 42)), edit: func(s *state) { s.slot("web").crash = crash{crashMin} }, want: "wake 10s"},
		{name: "who ran for a while does not", state: up(newTestPod("web", never, web), lasted(time.Minute, ended("web", 0, 42))), edit: func(s *state) { s.slot("web").crash = crash{crashMin} }, want: "start web#1"},
	}
	for _, tt := range tests {
		if tt.edit != nil {
			tt.edit(tt.state)
		}
		if got := spell(decide(tt.state, t0)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestAllContainersAreRestarted(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := newTestPod("web", second, withInit("a"), policy(corev1.RestartPolicyNever), rules("web", on(all, opIn, 42)),
			annotate("exit-after.a", "1s", "stop-after.log", "1h"))
		b.want(p)
		pass(time.Minute)
		before := b.status()
		if c := findCondition(before.Conditions, corev1.AllContainersRestarting); before.Phase != corev1.PodRunning || c == nil || c.Status != corev1.ConditionFalse {
			t.Fatalf("before: %+v", before)
		}
		b.rt.Exit("default", "web", "web", 42)
		pass(500 * time.Millisecond) // a runs again
		st := b.status()
		if st.Phase != corev1.PodRunning || st.PodIP != before.PodIP || st.InitContainerStatuses[0].State.Running == nil {
			t.Errorf("while it begins anew: %+v", st)
		}
		if w := st.ContainerStatuses[1]; w.State.Waiting == nil || w.State.Waiting.Reason != "RestartingAllContainers" ||
			w.LastTerminationState.Terminated == nil || w.LastTerminationState.Terminated.Reason != "RestartingAllContainers" {
			t.Errorf("a container that waits: %+v", w)
		}
		seen := false
		for _, r := range b.ctl.said() {
			c := findCondition(r.Status.Conditions, corev1.AllContainersRestarting)
			seen = seen || c.Status == corev1.ConditionTrue && c.Reason == "RestartAllContainersStarted"
		}
		if !seen {
			t.Error("nobody was told of the restart")
		}
		pass(10 * time.Second)
		st = b.status()
		if c := findCondition(st.Conditions, corev1.AllContainersRestarting); c.Status != corev1.ConditionFalse || st.Phase != corev1.PodRunning || !isReady(st) {
			t.Errorf("after it: %+v", st)
		}
		for _, c := range append(st.InitContainerStatuses, st.ContainerStatuses...) {
			if c.RestartCount != 1 {
				t.Errorf("%s: %d restarts", c.Name, c.RestartCount)
			}
		}
		if last := st.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 42 {
			t.Errorf("the one that asked for it: %+v", last)
		}

		// A new life of the agent sees nothing left to do.
		p.Status = st
		b.stop()
		b.start()
		b.want(p)
		b.synced()
		pass(time.Minute)
		if again := b.status(); again.ContainerStatuses[1].ContainerID != st.ContainerStatuses[1].ContainerID {
			t.Errorf("restarted once more: %+v\n%s", again.ContainerStatuses[1], strings.Join(b.ctl.events, "\n"))
		}
		b.rt.Exit("default", "web", "web", 1)
		b.rt.Exit("default", "web", "log", 0)
		pass(time.Minute)
		if st := b.status(); st.Phase != corev1.PodFailed {
			t.Errorf("another exit: %+v", st)
		}
	})
}
