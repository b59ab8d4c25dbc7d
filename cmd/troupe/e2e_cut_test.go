package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/cluster"
	"github.com/troupe-run/troupe/testkit/example"
)

// upHere runs troupe up inside the test, which gets to see the control plane.
func (w *world) upHere() *cluster.Cluster {
	w.t.Helper()
	ctx, stop := context.WithCancel(w.t.Context())
	up, ended := make(chan *cluster.Cluster, 1), make(chan error, 1)
	cfg := upConfig{
		dataDir: w.dir, apiAddr: "127.0.0.1:6443", natsAddr: "127.0.0.1:4222", runtime: runtimeContainerd, nodes: 1, nodeName: "n1",
		podCIDR: "10.244.0.0/16", serviceCIDR: "10.96.0.0/16", logLevel: "warn", binDir: binDir,
		started: func(c *cluster.Cluster) { up <- c },
	}
	w.out = &output{}
	go func() { ended <- runUp(ctx, cfg, w.out, w.out) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			w.t.Errorf("troupe up: %v", err)
		}
	})
	select {
	case c := <-up:
		return c
	case err := <-ended:
		ended <- nil
		w.t.Fatalf("troupe up ended: %v\n%s", err, w.out)
	}
	return nil
}

// TestLostConnection takes the node's connection to the bus away for a while.
func TestLostConnection(t *testing.T) {
	w := newWorld(t)
	c := w.upHere()
	w.load(toolImage)
	w.load(example.ImageName)
	w.apply(string(example.Web))
	w.apply(crowd(2, "a"))
	w.kubectl("-n", "example", "rollout", "status", "deployment/web", "--timeout=60s")
	w.kubectl("rollout", "status", "deployment/crowd", "--timeout=60s")
	kept := w.containers("example")
	doomed := w.pods("default")

	restore := c.CutNode("n1")
	defer restore()
	began := time.Now()
	within(t, 15*time.Second, "the node counts as lost", func() error {
		if r := w.nodeCondition(corev1.NodeReady); r.Status != corev1.ConditionUnknown || r.Reason != "NodeStatusUnknown" {
			return fmt.Errorf("condition %+v", r)
		}
		n, err := w.client().CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, taint := range n.Spec.Taints {
			if taint.Key == corev1.TaintNodeUnreachable {
				return nil
			}
		}
		return fmt.Errorf("taints %v", n.Spec.Taints)
	})
	t.Logf("seen after %s", time.Since(began))
	w.answers() // pods and rules are where they were

	// What is acknowledged now reaches the node later, and what happens there is told later.
	w.apply(crowd(3, "b"))
	w.kubectl("delete", "pod", doomed[0].Name, "--wait=false")
	died := doomed[1]
	id := strings.TrimPrefix(died.Status.ContainerStatuses[0].ContainerID, "containerd://")
	w.killContainer(id)
	w.apply("{apiVersion: v1, kind: Service, metadata: {name: late}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}}")

	restore()
	within(t, 20*time.Second, "the node is back", func() error {
		if r := w.nodeCondition(corev1.NodeReady); r.Status != corev1.ConditionTrue {
			return fmt.Errorf("condition %+v", r)
		}
		n, err := w.client().CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
		if err == nil && len(n.Spec.Taints) > 0 {
			err = fmt.Errorf("taints %v", n.Spec.Taints)
		}
		return err
	})
	w.kubectl("rollout", "status", "deployment/crowd", "--timeout=60s")
	within(t, 60*time.Second, "what was acknowledged has come about", func() error {
		var errs []error
		pods := w.pods("default")
		if len(pods) != 3 {
			errs = append(errs, fmt.Errorf("%d pods", len(pods)))
		}
		for _, p := range pods {
			if p.Annotations["version"] != "b" || p.Status.Phase != corev1.PodRunning {
				errs = append(errs, fmt.Errorf("%s is %s of version %s", p.Name, p.Status.Phase, p.Annotations["version"]))
			}
		}
		return errors.Join(errs...)
	})
	if now := w.containers("example"); !maps.Equal(kept, now) {
		t.Errorf("containers that nobody touched were %v, are %v", kept, now)
	}
	w.consistent()
	w.answers()
	w.asksFromPod()
}
