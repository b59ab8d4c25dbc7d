package testkit_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/testkit"
)

func TestNamespaceGoesWithItsContent(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(`
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: held, namespace: shop, finalizers: [example.com/held]}
---
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {troupe.run/sim-stop-after: 5s}}
    spec: {containers: [{name: web, image: "example/web:v1"}]}
`)
		c.WaitFor("Deployment shop/web", testkit.RolledOut)
		c.Delete("Namespace shop")
		c.WaitFor("Namespace shop", testkit.Phase("Terminating"))
		if _, err := c.Client().CoreV1().ConfigMaps("shop").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "late"}}, metav1.CreateOptions{}); err == nil {
			t.Error("something could be created in a namespace that goes")
		}
		c.WaitFor("Deployment shop/web", testkit.Gone)
		c.WaitFor("Namespace shop", testkit.Is("NamespaceFinalizersRemaining", "True"))
		c.Until("its pods are gone", func() bool {
			list, err := c.Client().CoreV1().Pods("shop").List(t.Context(), metav1.ListOptions{})
			return err == nil && len(list.Items) == 0
		})
		c.Advance(time.Hour)
		c.WaitFor("Namespace shop", testkit.Exists) // as long as something is held
		c.Patch("ConfigMap shop/held", "metadata: {finalizers: null}")
		c.WaitLong("Namespace shop", testkit.Gone, time.Minute)
		if c.Get("Secret shop/s") != nil {
			t.Error("the secret is still there")
		}
	})
}

func remove(t *testing.T, c *testkit.Cluster, how metav1.DeletionPropagation) {
	t.Helper()
	if err := c.Client().AppsV1().Deployments("default").Delete(t.Context(), "web", metav1.DeleteOptions{PropagationPolicy: &how}); err != nil {
		t.Fatal(err)
	}
}

func TestDeletionInTheBackground(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(deployment(3, ""))
		c.WaitFor("Deployment web", testkit.RolledOut)
		remove(t, c, metav1.DeletePropagationBackground)
		if c.Get("Deployment web") != nil {
			t.Error("the owner waits for what it owns")
		}
		c.Until("the replica sets are gone", func() bool { return len(replicaSets(t, c)) == 0 })
		c.Until("the pods are gone", func() bool { return len(podsOf(t, c)) == 0 })
	})
}

func TestDeletionInTheForeground(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(deployment(3, ""))
		c.WaitFor("Deployment web", testkit.RolledOut)
		for _, p := range podsOf(t, c) {
			c.Patch("Pod "+p.Name, "metadata: {finalizers: [example.com/held]}")
		}
		remove(t, c, metav1.DeletePropagationForeground)
		c.Advance(time.Minute)
		if o := c.Get("Deployment web"); o == nil || o.GetDeletionTimestamp() == nil {
			t.Errorf("the owner does not wait for what it owns: %v", o)
		}
		if len(replicaSets(t, c)) != 1 {
			t.Error("the replica set does not wait for its pods")
		}
		for _, p := range podsOf(t, c) {
			if p.DeletionTimestamp == nil {
				t.Errorf("%s is not being deleted", p.Name)
			}
			c.Patch("Pod "+p.Name, "metadata: {finalizers: null}")
		}
		c.WaitFor("Deployment web", testkit.Gone)
		if n := len(podsOf(t, c)) + len(replicaSets(t, c)); n != 0 {
			t.Errorf("%d dependents outlived their owner", n)
		}
	})
}

func TestDeletionOrphans(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(deployment(3, ""))
		c.WaitFor("Deployment web", testkit.RolledOut)
		remove(t, c, metav1.DeletePropagationOrphan)
		c.WaitFor("Deployment web", testkit.Gone)
		c.Advance(time.Minute)
		sets := replicaSets(t, c)
		if rs := sets["example/web:v1"]; len(sets) != 1 || len(rs.OwnerReferences) != 0 || len(podsOf(t, c)) != 3 {
			t.Errorf("replica sets %v, %d pods; want one without owner, and three", sets, len(podsOf(t, c)))
		}
		// A new owner with the same selector adopts it.
		c.Apply(deployment(3, ""))
		c.WaitFor("Deployment web", testkit.RolledOut)
		if len(replicaSets(t, c)) != 1 {
			t.Error("the orphan was not adopted")
		}
	})
}

func TestOwnersOfAnyKind(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		maps := c.Client().CoreV1().ConfigMaps("default")
		create := func(name string, owners ...metav1.OwnerReference) *corev1.ConfigMap {
			cm, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: owners}}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return cm
		}
		ref := func(o *corev1.ConfigMap) metav1.OwnerReference {
			return metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: o.Name, UID: o.UID, BlockOwnerDeletion: ptr.To(true)}
		}
		a, b := create("a"), create("b")
		child := create("child", ref(a))
		create("grandchild", ref(child))
		create("shared", ref(a), ref(b))
		create("stray", metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "a", UID: "not-the-one"})
		c.WaitFor("ConfigMap stray", testkit.Gone) // its owner never existed
		c.Delete("ConfigMap a")
		c.WaitFor("ConfigMap grandchild", testkit.Gone)
		c.WaitFor("ConfigMap shared", testkit.That(func(cm *corev1.ConfigMap) bool { return len(cm.OwnerReferences) == 1 }))
		c.Advance(time.Hour)
		if c.Get("ConfigMap shared") == nil {
			t.Error("what has another owner was deleted")
		}
		c.Delete("ConfigMap b")
		c.WaitFor("ConfigMap shared", testkit.Gone)
	})
}

func TestServiceAccountAndItsRootCertificate(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}")
		c.WaitFor("ServiceAccount shop/default", testkit.Exists)
		c.WaitFor("ConfigMap shop/kube-root-ca.crt", testkit.Exists)
		c.Delete("ServiceAccount shop/default")
		c.WaitFor("ServiceAccount shop/default", testkit.Exists)
		c.Apply(`
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec: {containers: [{name: web, image: "example/web:v1"}]}
`)
		p := testkit.As[corev1.Pod](c.WaitFor("Pod shop/web", testkit.Running))
		if p.Spec.ServiceAccountName != "default" || len(p.Spec.Volumes) != 1 || p.Spec.Volumes[0].Projected == nil {
			t.Errorf("account %q, volumes %v", p.Spec.ServiceAccountName, p.Spec.Volumes)
		}
	})
}
