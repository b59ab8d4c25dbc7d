package pod

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// The end of a container may restart all containers of its pod, by a rule (KEP-5532): what runs is
// killed, then the pod begins anew in the sandbox and with the volumes it has, init containers
// first, whatever ended how and whatever the policies say.
//
// Such restarts are counted. Each run bears the number of the restart it belongs to, its round, in
// an annotation, so that an agent that dies in between goes on where it was: a run of an earlier
// round than the one that is due has to end, and counts for nothing once it has.

// round is the restart of all containers that is due: that of the newest runs, or the next one if
// one of these ended so that a rule asks for it.
func (s *state) round() uint32 {
	if s.pod == nil || !mayRestartAll(&s.pod.Spec) {
		return 0
	}
	var newest uint32
	for i := range s.containers {
		newest = max(newest, s.containers[i].round)
	}
	if s.trigger(newest) != nil {
		return newest + 1
	}
	return newest
}

// trigger returns the run of a round whose end asks for a restart of all, nil when there is none.
func (s *state) trigger(round uint32) *container {
	spec := &s.pod.Spec
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			if x := s.current(list[i].Name); x != nil && x.round == round && restartsAll(&list[i], x) {
				return x
			}
		}
	}
	return nil
}

// mayRestartAll says whether any container has a rule that restarts all.
func mayRestartAll(spec *corev1.PodSpec) bool {
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			for _, rule := range list[i].RestartPolicyRules {
				if rule.Action == corev1.ContainerRestartRuleActionRestartAllContainers {
					return true
				}
			}
		}
	}
	return false
}

// restartsAll says whether the end of a run restarts all containers.
func restartsAll(c *corev1.Container, x *container) bool {
	return x.exited() && x.read && ruleFor(c, x.code) == corev1.ContainerRestartRuleActionRestartAllContainers
}

// restartAll ends what runs of an earlier round than the one that is due, at once and without
// hooks. It says whether the next round has to wait.
func (d *decision) restartAll() (wait bool) {
	d.each(func(c *corev1.Container, _ bool) {
		x := d.s.current(c.Name)
		if x == nil || x.round >= d.round || x.exited() && x.read {
			return
		}
		wait = true
		if l := d.s.busy(c.Name); l != nil && l.kind == stopContainer && l.grace == 0 || d.plans(removeContainer, c.Name) || d.plans(readContainer, c.Name) {
			return
		}
		d.do(action{kind: stopContainer, name: c.Name, id: x.id, reason: fmt.Sprintf("Container %s will be restarted with all containers of the pod", c.Name)})
	})
	return wait
}

// pulledAlong says whether a run is followed by another only because all containers are restarted:
// it waits for no back-off. The one whose end caused that does, as after any crash, if it ended
// within the shortest back-off: else the pod would spin.
func (d *decision) pulledAlong(c *corev1.Container, x *container) bool {
	return x.round < d.round && (!restartsAll(c, x) || x.finished.Sub(x.started) >= crashMin)
}

// again says whether a container that ended starts again: by the policy, because it was stopped to
// do so, or with all others.
func (d *decision) again(c *corev1.Container, x *container) bool {
	return d.s.again(c, x, d.round)
}

func (s *state) again(c *corev1.Container, x *container, round uint32) bool {
	return x.round < round || s.glance(c.Name).resized == x.id || restarts(&s.pod.Spec, c, x.code)
}

// restarts says whether the first rule that matches, or else the policy, starts a container that
// ended with code again.
func restarts(spec *corev1.PodSpec, c *corev1.Container, code int32) bool {
	switch ruleFor(c, code) {
	case corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers:
		return true
	}
	policy := spec.RestartPolicy
	if c.RestartPolicy != nil {
		policy = corev1.RestartPolicy(*c.RestartPolicy)
	}
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return code != 0
	}
	// An init container that succeeded is done whatever the policy.
	return true
}

// ruleFor is the action of the first rule that matches an exit code, empty when none does.
func ruleFor(c *corev1.Container, code int32) corev1.ContainerRestartRuleAction {
	for _, rule := range c.RestartPolicyRules {
		if matchesExit(rule.ExitCodes, code) {
			return rule.Action
		}
	}
	return ""
}

func matchesExit(on *corev1.ContainerRestartRuleOnExitCodes, code int32) bool {
	if on == nil {
		return false
	}
	in := false
	for _, v := range on.Values {
		in = in || v == code
	}
	return in == (on.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn)
}

// restartCondition tells of a restart of all containers, for pods that may have one.
func (v *statusView) restartCondition(st *corev1.PodStatus) []corev1.PodCondition {
	if !mayRestartAll(&v.s.pod.Spec) {
		return nil
	}
	c := corev1.PodCondition{Type: corev1.AllContainersRestarting, Status: corev1.ConditionFalse}
	switch {
	case st.Phase == corev1.PodSucceeded:
		c.Reason = "PodCompleted"
	case st.Phase == corev1.PodFailed:
		c.Reason = "PodFailed"
	case v.s.stopping.IsZero() && v.dismissed():
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, "RestartAllContainersStarted", "container exited with restart policy rule"
	}
	return []corev1.PodCondition{c}
}

// dismissed says whether anything runs that has to end before all containers are restarted.
func (v *statusView) dismissed() bool {
	for _, list := range [][]corev1.Container{v.s.pod.Spec.InitContainers, v.s.pod.Spec.Containers} {
		for i := range list {
			if x := v.s.current(list[i].Name); x != nil && x.round < v.round && !x.exited() {
				return true
			}
		}
	}
	return false
}

// How containers are shown that wait for a restart of all, or were killed for it.
const (
	reasonRestartingAll  = "RestartingAllContainers"
	messageRestartingAll = "The container is removed because RestartAllContainers in place"
)
