package bench_test

import (
	"context"
	"testing"
	"time"

	"github.com/troupe-run/troupe/testkit"
	"github.com/troupe-run/troupe/testkit/bench"
)

// BenchmarkRollout is the load of 10 Deployments of 500 replicas on 100 simulated nodes, cluster
// and client in this process: to be profiled. State is kept on the disk.
func BenchmarkRollout(b *testing.B) {
	for b.Loop() {
		rollout(b)
	}
}

func rollout(b *testing.B) {
	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	defer cancel()
	c := testkit.Start(b, testkit.Nodes(100), testkit.DataDir(b.TempDir()))
	waitNodes(b, c.Client(), 100)
	load := bench.Load{Client: c.Client(), Deployments: 10, Replicas: 500}
	took, err := load.Run(ctx)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(load.Pods())/took.Seconds(), "pods/s")
}

// BenchmarkFirstPod is a cluster of three nodes in this process until the first pod runs, the time
// a test waits before it can begin.
func BenchmarkFirstPod(b *testing.B) {
	var api, pod time.Duration
	for b.Loop() {
		begun := time.Now()
		c := testkit.Start(b, testkit.Nodes(3))
		api += time.Since(begun)
		c.Apply("{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: web, image: registry.example/web:v1}]}}")
		c.WaitFor("Pod default/web", testkit.Running)
		pod += time.Since(begun)
	}
	b.ReportMetric(float64(api.Milliseconds())/float64(b.N), "api-ms")
	b.ReportMetric(float64(pod.Milliseconds())/float64(b.N), "first-pod-ms")
}
