package testkit_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/testkit"
)

// extremes follows every change of pods and keeps how many there were at most and how many of them
// were ready at least, since it was last reset.
type extremes struct {
	mu    sync.Mutex
	pods  map[messages.Key]bool // ready; pods that are being deleted do not count
	most  int
	least int
}

func followPods(t *testing.T, c *testkit.Cluster) *extremes {
	e := &extremes{pods: make(map[messages.Key]bool)}
	t.Cleanup(c.Feed().Follow([]messages.Resource{messages.Pods}, func(ch objects.Change) {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.pods, ch.Key)
		if p, ok := ch.New.(*corev1.Pod); ok && p.DeletionTimestamp == nil {
			e.pods[ch.Key] = isReady(p)
		}
		e.note()
	}))
	return e
}

func isReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func (e *extremes) note() {
	ready := 0
	for _, r := range e.pods {
		if r {
			ready++
		}
	}
	e.most, e.least = max(e.most, len(e.pods)), min(e.least, ready)
}

func (e *extremes) reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.most, e.least = 0, len(e.pods)
	e.note()
}

func (e *extremes) get() (most, least int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.most, e.least
}

func image(v string) string {
	return fmt.Sprintf(`spec: {template: {spec: {containers: [{name: web, image: "example/web:%s"}]}}}`, v)
}

func TestRolloutKeepsItsLimitsAtEveryMoment(t *testing.T) {
	for _, tc := range []struct {
		surge, unavailable string
		most, least        int
	}{
		{"25%", "25%", 13, 8},
		{"1", "0", 11, 10},
		{"0", "1", 10, 9},
		{"100%", "0", 20, 10},
		{"3", "50%", 13, 5},
	} {
		t.Run(tc.surge+" "+tc.unavailable, func(t *testing.T) {
			testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
				c.Apply(deployment(10, fmt.Sprintf("strategy: {rollingUpdate: {maxSurge: %s, maxUnavailable: %s}}", tc.surge, tc.unavailable)))
				c.WaitFor("Deployment web", testkit.RolledOut)
				e := followPods(t, c)
				c.Advance(0) // what exists is told first
				e.reset()
				c.Patch("Deployment web", image("v2"))
				c.WaitFor("Deployment web", testkit.RolledOut)
				c.Advance(time.Minute)
				most, least := e.get()
				if most > tc.most || least < tc.least {
					t.Errorf("there were up to %d pods and as few as %d ready; allowed are %d and %d", most, least, tc.most, tc.least)
				}
				if most == 10 && least == 10 {
					t.Error("nothing was rolled out")
				}
				for _, p := range podsOf(t, c) {
					if p.Spec.Containers[0].Image != "example/web:v2" {
						t.Errorf("%s still runs %s", p.Name, p.Spec.Containers[0].Image)
					}
				}
			}, testkit.Nodes(3), testkit.StartDelay(2*time.Second))
		})
	}
}

func TestRecreateNeverMixesVersions(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(deployment(4, "strategy: {type: Recreate}"))
		c.WaitFor("Deployment web", testkit.RolledOut)
		var mu sync.Mutex
		images, mixed := map[messages.Key]string{}, false
		stop := c.Feed().Follow([]messages.Resource{messages.Pods}, func(ch objects.Change) {
			mu.Lock()
			defer mu.Unlock()
			delete(images, ch.Key)
			if p, ok := ch.New.(*corev1.Pod); ok {
				images[ch.Key] = p.Spec.Containers[0].Image
			}
			seen := map[string]bool{}
			for _, i := range images {
				seen[i] = true
			}
			mixed = mixed || len(seen) > 1
		})
		defer stop()
		c.Patch("Deployment web", image("v2"))
		c.WaitFor("Deployment web", testkit.RolledOut)
		mu.Lock()
		defer mu.Unlock()
		if mixed {
			t.Error("old and new pods existed at the same time")
		}
	})
}

