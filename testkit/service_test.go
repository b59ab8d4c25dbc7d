package testkit_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/testkit"
)

// endpoints counts the ready and the other addresses of the service web.
func endpoints(t *testing.T, c *testkit.Cluster) (ready, notReady int) {
	t.Helper()
	list, err := c.Client().DiscoveryV1().EndpointSlices("default").List(t.Context(), metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=web"})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready != nil && *e.Conditions.Ready {
				ready++
			} else {
				notReady++
			}
		}
	}
	return ready, notReady
}

func TestServiceFollowsReadiness(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		c.Apply(`
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {troupe.run/sim-probe-readiness: after=20s, troupe.run/sim-stop-after: 10s}}
    spec:
      containers:
      - name: web
        image: example/web:v1
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {port: http}, periodSeconds: 1}
`)
		svc := testkit.As[corev1.Service](c.Get("Service web"))
		if p := svc.Spec.Ports[0]; svc.Spec.ClusterIP == "" || p.NodePort < 30000 || p.NodePort > 32767 {
			t.Errorf("cluster IP %q, port %+v", svc.Spec.ClusterIP, p)
		}
		c.Until("the pods are known", func() bool { _, n := endpoints(t, c); return n == 3 })
		if ready, _ := endpoints(t, c); ready != 0 {
			t.Errorf("%d addresses are ready before their pods are", ready)
		}
		c.Until("they are ready", func() bool { n, _ := endpoints(t, c); return n == 3 })
		ep := testkit.As[corev1.Endpoints](c.WaitFor("Endpoints web", testkit.That(func(e *corev1.Endpoints) bool { return len(e.Subsets) == 1 && len(e.Subsets[0].Addresses) == 3 })))
		if p := ep.Subsets[0].Ports; len(p) != 1 || p[0].Port != 8080 {
			t.Errorf("ports %v", p)
		}
		// A pod that is told to end serves no more, and is known as terminating until it has ended.
		c.Delete("Pod " + podsOf(t, c)[0].Name)
		c.Advance(time.Second)
		if ready, notReady := endpoints(t, c); ready != 2 || notReady != 2 {
			t.Errorf("%d ready and %d not; want two serving, one terminating and its replacement", ready, notReady)
		}
		c.WaitLong("Deployment web", testkit.RolledOut, time.Minute)
		c.Until("the old one is forgotten", func() bool { ready, not := endpoints(t, c); return ready == 3 && not == 0 })
		c.Patch("Deployment web", "spec: {replicas: 0}")
		c.Until("nothing serves", func() bool { ready, not := endpoints(t, c); return ready+not == 0 })
		c.Delete("Service web")
		c.WaitFor("Endpoints web", testkit.Gone)
		c.Until("its slices are gone", func() bool {
			list, err := c.Client().DiscoveryV1().EndpointSlices("default").List(t.Context(), metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=web"})
			return err == nil && len(list.Items) == 0
		})
	}, testkit.Nodes(2))
}
