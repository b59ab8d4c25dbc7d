package feed_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/actors/proxyfeed"
	"github.com/troupe-run/troupe/actors/stage/stagetest"
	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/proxy/feed"
)

// TestNodePermissionsSuffice has the conversation over a connection that may do what a node may.
func TestNodePermissionsSuffice(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	b, err := bus.Start(t.Context(), bus.Config{Region: region, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil { //nolint:usetesting // the test's context has ended
			t.Error(err)
		}
	})
	conn, err := b.NodeConn("node-1")
	if err != nil {
		t.Fatal(err)
	}
	sys, store, p := stagetest.New(t), objectstest.New(clock.RealClock{}), &proxy{conn: conn}
	store.Serve(messages.Services, messages.EndpointSlices, messages.Namespaces)
	store.Put(service("before"))
	pid, err := sys.Spawn(proxyfeed.Props(proxyfeed.Config{Conn: b.Conn(), Region: region, Reader: store, Feed: store, Log: log}), "proxyfeed")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sys.Spawn(feed.Props(feed.Config{Conn: conn, Region: region, Node: "node-1", Deliver: p.take, Log: log}), "feed"); err != nil {
		t.Fatal(err)
	}
	until(t, "the snapshot", func() bool { return len(p.knows()) == 1 })
	store.Put(service("after"))
	until(t, "the delta", func() bool { return len(p.knows()) == 2 })
	p.applied(t, "node-1")
	until(t, "the report", func() bool {
		nodes, err := proxyfeed.At(sys, pid).Applied(t.Context())
		return err == nil && nodes["node-1"] > 0
	})
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("%s did not come", what)
}
