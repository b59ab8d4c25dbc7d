package link_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/node/link"
)

// An agent that repeats what it knew of others' conditions undoes nothing, and hears at once when
// a readiness gate opens.
func TestReadinessGatesReachTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		gate := func(s corev1.ConditionStatus) corev1.PodCondition {
			return corev1.PodCondition{Type: "example/gate", Status: s}
		}
		gated := func(s corev1.ConditionStatus) *corev1.Pod {
			return pod("a", "n1", func(p *corev1.Pod) {
				p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example/gate"}}
				p.Status.Conditions = []corev1.PodCondition{gate(s)}
			})
		}
		w.store.Put(gated(corev1.ConditionFalse))
		a := w.agent("n1")
		settle(time.Second)
		a.take()
		st := running()
		st.Conditions = append(st.Conditions, gate(corev1.ConditionFalse))
		a.ReportPod(link.PodReport{UID: "uid-a", Namespace: "default", Name: "a", Status: st})
		settle(time.Second)
		expect(t, a)

		w.store.Put(gated(corev1.ConditionTrue))
		settle(time.Second)
		expect(t, a, "wanted default/a Running")
		if c := a.has()[0].Status.Conditions; len(c) == 0 || c[len(c)-1].Status != corev1.ConditionTrue {
			t.Errorf("the node sees %+v", c)
		}
		st.Message = "news"
		a.ReportPod(link.PodReport{UID: "uid-a", Namespace: "default", Name: "a", Status: st})
		settle(time.Second)
		for _, c := range w.pod("a").Status.Conditions {
			if c.Type == "example/gate" && c.Status != corev1.ConditionTrue {
				t.Error("the node's report closed the gate")
			}
		}
		expect(t, a)
	})
}
