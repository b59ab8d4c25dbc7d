package testkit_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/testkit"
)

// podWith is the manifest of a pod called web.
func podWith(annotations, spec string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
  annotations: {%s}
spec: {%s}
`, annotations, spec)
}

// hasEvent waits for an Event about an object.
func hasEvent(t *testing.T, c *testkit.Cluster, kind, name, reason string) corev1.Event {
	t.Helper()
	var found corev1.Event
	c.Until(fmt.Sprintf("%s %s has an Event %s", kind, name, reason), func() bool {
		list, err := c.Client().CoreV1().Events("").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + name + ",involvedObject.kind=" + kind})
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(list.Items, func(e corev1.Event) bool { return e.Reason == reason })
		if i >= 0 {
			found = list.Items[i]
		}
		return i >= 0
	})
	return found
}

func TestMissingConfigurationHeals(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(podWith("", `containers: [{name: web, image: "example/web:v1", envFrom: [{configMapRef: {name: settings}}],
			env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: login, key: password}}}]}]`))
		p := testkit.As[corev1.Pod](c.WaitFor("Pod web", testkit.Waiting("CreateContainerConfigError")))
		if got, want := p.Status.ContainerStatuses[0].State.Waiting.Message, `configmap "settings" not found`; got != want {
			t.Errorf("message %q, want %q", got, want)
		}
		hasEvent(t, c, "Pod", "web", "Failed")
		c.Apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {COLOUR: green}}")
		c.WaitLong("Pod web", testkit.That(func(p *corev1.Pod) bool {
			w := p.Status.ContainerStatuses[0].State.Waiting
			return w != nil && w.Message == `secret "login" not found`
		}), time.Minute)
		c.Apply("{apiVersion: v1, kind: Secret, metadata: {name: login}, stringData: {user: me}}")
		c.WaitLong("Pod web", testkit.That(func(p *corev1.Pod) bool {
			w := p.Status.ContainerStatuses[0].State.Waiting
			return w != nil && w.Message == "couldn't find key password in Secret default/login"
		}), time.Minute)
		c.Apply("{apiVersion: v1, kind: Secret, metadata: {name: login}, stringData: {password: x}}")
		p = testkit.As[corev1.Pod](c.WaitLong("Pod web", testkit.Ready, time.Minute))
		if n := p.Status.ContainerStatuses[0].RestartCount; n != 0 {
			t.Errorf("%d restarts", n)
		}
	})
}

func TestMissingVolumeHeals(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(podWith("", `containers: [{name: web, image: "example/web:v1", volumeMounts: [{name: v, mountPath: /v}]}], volumes: [{name: v, configMap: {name: settings}}]`))
		c.WaitFor("Pod web", testkit.Waiting("ContainerCreating"))
		e := hasEvent(t, c, "Pod", "web", "FailedMount")
		if want := `MountVolume.SetUp failed for volume "v" : configmap "settings" not found`; e.Message != want {
			t.Errorf("message %q, want %q", e.Message, want)
		}
		c.Apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}}")
		c.WaitLong("Pod web", testkit.Ready, 3*time.Minute)
	})
}

func TestImageThatCannotBePulledHeals(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(podWith("", `containers: [{name: web, image: "registry.invalid/web:v1"}]`))
		c.WaitFor("Pod web", testkit.Waiting("ErrImagePull"))
		c.WaitFor("Pod web", testkit.Waiting("ImagePullBackOff"))
		hasEvent(t, c, "Pod", "web", "Failed")
		hasEvent(t, c, "Pod", "web", "BackOff")
		if got := testkit.As[corev1.Pod](c.Get("Pod web")).Status.Phase; got != corev1.PodPending {
			t.Errorf("phase %s", got)
		}
		c.Patch("Pod web", `spec: {containers: [{name: web, image: "example/web:v2"}]}`)
		c.WaitLong("Pod web", testkit.Ready, 6*time.Minute)
		c.Apply(`
