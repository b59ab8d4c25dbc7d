package testkit

import (
	"fmt"
	"maps"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// readiness says of every node and pod whether it is ready, and since when.
func (c *Cluster) readiness() map[string]string {
	out := make(map[string]string)
	for _, n := range objects.List[*corev1.Node](c.Reader(), messages.Nodes, "") {
		for _, cond := range n.Status.Conditions {
			if cond.Type == corev1.NodeReady {
				out["node "+n.Name] = fmt.Sprint(cond.Status, " since ", cond.LastTransitionTime.UTC())
			}
		}
	}
	for _, p := range objects.List[*corev1.Pod](c.Reader(), messages.Pods, "") {
		for _, cond := range p.Status.Conditions {
			if cond.Type == corev1.PodReady {
				out["pod "+p.Name] = fmt.Sprint(cond.Status, " since ", cond.LastTransitionTime.UTC())
			}
		}
	}
	return out
}

const threeOfThem = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "example/web:v1"}]}
`

// TestNobodyIsMissedWhileTheControlPlaneIsDown stops a cluster for a while: that nodes were not
// heard meanwhile says nothing about them.
func TestNobodyIsMissedWhileTheControlPlaneIsDown(t *testing.T) {
	Virtual(t, func(t *testing.T, c *Cluster) {
		c.Apply(threeOfThem)
		c.WaitFor("Deployment web", RolledOut)
		c.Advance(time.Minute)
		before := c.readiness()
		if len(before) != 2+3 {
			t.Fatalf("%d are ready: %v", len(before), before)
		}
		for _, away := range []time.Duration{0, time.Second, 10 * time.Minute} {
			for name, m := range c.sim.Machines() {
				n := c.find(name)
				n.machine, n.stopped = m, true
			}
			c.down()
			time.Sleep(away)
			c.up()
			c.Advance(5 * time.Second) // agents may take longer to come back than the control plane
			for _, n := range c.nodes {
				c.StartNode(n.name)
			}
			c.Advance(2 * time.Minute)
			if after := c.readiness(); !maps.Equal(before, after) {
				t.Errorf("away for %s: %v became %v", away, before, after)
			}
		}
	}, Nodes(2), DataDir(t.TempDir()))
}

// TestPodsStartAgainWithTheirMachines ends a cluster with all its containers and starts it again.
func TestPodsStartAgainWithTheirMachines(t *testing.T) {
	Virtual(t, func(t *testing.T, c *Cluster) {
		c.Apply(threeOfThem)
		c.WaitFor("Deployment web", RolledOut)
		uids := make(map[string]bool)
		for _, p := range objects.List[*corev1.Pod](c.Reader(), messages.Pods, "default") {
			uids[string(p.UID)] = true
		}
		c.down() // machines end with it
		time.Sleep(time.Hour)
		c.up()
		c.Advance(time.Minute)
		c.WaitFor("Deployment web", RolledOut)
		pods := objects.List[*corev1.Pod](c.Reader(), messages.Pods, "default")
		for _, p := range pods {
			if s := p.Status; !uids[string(p.UID)] || s.Phase != corev1.PodRunning || len(s.ContainerStatuses) != 1 || s.ContainerStatuses[0].State.Running == nil {
				t.Errorf("%s: %+v", p.Name, s)
			}
		}
		running := 0
		for _, m := range c.sim.Machines() {
			for _, n := range m.Containers() {
				running += n
			}
		}
		if len(pods) != 3 || running != 3 {
			t.Errorf("%d pods and %d containers, want 3 and 3", len(pods), running)
		}
	}, Nodes(2), DataDir(t.TempDir()))
}
