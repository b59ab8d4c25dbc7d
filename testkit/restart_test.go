package testkit_test

import (
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/testkit"
)

func TestRestartKeepsEverything(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(deployment(6, ""))
		c.Apply(`
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
`)
		c.AddNode("extra", map[string]string{"disk": "fast"})
		c.WaitFor("Deployment web", testkit.RolledOut)
		c.WaitFor("Node extra", testkit.Ready)
		ip := testkit.As[corev1.Service](c.Get("Service web")).Spec.ClusterIP
		type pod struct{ uid, node, ip, container string }
		look := func() map[string]pod {
			out := map[string]pod{}
			for _, p := range podsOf(t, c) {
				if len(p.Status.ContainerStatuses) == 1 {
					out[p.Name] = pod{string(p.UID), p.Spec.NodeName, p.Status.PodIP, p.Status.ContainerStatuses[0].ContainerID}
				}
			}
			return out
		}
		before := look()
		for range 3 {
			c.Restart()
			for _, n := range []string{"node-0", "node-1", "extra"} {
				c.WaitFor("Node "+n, testkit.Ready)
			}
			c.Advance(time.Minute)
			after := look()
			if len(after) != len(before) {
				t.Fatalf("%d pods became %d", len(before), len(after))
			}
			for name, p := range before {
				if after[name] != p {
					t.Errorf("%s was %+v and is %+v", name, p, after[name])
				}
			}
			for _, p := range podsOf(t, c) {
				if p.Status.ContainerStatuses[0].RestartCount != 0 || !isReady(&p) {
					t.Errorf("%s: %+v", p.Name, p.Status)
				}
			}
		}
		if now := testkit.As[corev1.Service](c.Get("Service web")).Spec.ClusterIP; now != ip {
			t.Errorf("the service moved from %s to %s", ip, now)
		}
		// The address is still taken, and what was wanted meanwhile still happens.
		if _, err := c.Client().CoreV1().Services("default").Create(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "thief"},
			Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Port: 80}}}}, metav1.CreateOptions{}); err == nil {
			t.Error("another service got the same address")
		}
		c.Patch("Deployment web", image("v2"))
		c.WaitFor("Deployment web", testkit.RolledOut)
	}, testkit.Nodes(2), testkit.DataDir(t.TempDir()))
}

func TestRestartDoesNotProlongAToleration(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(deployment(2, ""))
		c.WaitFor("Deployment web", testkit.RolledOut)
		victim := podsOf(t, c)[0]
		c.StopNode(victim.Spec.NodeName)
		cut := time.Now()
		c.WaitFor("Node "+victim.Spec.NodeName, testkit.Not(testkit.Ready))
		c.Advance(200 * time.Second)
		c.Restart()
		c.WaitLong("Pod "+victim.Name, testkit.Is("DisruptionTarget", "True"), 10*time.Minute)
		if d := time.Since(cut); d < 300*time.Second || d > 310*time.Second {
			t.Errorf("evicted after %s", d)
		}
	}, testkit.Nodes(2), testkit.DataDir(t.TempDir()))
}

func TestNodesComeAndGo(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(podWith("", `containers: [{name: web, image: "example/web:v1"}]`))
		c.WaitFor("Pod web", testkit.Is("PodScheduled", "False"))
		c.AddNode("first", nil)
		p := testkit.As[corev1.Pod](c.WaitFor("Pod web", testkit.Running))
		container := p.Status.ContainerStatuses[0].ContainerID
		// An agent that is away for a short while leaves its pods alone.
		c.StopNode("first")
		c.WaitFor("Node first", testkit.Not(testkit.Ready))
		c.WaitFor("Pod web", testkit.Not(testkit.Ready))
		c.Advance(time.Minute)
		c.StartNode("first")
		c.WaitFor("Node first", testkit.Ready)
		p = testkit.As[corev1.Pod](c.WaitFor("Pod web", testkit.Ready))
		if s := p.Status.ContainerStatuses[0]; s.ContainerID != container || s.RestartCount != 0 {
			t.Errorf("the container was not adopted: %+v", s)
		}
		// After a power cut the same pod gets new containers.
		c.PowerOff("first")
		c.WaitFor("Node first", testkit.Not(testkit.Ready))
		c.StartNode("first")
		c.WaitLong("Pod web", testkit.All(testkit.Ready, testkit.That(func(p *corev1.Pod) bool {
			return p.Status.ContainerStatuses[0].ContainerID != container && p.Status.ContainerStatuses[0].RestartCount == 1
		})), time.Minute)
		if n := c.Node("first").Runtime().Containers()[cri.ContainerState_CONTAINER_RUNNING]; n != 1 {
			t.Errorf("%d containers run", n)
		}
		// What was deleted while the agent was away is stopped when it comes back.
		c.StopNode("first")
		c.WaitFor("Node first", testkit.Not(testkit.Ready))
		c.Delete("Pod web")
		c.Advance(10 * time.Minute)
		c.WaitFor("Pod web", testkit.Exists) // nobody knows whether it runs
		c.StartNode("first")
		c.WaitLong("Pod web", testkit.Gone, time.Minute)
		if n := c.Node("first").Runtime().Containers()[cri.ContainerState_CONTAINER_RUNNING]; n != 0 {
			t.Errorf("%d containers run on", n)
		}
	}, testkit.Nodes(0))
}

func TestTwentyClustersLeaveNothingBehind(t *testing.T) {
	run := func() {
		t.Run("", func(t *testing.T) {
			c := testkit.Start(t, testkit.Nodes(3))
			c.Apply(pod)
			c.WaitFor("Pod web", testkit.Running)
		})
	}
	measure := func() (goroutines int, heap int64) {
		for range 3 {
			runtime.GC()
			time.Sleep(50 * time.Millisecond) // goroutines that were told to end need a moment
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), int64(m.HeapAlloc)
	}
	run()
	run()
	goroutines, heap := measure()
	for range 20 {
		run()
	}
	g, h := measure()
	if g > goroutines+5 {
		var b strings.Builder
		if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
			t.Fatal(err)
		}
		t.Errorf("%d goroutines became %d:\n%s", goroutines, g, b.String())
	}
	// One cluster takes far more than this; what libraries keep for a while is not ours to free.
	if grown := (h - heap) >> 20; grown > 20*2 {
		t.Errorf("twenty clusters left %d MB on the heap", grown)
	}
	t.Logf("goroutines %d and %d, heap %d and %d KB", goroutines, g, heap>>10, h>>10)
}