apiVersion: v1
kind: Pod
metadata: {name: never}
spec: {containers: [{name: web, image: "example/absent:v1", imagePullPolicy: Never}]}
`)
		c.WaitFor("Pod never", testkit.Waiting("ErrImageNeverPull"))
	})
}

func TestInitContainersAndSidecarsKeepTheirOrder(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(podWith(`troupe.run/sim-exit-after.first: 2s, troupe.run/sim-exit-after.last: 3s, troupe.run/sim-exit-after.web: 20s,
			troupe.run/sim-probe-startup.proxy: after=5s, troupe.run/sim-stop-after.proxy: 4s`, `
  restartPolicy: Never, initContainers: [
    {name: first, image: "example/init:v1"},
    {name: proxy, image: "example/proxy:v1", restartPolicy: Always, startupProbe: {tcpSocket: {port: 80}, periodSeconds: 1, failureThreshold: 30}},
    {name: last, image: "example/init:v1"}],
  containers: [{name: web, image: "example/web:v1"}]`))
		p := testkit.As[corev1.Pod](c.WaitLong("Pod web", testkit.Phase("Succeeded"), 2*time.Minute))
		ran := map[string]*corev1.ContainerStateTerminated{}
		for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			if ran[s.Name] = s.State.Terminated; ran[s.Name] == nil {
				t.Fatalf("%s has not ended: %+v", s.Name, s.State)
			}
		}
		since := func(name string) (start, end int) {
			s := ran[name]
			from := ran["first"].StartedAt.Time
			return int(s.StartedAt.Sub(from).Seconds()), int(s.FinishedAt.Sub(from).Seconds())
		}
		_, firstEnd := since("first")
		proxyStart, proxyEnd := since("proxy")
		lastStart, lastEnd := since("last")
		webStart, webEnd := since("web")
		if firstEnd != 2 || proxyStart < 2 || lastStart < proxyStart+5 || webStart < lastEnd || proxyEnd < webEnd {
			t.Errorf("first until %d, proxy %d-%d, last %d-%d, web %d-%d", firstEnd, proxyStart, proxyEnd, lastStart, lastEnd, webStart, webEnd)
		}
	})
}

func TestFailingInitContainerHoldsThePod(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(podWith(`troupe.run/sim-exit-after.init: 1s, troupe.run/sim-exit-code.init: "1"`, `
  initContainers: [{name: init, image: "example/init:v1"}], containers: [{name: web, image: "example/web:v1"}]`))
		c.WaitLong("Pod web", testkit.Waiting("CrashLoopBackOff"), time.Minute)
		p := testkit.As[corev1.Pod](c.Get("Pod web"))
		if p.Status.Phase != corev1.PodPending || p.Status.ContainerStatuses[0].State.Waiting.Reason != "PodInitializing" {
			t.Errorf("phase %s, %+v", p.Status.Phase, p.Status.ContainerStatuses[0].State)
		}
	})
}

func TestPodsThatEnd(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		for _, tc := range []struct{ name, policy, code, phase string }{
			{"good", "Never", "0", "Succeeded"},
			{"bad", "Never", "7", "Failed"},
			{"done", "OnFailure", "0", "Succeeded"},
		} {
			c.Apply(fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, annotations: {troupe.run/sim-exit-after: 3s, troupe.run/sim-exit-code: %q}}
spec: {restartPolicy: %s, containers: [{name: main, image: "example/job:v1"}]}
`, tc.name, tc.code, tc.policy))
			p := testkit.As[corev1.Pod](c.WaitFor("Pod "+tc.name, testkit.Phase(tc.phase)))
			s := p.Status.ContainerStatuses[0]
			if s.State.Terminated == nil || fmt.Sprint(s.State.Terminated.ExitCode) != tc.code || s.RestartCount != 0 {
				t.Errorf("%s: %+v", tc.name, s)
			}
		}
		c.Apply(podWith("", `activeDeadlineSeconds: 60, containers: [{name: web, image: "example/web:v1"}]`))
		p := testkit.As[corev1.Pod](c.WaitLong("Pod web", testkit.Phase("Failed"), 2*time.Minute))
		if p.Status.Reason != "DeadlineExceeded" {
			t.Errorf("reason %q", p.Status.Reason)
		}
	})
}

