package testkit_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/troupe-run/troupe/testkit"
)

// deployment is the manifest of a Deployment called web.
func deployment(replicas int, more string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: %d
  selector: {matchLabels: {app: web}}
  %s
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: example/web:v1}
`, replicas, more)
}

// podsOf lists the pods with the label app=web.
func podsOf(t *testing.T, c *testkit.Cluster) []corev1.Pod {
	t.Helper()
	list, err := c.Client().CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func TestVirtualCrashLoopBackOff(t *testing.T) {
	real := time.Now()
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(`
apiVersion: v1
kind: Pod
metadata:
  name: crash
  annotations: {troupe.run/sim-exit-after: 1s, troupe.run/sim-exit-code: "3"}
spec:
  containers:
  - {name: main, image: example/crash:v1}
`)
		restarts := func(n int32) testkit.Condition {
			return testkit.That(func(p *corev1.Pod) bool {
				return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].RestartCount == n && p.Status.ContainerStatuses[0].State.Running != nil
			})
		}
		c.WaitFor("Pod crash", restarts(1)) // the first restart is at once
		began := time.Now()
		var gaps []int
		for n := int32(1); n < 8; n++ {
			c.WaitLong("Pod crash", testkit.Waiting("CrashLoopBackOff"), time.Minute)
			died := time.Now()
			c.WaitLong("Pod crash", restarts(n+1), 10*time.Minute)
			gaps = append(gaps, int(time.Since(died).Round(time.Second).Seconds()))
		}
		if want := []int{10, 20, 40, 80, 160, 300, 300}; !slices.Equal(gaps, want) {
			t.Errorf("backed off %v s, want %v", gaps, want)
		}
		if took := time.Since(began); took < 10*time.Minute {
			t.Errorf("only %s went by", took)
		}
		last := testkit.As[corev1.Pod](c.Get("Pod crash")).Status.ContainerStatuses[0].LastTerminationState.Terminated
		if last == nil || last.ExitCode != 3 {
			t.Errorf("last termination %+v", last)
		}
	})
	t.Logf("took %s", time.Since(real))
}

func TestVirtualNodeFailure(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(deployment(6, ""))
		c.WaitFor("Deployment web", testkit.RolledOut)
		c.Advance(time.Minute)
		lost := podsOf(t, c)[0].Spec.NodeName
		var theirs []string
		for _, p := range podsOf(t, c) {
			if p.Spec.NodeName == lost {
				theirs = append(theirs, "Pod "+p.Name)
			}
		}
		c.StopNode(lost)
		cut := time.Now()
		c.WaitFor("Node "+lost, testkit.Is("Ready", "Unknown", "NodeStatusUnknown"))
		if d := time.Since(cut); d > 4*time.Second {
			t.Errorf("noticed after %s", d)
		}
		c.WaitFor("Node "+lost, testkit.That(func(n *corev1.Node) bool {
			return slices.ContainsFunc(n.Spec.Taints, func(x corev1.Taint) bool {
				return x.Key == corev1.TaintNodeUnreachable && x.Effect == corev1.TaintEffectNoExecute
			})
		}))
		for _, p := range theirs {
			c.WaitFor(p, testkit.Is("Ready", "False"))
		}
		c.Advance(time.Until(cut.Add(299 * time.Second)))
		for _, p := range theirs {
			if c.Get(p).GetDeletionTimestamp() != nil {
				t.Errorf("%s was evicted early", p)
			}
		}
		for _, p := range theirs {
			c.WaitFor(p, testkit.Is("DisruptionTarget", "True", "DeletionByTaintManager"))
		}
		if d := time.Since(cut); d < 300*time.Second || d > 310*time.Second {
			t.Errorf("evicted after %s", d)
		}
		c.WaitFor("Deployment web", testkit.RolledOut)
		for _, p := range podsOf(t, c) {
			if p.DeletionTimestamp == nil && p.Spec.NodeName == lost {
				t.Errorf("%s is still on %s", p.Name, lost)
			}
		}
		// The node comes back: it stops what it was told to delete, and may be used again.
		c.StartNode(lost)
		c.WaitFor("Node "+lost, testkit.Ready)
		for _, p := range theirs {
			c.WaitLong(p, testkit.Gone, time.Minute)
		}
		c.WaitFor("Node "+lost, testkit.That(func(n *corev1.Node) bool { return len(n.Spec.Taints) == 0 }))
	}, testkit.Nodes(3))
}

func TestVirtualProgressDeadline(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(deployment(2, "progressDeadlineSeconds: 600"))
		c.WaitFor("Deployment web", testkit.RolledOut)
		c.Patch("Deployment web", `spec: {template: {spec: {containers: [{name: web, image: registry.invalid/web:v2}]}}}`)
		began := time.Now()
		c.WaitLong("Deployment web", testkit.Is("Progressing", "False", "ProgressDeadlineExceeded"), 15*time.Minute)
		if d := time.Since(began); d < 600*time.Second || d > 605*time.Second {
			t.Errorf("gave up after %s", d)
		}
		c.WaitFor("Deployment web", testkit.Available) // the old pods still serve
	})
}

func TestVirtualClustersOneAfterAnother(t *testing.T) {
	for i := range 3 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
				c.Apply(pod)
				c.WaitFor("Pod web", testkit.Running)
				c.Advance(2 * time.Hour)
				if events, err := c.Client().CoreV1().Events("default").List(t.Context(), metav1.ListOptions{
					FieldSelector: fields.OneTermEqualSelector("involvedObject.name", "web").String()}); err != nil || len(events.Items) != 0 {
					t.Errorf("events outlive their hour: %v, %v", events, err)
				}
			}, testkit.Nodes(3))
		})
	}
}
