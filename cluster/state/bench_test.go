package state_test

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// realPod is a pod of about 1.5 KB as JSON, as a Deployment makes them.
func realPod(i int) *corev1.Pod {
	p := pod("web-6d4cf56db6-"+strconv.Itoa(i), "")
	p.UID = types.UID(fmt.Sprintf("b0a1e2f0-0000-4000-8000-%012d", i))
	p.Labels = map[string]string{"app": "web", "pod-template-hash": "6d4cf56db6"}
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-6d4cf56db6", UID: "c3a1e2f0-0000-4000-8000-000000000000"}}
	c := corev1.Container{Name: "web", Image: "registry.local/web:1.0", Env: []corev1.EnvVar{{Name: "MODE", Value: "demo"}}}
	for i := range 4 {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: fmt.Sprintf("volume-%d", i), MountPath: fmt.Sprintf("/var/lib/volume-%d", i), ReadOnly: true})
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: fmt.Sprintf("volume-%d", i), VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	}
	p.Spec.Containers = []corev1.Container{c}
	for _, t := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady} {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, Reason: "AsExpected"})
	}
	return p
}

// BenchmarkCreate commits new pods, each durable before the next of its writer.
func BenchmarkCreate(b *testing.B) {
	for _, writers := range []int{1, 8, 64, 256} {
		for _, changes := range []bool{false, true} {
			b.Run(fmt.Sprintf("writers=%d/changes=%t", writers, changes), func(b *testing.B) {
				s := open(b, startBus(b, b.TempDir()), func(c *state.Config) {
					if changes {
						c.Changes = &state.Changes{}
					}
				})
				var next atomic.Int64
				b.ResetTimer()
				var wg sync.WaitGroup
				for range writers {
					wg.Go(func() {
						for {
							i := int(next.Add(1))
							if i > b.N {
								return
							}
							if _, err := s.Commit(b.Context(), op(b, s, realPod(i), 0)); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
			})
		}
	}
}

// BenchmarkPublish is the yardstick: one message, one fsync, one after the other.
func BenchmarkPublish(b *testing.B) {
	nats := startBus(b, b.TempDir())
	s := open(b, nats, nil)
	data := op(b, s, realPod(0), 0).Data
	js, err := jetstream.New(nats.Conn())
	if err != nil {
		b.Fatal(err)
	}
	if _, err := js.CreateStream(b.Context(), jetstream.StreamConfig{Name: "yardstick", Subjects: []string{"yardstick.>"}}); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		if _, err := js.Publish(b.Context(), "yardstick."+strconv.Itoa(i), data); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
	b.ReportMetric(float64(len(data)), "bytes/object")
}

// BenchmarkReopen restarts a server with 100,000 pods of 2 KB and opens their bucket: the time until they
// are served, and what they take in memory for each byte of their JSON.
func BenchmarkReopen(b *testing.B) {
	dir := b.TempDir()
	start := func() (*bus.Bus, *state.Store) {
		nats, err := bus.Start(b.Context(), bus.Config{DataDir: dir, Log: discard()})
		if err != nil {
			b.Fatal(err)
		}
		s, err := state.Open(b.Context(), state.Config{Bus: nats, Resources: []state.Resource{pods}, Log: discard()})
		if err != nil {
			b.Fatal(err)
		}
		return nats, s
	}
	end := func(nats *bus.Bus, s *state.Store) {
		closeStore(b, s)
		if err := nats.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	const total = 100_000
	fill := func() int64 {
		nats, s := start()
		defer end(nats, s)
		var wg sync.WaitGroup
		for w := range 256 {
			wg.Go(func() {
				for i := w; i < total; i += 256 {
					p := realPod(i)
					p.Annotations = map[string]string{"note": strings.Repeat("x", 500)}
					if _, err := s.Commit(b.Context(), op(b, s, p, 0)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		_, size := s.Stats(messages.Pods)
		return size
	}
	size := fill()
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	var before, after float64
	for b.Loop() {
		b.StopTimer()
		before = heap()
		b.StartTimer()
		nats, s := start()
		if n, _ := s.Stats(messages.Pods); n != total {
			b.Fatalf("read %d objects", n)
		}
		b.StopTimer()
		after = heap()
		end(nats, s)
		b.StartTimer()
	}
	b.ReportMetric(total*float64(b.N)/b.Elapsed().Seconds(), "objects/s")
	b.ReportMetric((after-before)/float64(size), "heap/JSON")
	b.ReportMetric(float64(size)/total, "B/object")
}

func BenchmarkEncode(b *testing.B) {
	s := open(b, startBus(b, ""), nil)
	p := realPod(0)
	for b.Loop() {
		if _, err := s.Encode(messages.Pods, p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStart starts a bus and opens the two buckets of a cluster, on an empty folder.
func BenchmarkStart(b *testing.B) {
	for name, dir := range map[string]func() string{"file": b.TempDir, "memory": func() string { return "" }} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				nats, err := bus.Start(b.Context(), bus.Config{DataDir: dir(), Log: discard()})
				if err != nil {
					b.Fatal(err)
				}
				for _, cfg := range []state.Config{
					{Changes: &state.Changes{}}, {Bucket: "events", Async: true},
				} {
					cfg.Bus, cfg.Log = nats, discard()
					s, err := state.Open(b.Context(), cfg)
					if err != nil {
						b.Fatal(err)
					}
					defer closeStore(b, s)
				}
				b.StopTimer()
				b.Cleanup(func() { _ = nats.Close(b.Context()) })
				b.StartTimer()
			}
		})
	}
}
