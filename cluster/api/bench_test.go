package api_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/troupe-run/troupe/actors/objects"

	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/messages"
)

// BenchmarkStart is New and Run until ready on an empty store, the first objects included.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		start(b).stop()
	}
}

// BenchmarkPodLife is what a pod costs the API on its way to Running: create, bind and one status
// update, written in-process by 64 writers side by side.
func BenchmarkPodLife(b *testing.B) {
	c := start(b)
	c.defaultAccount(b)
	w := c.Local("bench")
	ctx := context.Background()
	var next atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	var g sync.WaitGroup
	for range 64 {
		g.Go(func() {
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				name := fmt.Sprintf("pod-%d", n)
				out, err := w.Create(ctx, pod(name))
				if err != nil {
					b.Error(err)
					return
				}
				if err := w.Bind(ctx, "default", name, string(out.GetUID()), "n1"); err != nil {
					b.Error(err)
					return
				}
				_, err = w.Mutate(ctx, messages.KeyOf(messages.Pods, "default", name), "status", func(o objects.Object) (objects.Object, error) {
					o.(*corev1.Pod).Status.Phase = corev1.PodRunning
					return o, nil
				})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	g.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pods/s")
}
