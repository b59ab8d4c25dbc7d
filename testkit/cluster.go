package testkit

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/nats-io/nats.go"
	"google.golang.org/grpc/test/bufconn"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster"
	"github.com/troupe-run/troupe/node"
)

// stopWait bounds the end of a cluster, in the cluster's own time.
const stopWait = 30 * time.Second

// Cluster is a control plane with simulated nodes inside a test. Its methods fail the test instead
// of returning errors and are for the test's own goroutine.
type Cluster struct {
	t       testing.TB
	opts    options
	control *cluster.Cluster
	sim     *node.Sim
	conn    *nats.Conn
	client  kubernetes.Interface
}

// Start starts a cluster that ends with the test. It returns when the API answers; nodes become
// Ready in the moments after.
func Start(t testing.TB, opts ...Option) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	for _, o := range opts {
		o(&c.opts)
	}
	if c.opts.log == nil {
		c.opts.log = slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelError}))
	}
	c.up()
	t.Cleanup(c.down)
	return c
}

// Virtual runs f with a cluster in a testing/synctest bubble: inside, time is virtual and moves
// only while every goroutine waits.
func Virtual(t *testing.T, f func(t *testing.T, c *Cluster), opts ...Option) {
	t.Helper()
	// nats-server's timestamp service must be born outside of the bubble, or time stands still.
	ats.Register()
	defer ats.Unregister()
	synctest.Test(t, func(t *testing.T) {
		f(t, Start(t, append(opts, func(o *options) { o.virtual = true })...))
	})
}

func (c *Cluster) up() {
	c.t.Helper()
	ctx := c.t.Context()
	cfg := cluster.Config{DataDir: c.opts.dataDir, Off: c.opts.off, Seed: c.opts.seed, Log: c.opts.log}
	if c.opts.virtual {
		l := bufconn.Listen(1 << 20)
		cfg.Listener, cfg.Insecure, cfg.Dial = l, true, l.DialContext
	} else {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		c.must(err)
		cfg.Listener = l
	}
	var err error
	c.control, err = cluster.Start(ctx, cfg)
	c.must(err)
	if c.conn, err = c.control.Conn("simulated nodes"); err == nil {
		sim := c.opts.sim
		sim.Region, sim.Conn, sim.Stage, sim.Log = c.control.Region(), c.conn, c.control.Stage(), c.opts.log
		c.sim, err = node.StartSim(ctx, sim)
	}
	if err == nil {
		c.client, err = kubernetes.NewForConfig(c.Config())
	}
	if err != nil {
		c.down()
		c.t.Fatal(err)
	}
}

func (c *Cluster) down() {
	ctx, cancel := context.WithTimeout(context.Background(), stopWait)
	defer cancel()
	if c.sim != nil {
		c.check("stop nodes", c.sim.Close(ctx))
	}
	if c.conn != nil {
		c.conn.Close()
	}
	c.check("stop control plane", c.control.Close(ctx))
}

// Restart ends the control plane and the nodes and starts them again, on the same state only with
// [DataDir].
func (c *Cluster) Restart() {
	c.t.Helper()
	c.down()
	c.sim, c.conn = nil, nil
	c.up()
}

func (c *Cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *Cluster) check(what string, err error) {
	if err != nil {
		c.t.Errorf("%s: %v", what, err)
	}
}

// Config reaches the API as an administrator, without client-side rate limits.
func (c *Cluster) Config() *rest.Config { return c.control.AdminConfig() }

// Kubeconfig writes an administrator's kubeconfig into a folder of the test and returns its path.
// A virtual cluster has none: no other process can reach it.
func (c *Cluster) Kubeconfig() string {
	c.t.Helper()
	if c.opts.virtual {
		c.t.Fatal("a virtual cluster cannot be reached from outside its bubble; use Config")
	}
	path := filepath.Join(c.t.TempDir(), "kubeconfig")
	c.must(c.control.WriteKubeconfig(path))
	return path
}

// Client is a clientset on [Cluster.Config].
func (c *Cluster) Client() kubernetes.Interface { return c.client }

// Reader reads the cluster's state from memory, without the API.
func (c *Cluster) Reader() objects.Reader { return c.control.Reader() }

// Node gives a simulated node by name ("node-0" and so on), to make its runtime fail.
func (c *Cluster) Node(name string) *node.SimNode {
	c.t.Helper()
	n := c.sim.Node(name)
	if n == nil {
		c.t.Fatalf("there is no node %s", name)
	}
	return n
}

// testLog writes log lines to the test's log.
type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(fmt.Sprintf("%s", bytes.TrimRight(b, "\n")))
	return len(b), nil
}
