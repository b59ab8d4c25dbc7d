package link_test

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/node/link"
)

// BenchmarkIdleNodes measures what the heartbeats of many idle nodes cost, both halves and the bus
// together, per node and second.
func BenchmarkIdleNodes(b *testing.B) {
	const nodes = 2000
	var spent time.Duration
	synctestBench(b, func(t *testing.T) {
		w := newWorld(t)
		w.manyNodes(nodes)
		settle(5 * time.Second)
		var before, after runtime.MemStats
		goroutines := runtime.NumGoroutine()
		runtime.ReadMemStats(&before)
		begin := cpu()
		settle(time.Duration(b.N) * time.Second)
		spent = cpu() - begin
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(goroutines), "goroutines")
		b.ReportMetric(float64(after.HeapAlloc)/nodes, "heap-B/node")
	})
	b.ReportMetric(float64(spent)/float64(b.N)/nodes, "cpu-ns/node/s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkPodReports measures one pod status on its whole way from the link into a store in
// memory and its acknowledgement back, with 100 nodes of 10 pods.
func BenchmarkPodReports(b *testing.B) {
	const nodes, pods = 100, 10
	synctestBench(b, func(t *testing.T) {
		w := newWorld(t)
		var list []objects.Object
		for i := range nodes * pods {
			list = append(list, pod(fmt.Sprint("p", i), fmt.Sprint("n", i%nodes)))
		}
		w.store.Put(list...)
		agents := w.manyNodes(nodes)
		settle(5 * time.Second)
		begin := cpu()
		for i := range b.N {
			name := fmt.Sprint("p", i%(nodes*pods))
			st := running()
			st.PodIP = fmt.Sprint("10.", i>>16&255, ".", i>>8&255, ".", i&255)
			agents[i%nodes].ReportPod(link.PodReport{UID: types.UID("uid-" + name), Namespace: "default", Name: name, Status: st})
			if i%(nodes*pods) == nodes*pods-1 {
				settle(time.Millisecond)
			}
		}
		settle(time.Millisecond)
		b.ReportMetric(float64(cpu()-begin)/float64(b.N), "cpu-ns/report")
		for i := range min(b.N, nodes*pods) {
			p, _ := objects.Get[*corev1.Pod](w.store, messages.KeyOf(messages.Pods, "default", fmt.Sprint("p", i)))
			if p.Status.Phase != corev1.PodRunning {
				t.Fatalf("%s not written", p.Name)
			}
		}
	})
	b.ReportMetric(0, "ns/op")
}

func (w *world) manyNodes(n int) []*agent {
	hub, err := link.NewHub(w.bus.Conn(), region)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []*agent
	for i := range n {
		out = append(out, w.agent(fmt.Sprint("n", i), func(c *link.Config) { c.Hub = hub }))
	}
	w.t.Cleanup(func() { hub.Close() }) // before the links, which then end in silence
	return out
}

// synctestBench runs a benchmark's body in a bubble, where waiting costs nothing.
func synctestBench(b *testing.B, f func(*testing.T)) {
	b.Helper()
	ok := testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{
		Name: b.Name(), F: func(t *testing.T) { synctest.Test(t, f) },
	}})
	if !ok {
		b.Fatal("failed")
	}
}
