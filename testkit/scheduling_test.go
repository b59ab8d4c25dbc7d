package testkit_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/testkit"
)

func TestUnschedulablePodSaysWhyAndHeals(t *testing.T) {
	for _, tc := range []struct {
		name, spec, why string
		heal            func(c *testkit.Cluster)
	}{
		{"a node with the label joins", "nodeSelector: {disk: fast}", "didn't match Pod's node affinity/selector",
			func(c *testkit.Cluster) { c.AddNode("fast", map[string]string{"disk": "fast"}) }},
		{"a node is labelled", "nodeSelector: {disk: fast}", "didn't match Pod's node affinity/selector",
			func(c *testkit.Cluster) { c.Patch("Node node-1", "metadata: {labels: {disk: fast}}") }},
		{"a node is uncordoned", "nodeSelector: {kubernetes.io/hostname: node-0}", "node(s) were unschedulable",
			func(c *testkit.Cluster) { c.Patch("Node node-0", "spec: {unschedulable: false}") }},
		{"a taint is taken away", "nodeSelector: {kubernetes.io/hostname: node-1}", "untolerated taint",
			func(c *testkit.Cluster) { c.Patch("Node node-1", "spec: {taints: null}") }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
				for _, n := range []string{"node-0", "node-1"} {
					c.WaitFor("Node "+n, testkit.Ready)
				}
				c.Patch("Node node-0", "spec: {unschedulable: true}")
				c.WaitFor("Node node-0", testkit.That(func(n *corev1.Node) bool { return len(n.Spec.Taints) == 1 }))
				if strings.Contains(tc.why, "taint") {
					c.Patch("Node node-1", "spec: {taints: [{key: dedicated, value: db, effect: NoSchedule}]}")
				}
				c.Apply(podWith("", tc.spec+`, containers: [{name: web, image: "example/web:v1"}]`))
				c.WaitFor("Pod web", testkit.Is("PodScheduled", "False", "Unschedulable"))
				if e := hasEvent(t, c, "Pod", "web", "FailedScheduling"); !strings.Contains(e.Message, tc.why) || !strings.HasPrefix(e.Message, "0/2 nodes are available") {
					t.Errorf("event %q, want %q in it", e.Message, tc.why)
				}
				c.Advance(10 * time.Minute)
				tc.heal(c)
				began := time.Now()
				c.WaitLong("Pod web", testkit.Ready, 2*time.Minute)
				t.Logf("healed after %s", time.Since(began))
			}, testkit.Nodes(2))
		})
	}
}

func TestResourcesAreNotOvercommitted(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.WaitFor("Node node-0", testkit.Ready)
		c.WaitFor("Node node-1", testkit.Ready)
		for i := range 5 {
			c.Apply(fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: big-%d, labels: {app: web}}
spec: {containers: [{name: web, image: "example/web:v1", resources: {requests: {cpu: "1"}}}]}
`, i))
		}
		running := func() (n int, waiting string) {
			perNode := map[string]int{}
			for _, p := range podsOf(t, c) {
				if perNode[p.Spec.NodeName]++; p.Spec.NodeName == "" {
					waiting = p.Name
				} else if n++; perNode[p.Spec.NodeName] > 2 {
					t.Errorf("%s has %d cores of 2 in use", p.Spec.NodeName, perNode[p.Spec.NodeName])
				}
			}
			return n, waiting
		}
		c.Until("four of five fit", func() bool { n, _ := running(); return n == 4 })
		c.Advance(time.Minute)
		_, waiting := running()
		e := hasEvent(t, c, "Pod", waiting, "FailedScheduling")
		if !strings.Contains(e.Message, "2 Insufficient cpu") {
			t.Errorf("event %q", e.Message)
		}
		for _, p := range podsOf(t, c) {
			if p.Spec.NodeName != "" {
				c.Delete("Pod " + p.Name)
				break
			}
		}
		c.WaitLong("Pod "+waiting, testkit.Ready, time.Minute)
	}, testkit.Nodes(2), testkit.Capacity(2, 1<<30, 10))
}

func TestHigherPriorityMakesRoom(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.WaitFor("Node node-0", testkit.Ready)
		c.WaitFor("Node node-1", testkit.Ready)
		pod := func(name, spec string) string {
			return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: %s}, annotations: {troupe.run/sim-stop-after: 20s}}
spec: {%s, containers: [{name: web, image: "example/web:v1", resources: {requests: {cpu: "2"}}}]}
`, name, name, spec)
		}
		for name, value := range map[string]int{"high": 1000, "middle": 100} {
			c.Apply(fmt.Sprintf("{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: %s}, value: %d}", name, value))
		}
		c.Apply(pod("keeps", "priorityClassName: middle"))
		c.WaitFor("Pod keeps", testkit.Ready)
		c.Apply(pod("yields", "terminationGracePeriodSeconds: 30"))
		c.WaitFor("Pod yields", testkit.Ready)
		node := testkit.As[corev1.Pod](c.Get("Pod yields")).Spec.NodeName

		c.Apply("{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: polite}, value: 1000, preemptionPolicy: Never}")
		c.Apply(pod("polite", "priorityClassName: polite"))
		c.WaitFor("Pod polite", testkit.Is("PodScheduled", "False", "Unschedulable"))
		if e := hasEvent(t, c, "Pod", "polite", "FailedScheduling"); !strings.HasSuffix(e.Message, "2 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.") {
			t.Errorf("event %q", e.Message)
		}
		c.Delete("Pod polite")

		c.Apply(pod("wins", "priorityClassName: high"))
		c.WaitFor("Pod wins", testkit.That(func(p *corev1.Pod) bool { return p.Status.NominatedNodeName == node }))
		c.WaitFor("Pod yields", testkit.Is("DisruptionTarget", "True", "PreemptionByScheduler"))
		hasEvent(t, c, "Pod", "yields", "Preempted")
		c.Apply(pod("late", "priorityClassName: middle")) // must not slip into the room that is being made
		c.WaitLong("Pod wins", testkit.Ready, time.Minute)
		if p := testkit.As[corev1.Pod](c.Get("Pod wins")); p.Spec.NodeName != node || p.Status.NominatedNodeName != "" {
			t.Errorf("wins is on %q, promised %q; want it on %q and nothing promised", p.Spec.NodeName, p.Status.NominatedNodeName, node)
		}
		c.WaitFor("Pod keeps", testkit.Ready)
		c.WaitFor("Pod late", testkit.Is("PodScheduled", "False", "Unschedulable"))
	}, testkit.Nodes(2), testkit.Capacity(2, 1<<30, 10))
}
