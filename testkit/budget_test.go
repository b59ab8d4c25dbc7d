package testkit_test

import (
	"testing"

	policyv1 "k8s.io/api/policy/v1"

	"github.com/troupe-run/troupe/testkit"
)

// budget is the manifest of a budget for the pods of the Deployment web.
func budget(what string) string {
	return `
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {` + what + `, selector: {matchLabels: {app: web}}}
`
}

func TestDrainUnderABudget(t *testing.T) {
	t.Parallel()
	c := testkit.Start(t, testkit.Nodes(1))
	c.Apply(deployment(2, ""))
	c.WaitFor("Deployment web", testkit.RolledOut)
	allowed := func(n int32) testkit.Condition {
		return testkit.That(func(b *policyv1.PodDisruptionBudget) bool {
			return b.Status.ObservedGeneration == b.Generation && b.Status.DisruptionsAllowed == n && b.Status.CurrentHealthy == 2
		})
	}
	c.Apply(budget("minAvailable: 2"))
	c.WaitFor("PodDisruptionBudget web", allowed(0))
	wants(t, "get pdb", c.Kubectl("get", "pdb", "web"), `web +2 +N/A +0`)
	wants(t, "drain", c.KubectlFails("drain", "node-0", "--timeout=1s"), `Cannot evict pod as it would violate the pod's disruption budget`)
	if n := len(podsOf(t, c)); n != 2 {
		t.Errorf("%d pods after a drain that was refused", n)
	}

	c.Kubectl("delete", "pdb", "web")
	c.Apply(budget(`maxUnavailable: "50%"`))
	c.WaitFor("PodDisruptionBudget web", allowed(1))
	// One may go; as long as there is no place for another in its stead, the second has to stay.
	wants(t, "drain one", c.KubectlFails("drain", "node-0", "--timeout=1s"), `error when evicting pods.*will retry after 5s`)
	c.AddNode("node-1", nil)
	c.WaitFor("Node node-1", testkit.Ready)
	wants(t, "drain the other", c.Kubectl("drain", "node-0", "--timeout=30s"), `node/node-0 drained`)
	c.WaitFor("Deployment web", testkit.RolledOut)
	for _, p := range podsOf(t, c) {
		if p.Spec.NodeName != "node-1" && p.DeletionTimestamp == nil {
			t.Errorf("%s is on %s", p.Name, p.Spec.NodeName)
		}
	}
	c.WaitFor("PodDisruptionBudget web", allowed(1))
	wants(t, "describe pdb", c.Kubectl("describe", "pdb", "web"), `Allowed disruptions: +1`, `Current: +2`, `Desired: +1`, `Total: +2`)
}
