package pod

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestReadinessGates(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := newTestPod("web", func(p *corev1.Pod) {
			p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example/gate"}}
		})
		b.want(p)
		c := findCondition(b.status().Conditions, corev1.PodReady)
		if c.Status != corev1.ConditionFalse || c.Reason != "ReadinessGatesNotReady" ||
			c.Message != `corresponding condition of pod readiness gate "example/gate" does not exist.` {
			t.Errorf("without its condition: %+v", c)
		}
		if all := findCondition(b.status().Conditions, corev1.ContainersReady); all.Status != corev1.ConditionTrue {
			t.Errorf("containers: %+v", all)
		}
		for _, tt := range []struct {
			gate, ready corev1.ConditionStatus
		}{{"True", "True"}, {"False", "False"}, {"True", "True"}} {
			p = p.DeepCopy()
			p.Status.Conditions = []corev1.PodCondition{{Type: "example/gate", Status: tt.gate}}
			b.want(p)
			if c := findCondition(b.status().Conditions, corev1.PodReady); c.Status != tt.ready {
				t.Errorf("gate %s: %+v", tt.gate, c)
			}
		}
	})
}

func TestAnEndSetByOthersStopsThePod(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := newTestPod("web")
		b.want(p)
		p = p.DeepCopy()
		p.Status.Phase, p.Status.Reason = corev1.PodFailed, "Example"
		b.want(p)
		pass(time.Minute)
		st := b.status()
		if st.Phase != corev1.PodFailed || st.Reason != "Example" || st.ContainerStatuses[0].State.Terminated == nil || st.ContainerStatuses[0].RestartCount != 0 {
			t.Errorf("status = %+v", st)
		}
	})
}
