package node_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/nodes"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/messages/bustest"
	"github.com/troupe-run/troupe/node"
	"github.com/troupe-run/troupe/node/host"
	"github.com/troupe-run/troupe/proto/nodepb"
)

// TestRealNode takes a node through its life: it registers, runs a pod, loses its agent, takes the
// pod up again, lets it go, and leaves nothing behind.
func TestRealNode(t *testing.T) {
	bin, err := filepath.Abs("../bin")
	if err != nil {
		t.Fatal(err)
	}
	run, err := os.MkdirTemp("/run", "troupe-life-")
	if err != nil {
		t.Skipf("no real containers here: %v", err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	data := t.TempDir()
	if err := host.Preflight(host.Config{DataDir: data, RunDir: run, BinDir: bin, Log: log}); err != nil {
		t.Skipf("no real containers here: %v", err)
	}
	const bridge = "trplifetest"
	ctx := context.Background()
	t.Cleanup(func() {
		down := node.DownConfig{DataDir: data, RunDir: run, BinDir: bin, Bridge: bridge, PodCIDR: netip.MustParsePrefix("10.214.0.0/24"), Log: log}
		for range 2 { // the second time there is nothing left
			if err := node.Down(ctx, down); err != nil {
				t.Errorf("down: %v", err)
			}
		}
		if _, err := os.Stat("/sys/class/net/" + bridge); err == nil {
			t.Error("the bridge is still there")
		}
	})

	bus, store := bustest.Start(t), objectstest.New(clock.RealClock{})
	control := stage.New(stage.Config{Log: log})
	t.Cleanup(func() {
		if err := control.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	if _, err := control.Spawn(nodes.Props(nodes.Config{
		Reader: store, Writer: store, Feed: store, Recorder: store.Recorder, Tokens: noTokens{},
		Conn: bus.Conn(), Region: "local", Epoch: 1, Clock: clock.RealClock{}, Log: slog.New(slog.DiscardHandler),
		Cluster: &nodepb.Cluster{DnsIp: "10.96.0.10", Domain: "cluster.local", PodCidr: "10.214.0.0/16"},
	}), "nodes"); err != nil {
		t.Fatal(err)
	}
	start := func() (stop func()) {
		s := stage.New(stage.Config{Log: log})
		a, err := node.Start(ctx, node.Config{Name: "n1", DataDir: data, RunDir: run, BinDir: bin, Bridge: bridge, Region: "local", Conn: bus.Conn(), Stage: s, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := a.Close(ctx); err != nil {
				t.Error(err)
			}
			if err := s.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		}
	}
	await := func(what string, ok func() bool) {
		t.Helper()
		for limit := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatalf("%s did not happen; events: %v", what, store.Recorder.Events())
			}
		}
	}
	pod := func() *corev1.Pod {
		p, _ := objects.Get[*corev1.Pod](store, messages.KeyOf(messages.Pods, "default", "web"))
		return p
	}

	stop := start()
	await("registration", func() bool {
		n, ok := objects.Get[*corev1.Node](store, messages.KeyOf(messages.Nodes, "", "n1"))
		return ok && n.Status.NodeInfo.ContainerRuntimeVersion != ""
	})
	p := podOn("n1", "web")
	p.Spec.Containers[0].Image, p.Spec.Containers[0].ImagePullPolicy = "troupe.local/pause:1", corev1.PullNever
	if _, err := store.Create(ctx, p); err != nil {
		t.Fatal(err)
	}
	await("a running pod", func() bool { return pod().Status.Phase == corev1.PodRunning })
	before := pod().Status

	stop()
	stop = start()
	defer func() { stop() }()
	time.Sleep(time.Second) // long enough for a second container, if there were one
	if after := pod().Status; after.Phase != corev1.PodRunning || after.ContainerStatuses[0].ContainerID != before.ContainerStatuses[0].ContainerID || after.PodIP != before.PodIP {
		t.Errorf("before %+v\nafter %+v", before.ContainerStatuses, after.ContainerStatuses)
	}
	grace := int64(1)
	if err := store.Delete(ctx, messages.KeyOf(messages.Pods, "default", "web"), metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
		t.Fatal(err)
	}
	await("the pod's end", func() bool { return pod() == nil })
}
