package testkit_test

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"

	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/testkit"
)

func TestLeaseOfANodeIsRenewedButNotStored(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.WaitFor("Node node-0", testkit.Ready)
		lease := func() *coordinationv1.Lease {
			t.Helper()
			obj := c.Get("Lease kube-node-lease/node-0")
			if obj == nil {
				t.Fatal("the node has no lease")
			}
			return testkit.As[coordinationv1.Lease](obj)
		}
		for range 3 {
			c.Advance(time.Minute)
			if age := time.Since(lease().Spec.RenewTime.Time); age > 2*time.Second {
				t.Errorf("renewed %s ago", age)
			}
		}
		if n := len(c.Reader().List(messages.Leases, "kube-node-lease")); n != 0 {
			t.Errorf("%d leases are stored", n)
		}
		c.StopNode("node-0")
		c.Advance(time.Minute)
		if age := time.Since(lease().Spec.RenewTime.Time); age < 50*time.Second {
			t.Errorf("renewed %s ago by a node that is silent", age)
		}
	})
}
