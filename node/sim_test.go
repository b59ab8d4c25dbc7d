package node_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/nodes"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/messages/bustest"
	"github.com/troupe-run/troupe/node"
	"github.com/troupe-run/troupe/node/runtime/sim"
	"github.com/troupe-run/troupe/proto/nodepb"
)

func TestMain(m *testing.M) {
	ats.Register() // else a goroutine of the server waits outside the bubbles and stops their clocks
	defer ats.Unregister()
	m.Run()
}

// world is a control plane without an API, a store in memory, and simulated nodes.
type world struct {
	t     testing.TB
	store *objectstest.Store
	stage *stage.System
	sim   *node.Sim
}

func newWorld(t testing.TB, n int) *world {
	t.Helper()
	bus := bustest.Start(t)
	w := &world{t: t, store: objectstest.New(clock.RealClock{}), stage: stage.New(stage.Config{Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))})}
	t.Cleanup(func() {
		if err := w.stage.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if _, err := w.stage.Spawn(nodes.Props(nodes.Config{
		Reader: w.store, Writer: w.store, Feed: w.store, Recorder: w.store.Recorder, Tokens: noTokens{},
		Conn: bus.Conn(), Region: "local", Epoch: 1, Clock: clock.RealClock{}, Log: slog.New(slog.DiscardHandler),
		Cluster: &nodepb.Cluster{DnsIp: "10.43.0.10", Domain: "cluster.local", PodCidr: "10.42.0.0/16"},
	}), "nodes"); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.sim, err = node.StartSim(context.Background(), node.SimConfig{Nodes: n, Region: "local", Conn: bus.Conn(), Stage: w.stage}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.sim.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return w
}

type noTokens struct{}

func (noTokens) Token(context.Context, string, string, *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	return nil, errors.New("no tokens here")
}

func podOn(nodeName, name string) *corev1.Pod {
	grace := int64(30)
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{
			NodeName: nodeName, RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{Name: "web", Image: "example/web:v1", ImagePullPolicy: corev1.PullIfNotPresent}},
		},
	}
}

// running counts the pods that run.
func (w *world) running() int {
	n := 0
	for _, p := range objects.List[*corev1.Pod](w.store, messages.Pods, "") {
		if p.Status.Phase == corev1.PodRunning {
			n++
		}
	}
	return n
}

func TestSimulatedNodesRunPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		time.Sleep(time.Second)
		if n, ok := objects.Get[*corev1.Node](w.store, messages.KeyOf(messages.Nodes, "", "node-1")); !ok || n.Status.NodeInfo.KubeletVersion != node.KubeletVersion {
			t.Fatalf("node-1 = %+v", n)
		}
		for i := range 9 {
			p := podOn(fmt.Sprintf("node-%d", i%3), fmt.Sprintf("web-%d", i))
			if i == 8 {
				p.Annotations = map[string]string{sim.Annotation + "exit-after": "1s", sim.Annotation + "exit-code": "1"}
			}
			if _, err := w.store.Create(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if got := w.running(); got != 9 {
			t.Errorf("%d of 9 pods run", got)
		}
		time.Sleep(10 * time.Minute)
		p, _ := objects.Get[*corev1.Pod](w.store, messages.KeyOf(messages.Pods, "default", "web-8"))
		if c := p.Status.ContainerStatuses[0]; c.State.Waiting == nil || c.State.Waiting.Reason != "CrashLoopBackOff" || c.RestartCount != 6 {
			t.Errorf("after ten minutes of crashing: %d restarts, %+v", c.RestartCount, c.State)
		}
	})
}

func TestDeadRuntimeShowsAndHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		time.Sleep(time.Second)
		ready := func() corev1.NodeCondition {
			n, _ := objects.Get[*corev1.Node](w.store, messages.KeyOf(messages.Nodes, "", "node-0"))
			for _, c := range n.Status.Conditions {
				if c.Type == corev1.NodeReady {
					return c
				}
			}
			return corev1.NodeCondition{}
		}
		if c := ready(); c.Status != corev1.ConditionTrue {
			t.Fatalf("at first: %+v", c)
		}
		w.sim.Node("node-0").Runtime().Down(errors.New("no such socket"))
		time.Sleep(3 * time.Second)
		if c := ready(); c.Status != corev1.ConditionFalse || !strings.Contains(c.Message, "no such socket") {
			t.Errorf("while down: %+v", c)
		}
		if _, err := w.store.Create(t.Context(), podOn("node-0", "web")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		w.sim.Node("node-0").Runtime().Down(nil)
		time.Sleep(5 * time.Second)
		if c := ready(); c.Status != corev1.ConditionTrue {
			t.Errorf("after healing: %+v", c)
		}
		if w.running() != 1 {
			t.Error("the pod that came meanwhile does not run")
		}
	})
}

// BenchmarkSimulatedPods measures 5,000 pods on 100 nodes from the moment they are bound until all
// run, and what they cost to keep.
func BenchmarkSimulatedPods(b *testing.B) {
	const nodeCount, perNode = 100, 50
	for b.Loop() {
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		w := newWorld(b, nodeCount)
		for len(w.store.List(messages.Nodes, "")) < nodeCount {
			time.Sleep(10 * time.Millisecond)
		}
		begin := time.Now()
		for i := range nodeCount * perNode {
			if _, err := w.store.Create(b.Context(), podOn(fmt.Sprintf("node-%d", i%nodeCount), fmt.Sprintf("web-%d", i))); err != nil {
				b.Fatal(err)
			}
		}
		for w.running() < nodeCount*perNode {
			time.Sleep(20 * time.Millisecond)
		}
		took := time.Since(begin)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(nodeCount*perNode/took.Seconds(), "pods/s")
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MB")
		b.ReportMetric(float64(runtime.NumGoroutine()), "goroutines")
	}
}
