package testkit_test

import (
	"testing"
	"time"

	"github.com/troupe-run/troupe/testkit"
)

const pod = `
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: default
spec:
  containers:
  - name: web
    image: example/web:v1
`

func TestFirstPodRuns(t *testing.T) {
	begun := time.Now()
	c := testkit.Start(t, testkit.Nodes(3))
	t.Logf("api ready after %s", time.Since(begun))
	c.Apply(pod)
	c.WaitFor("Pod default/web", testkit.Running)
	t.Logf("first pod running after %s", time.Since(begun))
}
