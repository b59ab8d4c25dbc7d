package node_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/node/eviction"
	"github.com/troupe-run/troupe/node/runtime/sim"
)

// using is a pod that asks for and uses memory.
func using(name, asks, uses string) *corev1.Pod {
	p := podOn("node-0", name)
	p.Annotations = map[string]string{sim.Annotation + "memory": uses}
	p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(asks)}
	return p
}

// conditions lists those of pressure that a node has.
func (w *world) conditions(name string) (out []string) {
	n, _ := objects.Get[*corev1.Node](w.store, messages.KeyOf(messages.Nodes, "", name))
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady && c.Status == corev1.ConditionTrue {
			out = append(out, string(c.Type)+" "+c.Reason)
		}
	}
	return out
}

func (w *world) pod(name string) *corev1.Pod {
	p, ok := objects.Get[*corev1.Pod](w.store, messages.KeyOf(messages.Pods, "default", name))
	if !ok {
		w.t.Fatalf("there is no pod %s", name)
	}
	return p
}

// phases spells the pods of the cluster.
func (w *world) phases() string {
	var out []string
	for _, p := range objects.List[*corev1.Pod](w.store, messages.Pods, "") {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", p.Name, p.Status.Phase, p.Status.Reason)))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func (w *world) create(list ...*corev1.Pod) {
	for _, p := range list {
		if _, err := w.store.Create(w.t.Context(), p); err != nil {
			w.t.Fatal(err)
		}
	}
	time.Sleep(3 * time.Second)
}

func TestANodeShortOfMemoryEvicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1) // of 64 GiB
		time.Sleep(time.Second)
		w.create(using("modest", "30Gi", "20Gi"), using("greedy", "1Gi", "20Gi"))
		if got := w.phases(); got != "greedy Running, modest Running" || len(w.conditions("node-0")) != 0 {
			t.Fatalf("while there is enough: %s, %v", got, w.conditions("node-0"))
		}
		w.create(using("last", "10Gi", "24Gi")) // exceeds what it asked for by less than greedy does
		if got := w.phases(); got != "greedy Failed Evicted, last Running, modest Running" {
			t.Errorf("when there is not: %s", got)
		}
		want := "The node was low on resource: memory. Threshold quantity: 100Mi, available: 0. " +
			"Container web was using 20Gi, request is 1Gi, has larger consumption of memory. "
		if p := w.pod("greedy"); p.Status.Message != want {
			t.Errorf("message %q", p.Status.Message)
		}
		if got := fmt.Sprint(w.conditions("node-0")); got != "[MemoryPressure KubeletHasInsufficientMemory]" {
			t.Errorf("conditions %s", got)
		}
		if got := w.store.Recorder.Events(); !slices.ContainsFunc(got, func(e string) bool { return strings.Contains(e, "EvictionThresholdMet: Attempting to reclaim memory") }) {
			t.Errorf("events:\n%s", strings.Join(got, "\n"))
		}

		// Whoever asked for nothing stays out until the condition is over.
		w.create(podOn("node-0", "early"), using("paid", "1Mi", "1Mi"))
		if p := w.pod("early"); p.Status.Phase != corev1.PodFailed || p.Status.Message != "Pod was rejected: The node had condition: [MemoryPressure]. " {
			t.Errorf("let in: %+v", p.Status)
		}
		if p := w.pod("paid"); p.Status.Phase != corev1.PodRunning {
			t.Errorf("not let in: %+v", p.Status)
		}
		time.Sleep(6 * time.Minute)
		if got := w.conditions("node-0"); len(got) != 0 {
			t.Errorf("conditions after a while: %v", got)
		}
		w.create(podOn("node-0", "late"))
		if got := w.phases(); got != "early Failed Evicted, greedy Failed Evicted, last Running, late Running, modest Running, paid Running" {
			t.Errorf("at last: %s", got)
		}
	})
}

func TestAFullDiskIsClearedBeforePodsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		time.Sleep(time.Second)
		done := podOn("node-0", "done")
		done.Spec.RestartPolicy = corev1.RestartPolicyNever
		done.Annotations = map[string]string{sim.Annotation + "exit-after": "1s"}
		critical := int32(2_000_000_000)
		vital := podOn("node-0", "vital")
		vital.Spec.Priority = &critical
		w.create(done, podOn("node-0", "web"), vital)
		w.sim.Node("node-0").Burden(map[eviction.Signal]int64{eviction.NodeFSAvailable: 95 << 30})
		time.Sleep(2 * time.Minute)
		if got := w.phases(); got != "done Succeeded, vital Running, web Failed Evicted" {
			t.Errorf("the disk is full: %s", got)
		}
		if got := w.sim.Node("node-0").Runtime().Containers(); len(got) != 1 {
			t.Errorf("containers are left: %v", got)
		}
		if got := fmt.Sprint(w.conditions("node-0")); got != "[DiskPressure KubeletHasDiskPressure]" {
			t.Errorf("conditions %s", got)
		}
		w.sim.Node("node-0").Burden(nil)
		w.create(using("late", "1Gi", "1Mi"))
		if p := w.pod("late"); p.Status.Reason != "Evicted" {
			t.Errorf("let in: %+v", p.Status)
		}
		time.Sleep(6 * time.Minute)
		if got := w.conditions("node-0"); len(got) != 0 {
			t.Errorf("conditions at last: %v", got)
		}
	})
}

func TestNobodyIsEvictedByGuess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		time.Sleep(time.Second)
		w.create(using("web", "1Gi", "1Gi"))
		n := w.sim.Node("node-0")
		n.Runtime().Down(errors.New("no such socket"))
		n.Burden(map[eviction.Signal]int64{eviction.MemoryAvailable: 64 << 30})
		time.Sleep(5 * time.Second)
		n.Runtime().Down(nil)
		n.Burden(nil)
		time.Sleep(time.Minute)
		if got := w.phases(); got != "web Running" {
			t.Errorf("while nobody could tell who uses the memory: %s", got)
		}
	})
}