// replicaSets returns the ReplicaSets of web by the image of their template.
func replicaSets(t *testing.T, c *testkit.Cluster) map[string]appsv1.ReplicaSet {
	t.Helper()
	list, err := c.Client().AppsV1().ReplicaSets("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]appsv1.ReplicaSet, len(list.Items))
	for _, rs := range list.Items {
		out[rs.Spec.Template.Spec.Containers[0].Image] = rs
	}
	return out
}

// undo does what kubectl rollout undo does: put the template of an old ReplicaSet back.
func undo(t *testing.T, c *testkit.Cluster, rs appsv1.ReplicaSet) {
	t.Helper()
	tmpl := rs.Spec.Template.DeepCopy()
	delete(tmpl.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	patch, err := json.Marshal([]any{map[string]any{"op": "replace", "path": "/spec/template", "value": tmpl}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Client().AppsV1().Deployments("default").Patch(t.Context(), "web", types.JSONPatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestRolloutUndoReusesTheOldReplicaSet(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		const revision = "deployment.kubernetes.io/revision"
		c.Apply(deployment(3, "revisionHistoryLimit: 2"))
		c.WaitFor("Deployment web", testkit.RolledOut)
		first := replicaSets(t, c)["example/web:v1"]
		for _, v := range []string{"v2", "v3"} {
			c.Patch("Deployment web", image(v))
			c.WaitFor("Deployment web", testkit.RolledOut)
		}
		sets := replicaSets(t, c)
		for i, v := range []string{"v1", "v2", "v3"} {
			if got := sets["example/web:"+v].Annotations[revision]; got != fmt.Sprint(i+1) {
				t.Errorf("%s is revision %q, want %d", v, got, i+1)
			}
		}
		undo(t, c, sets["example/web:v1"])
		c.WaitFor("Deployment web", testkit.RolledOut)
		again := replicaSets(t, c)["example/web:v1"]
		if again.UID != first.UID || *again.Spec.Replicas != 3 || again.Annotations[revision] != "4" {
			t.Errorf("went back to %s with %d replicas as revision %s; want %s, 3 and 4", again.UID, *again.Spec.Replicas, again.Annotations[revision], first.UID)
		}
		if got := testkit.As[appsv1.Deployment](c.Get("Deployment web")).Annotations[revision]; got != "4" {
			t.Errorf("the deployment is at revision %s", got)
		}
		// Two old revisions are kept, no more.
		for _, v := range []string{"v4", "v5"} {
			c.Patch("Deployment web", image(v))
			c.WaitFor("Deployment web", testkit.RolledOut)
		}
		c.Advance(time.Second)
		if n := len(replicaSets(t, c)); n != 3 {
			t.Errorf("%d replica sets are kept, want the newest and two old ones", n)
		}
	})
}

func TestPausedDeploymentWaits(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(deployment(3, ""))
		c.WaitFor("Deployment web", testkit.RolledOut)
		c.Patch("Deployment web", "spec: {paused: true}")
		c.WaitFor("Deployment web", testkit.Is("Progressing", "Unknown", "DeploymentPaused"))
		c.Patch("Deployment web", image("v2"))
		c.Advance(20 * time.Minute)
		if n := len(replicaSets(t, c)); n != 1 {
			t.Errorf("a paused deployment has %d replica sets", n)
		}
		// Scaling goes on while paused, with the old template.
		c.Patch("Deployment web", "spec: {replicas: 5}")
		c.WaitFor("Deployment web", testkit.That(func(d *appsv1.Deployment) bool { return d.Status.AvailableReplicas == 5 }))
		c.Patch("Deployment web", "spec: {paused: false}")
		c.WaitFor("Deployment web", testkit.RolledOut)
		c.WaitFor("Deployment web", testkit.Is("Progressing", "True", "NewReplicaSetAvailable"))
		for _, p := range podsOf(t, c) {
			if p.DeletionTimestamp == nil && p.Spec.Containers[0].Image != "example/web:v2" {
				t.Errorf("%s still runs %s", p.Name, p.Spec.Containers[0].Image)
			}
		}
	})
}

func TestScaleDownPicksTheRightPods(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(deployment(3, ""))
		c.WaitFor("Deployment web", testkit.RolledOut)
		old := map[string]bool{}
		for _, p := range podsOf(t, c) {
			old[p.Name] = true
		}
		c.Advance(time.Hour)
		c.Patch("Deployment web", "spec: {replicas: 6}")
		c.WaitFor("Deployment web", testkit.RolledOut)
		c.Patch("Deployment web", "spec: {replicas: 3}")
		c.Until("only three are left", func() bool { return len(podsOf(t, c)) == 3 })
		for _, p := range podsOf(t, c) {
			if !old[p.Name] {
				t.Errorf("%s was kept although it is younger", p.Name)
			}
		}
		// A pod that does not run goes before those that do, and cheap ones before dear ones.
		dear := podsOf(t, c)[0].Name
		for _, p := range podsOf(t, c)[1:] {
			c.Patch("Pod "+p.Name, `metadata: {annotations: {controller.kubernetes.io/pod-deletion-cost: "-5"}}`)
		}
		c.Patch("Deployment web", "spec: {replicas: 1}")
		c.Until("only one is left", func() bool { return len(podsOf(t, c)) == 1 })
		if got := podsOf(t, c)[0].Name; got != dear {
			t.Errorf("%s was kept, want %s", got, dear)
		}
	})
}

func TestReplicaSetAdoptsAndReleases(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(`
apiVersion: v1
kind: Pod
metadata: {name: orphan, labels: {app: web}}
spec:
  containers: [{name: web, image: "example/web:v1"}]
`)
		c.WaitFor("Pod orphan", testkit.Running)
		c.Apply(`
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "example/web:v1"}]}
`)
		c.WaitFor("ReplicaSet web", testkit.That(func(rs *appsv1.ReplicaSet) bool { return rs.Status.ReadyReplicas == 2 }))
		adopted := c.Get("Pod orphan")
		if refs := adopted.GetOwnerReferences(); len(refs) != 1 || refs[0].Name != "web" || refs[0].Controller == nil || !*refs[0].Controller {
			t.Fatalf("the orphan's owners are %v", refs)
		}
		if n := len(podsOf(t, c)); n != 2 {
			t.Errorf("%d pods, want the adopted one and one more", n)
		}
		c.Patch("Pod orphan", "metadata: {labels: {app: other}}")
		c.WaitFor("Pod orphan", testkit.That(func(p *corev1.Pod) bool { return len(p.OwnerReferences) == 0 }))
		c.Until("a replacement is there", func() bool { return len(podsOf(t, c)) == 2 })
		c.WaitFor("ReplicaSet web", testkit.That(func(rs *appsv1.ReplicaSet) bool { return rs.Status.ReadyReplicas == 2 }))
		if c.Get("Pod orphan").GetDeletionTimestamp() != nil {
			t.Error("the released pod was deleted")
		}
	})
}
