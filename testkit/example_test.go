package testkit_test

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/testkit"
)

// What happens to pods whose node dies: six minutes that take a fraction of a second. This is the
// example of the package: written as a test, because a cluster needs one to live in.
func TestExamplePodsLeaveADeadNode(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "example/web:v1"}]}
`)
		c.WaitFor("Deployment web", testkit.RolledOut)

		c.PowerOff("node-0")
		c.WaitFor("Node node-0", testkit.Not(testkit.Ready))
		c.Advance(6 * time.Minute) // pods tolerate an unreachable node for five

		c.WaitFor("Deployment web", testkit.All(testkit.RolledOut, testkit.Available))
		pods, err := c.Client().CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pods.Items {
			if p.DeletionTimestamp == nil && p.Spec.NodeName == "node-0" {
				t.Errorf("%s is still on the dead node", p.Name)
			}
		}
	}, testkit.Nodes(2))
}