func TestGraceIsGivenAndEnds(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		lasts := func(grace int64) time.Duration {
			t.Helper()
			c.WaitFor("Pod web", testkit.Ready)
			began := time.Now()
			opts := metav1.DeleteOptions{}
			if grace >= 0 {
				opts.GracePeriodSeconds = &grace
			}
			if err := c.Client().CoreV1().Pods("default").Delete(t.Context(), "web", opts); err != nil {
				t.Fatal(err)
			}
			c.WaitLong("Pod web", testkit.Gone, 5*time.Minute)
			return time.Since(began).Round(time.Second)
		}
		const spec = `terminationGracePeriodSeconds: 40, containers: [{name: web, image: "example/web:v1"}]`
		for _, tc := range []struct {
			name, annotations, spec string
			grace                   int64
			want                    time.Duration
		}{
			{"quick", "", spec, -1, 0},
			{"obedient", "troupe.run/sim-stop-after: 12s", spec, -1, 12 * time.Second},
			{"deaf", "troupe.run/sim-stop-after: 1h", spec, -1, 40 * time.Second},
			{"deaf, shorter grace", "troupe.run/sim-stop-after: 1h", spec, 5, 5 * time.Second},
			{"forced", "troupe.run/sim-stop-after: 1h", spec, 0, 0},
			{"hook", "troupe.run/sim-stop-after: 1h", `terminationGracePeriodSeconds: 20, containers: [{name: web, image: "example/web:v1", lifecycle: {preStop: {sleep: {seconds: 8}}}}]`, -1, 20 * time.Second},
			{"hook of an obedient one", "troupe.run/sim-stop-after: 3s", `terminationGracePeriodSeconds: 20, containers: [{name: web, image: "example/web:v1", lifecycle: {preStop: {sleep: {seconds: 8}}}}]`, -1, 11 * time.Second},
		} {
			c.Apply(podWith(tc.annotations, tc.spec))
			if got := lasts(tc.grace); got < tc.want || got > tc.want+2*time.Second {
				t.Errorf("%s: gone after %s, want %s", tc.name, got, tc.want)
			}
		}
	})
}

func TestEvictionOfAPod(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(deployment(1, ""))
		c.WaitFor("Deployment web", testkit.RolledOut)
		old := podsOf(t, c)[0]
		if err := c.Client().PolicyV1().Evictions("default").Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: old.Name, Namespace: "default"}}); err != nil {
			t.Fatal(err)
		}
		c.WaitFor("Pod "+old.Name, testkit.Gone)
		c.Until("a replacement is ready", func() bool {
			next := podsOf(t, c)
			return len(next) == 1 && next[0].UID != old.UID && isReady(&next[0])
		})
	})
}

func TestDeadRuntimeShowsAndHeals(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.WaitFor("Node node-0", testkit.Ready)
		c.Node("node-0").Runtime().Down(fmt.Errorf("connection refused"))
		c.WaitFor("Node node-0", testkit.Is("Ready", "False", "KubeletNotReady"))
		c.Apply(podWith("", `tolerations: [{operator: Exists}], containers: [{name: web, image: "example/web:v1"}]`))
		c.WaitFor("Pod web", testkit.Is("PodScheduled", "True"))
		c.Node("node-0").Runtime().Down(nil)
		c.WaitLong("Node node-0", testkit.Ready, time.Minute)
		c.WaitLong("Pod web", testkit.Ready, time.Minute)
	})
}

func TestLivenessRestartsAndReadinessWaits(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(podWith("troupe.run/sim-probe-liveness: until=30s, troupe.run/sim-probe-readiness: after=10s", `containers: [{name: web, image: "example/web:v1",
			livenessProbe: {httpGet: {port: 80}, periodSeconds: 5, failureThreshold: 2}, readinessProbe: {httpGet: {port: 80}, periodSeconds: 1}}]`))
		c.WaitFor("Pod web", testkit.Running)
		began := time.Now()
		c.WaitFor("Pod web", testkit.Ready)
		if d := time.Since(began); d < 9*time.Second || d > 13*time.Second {
			t.Errorf("ready after %s", d)
		}
		c.WaitLong("Pod web", testkit.That(func(p *corev1.Pod) bool { return p.Status.ContainerStatuses[0].RestartCount == 1 }), 2*time.Minute)
		if d := time.Since(began); d < 33*time.Second || d > 50*time.Second {
			t.Errorf("restarted after %s", d)
		}
		hasEvent(t, c, "Pod", "web", "Unhealthy")
		hasEvent(t, c, "Pod", "web", "Killing")
	})
}
