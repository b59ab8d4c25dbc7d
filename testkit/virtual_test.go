package testkit_test

import (
	"testing"
	"time"

	"github.com/troupe-run/troupe/testkit"
)

func TestVirtual(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(pod)
		c.WaitFor("Pod default/web", testkit.Running)
		time.Sleep(10 * time.Minute)
	}, testkit.Nodes(3))
}
