package testkit

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/nats-io/nats.go"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster"
	"github.com/troupe-run/troupe/node"
	"github.com/troupe-run/troupe/node/runtime/sim"
)

// stopWait bounds the end of a cluster, in the cluster's own time.
const stopWait = 30 * time.Second

// seedVariable sets the seed of clusters that were given none.
const seedVariable = "TESTKIT_SEED"

// Cluster is a control plane with simulated nodes inside a test. Its methods fail the test instead
// of returning errors and are for the test's own goroutine; its clients are for any.
type Cluster struct {
	t       testing.TB
	opts    options
	control *cluster.Cluster
	sim     *node.Sim
	nodes   []*simulated
	conn    *nats.Conn
	client  *kubernetes.Clientset
	names   *names

	kubeconfig, cache string // for kubectl
}

// Start starts a cluster that ends with the test. It returns when the API answers; nodes become
// Ready in the moments after.
func Start(t testing.TB, opts ...Option) *Cluster {
	t.Helper()
	c := &Cluster{t: t, opts: options{nodes: 1}}
	for _, o := range opts {
		o(&c.opts)
	}
	for i := range c.opts.nodes {
		c.nodes = append(c.nodes, &simulated{name: fmt.Sprintf("node-%d", i)})
	}
	quiet()
	if c.opts.log == nil {
		var l *testLog
		c.opts.log, l = newTestLog(t)
		t.Cleanup(l.end)
	}
	if c.opts.seed == 0 {
		c.opts.seed = newSeed(t)
	}
	c.up()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("testkit: %s=%d repeats the cluster's random choices", seedVariable, c.opts.seed)
		}
		c.down()
	})
	return c
}

// quiet drops what Kubernetes' libraries tell the loggers of the whole process: they cannot know which
// test it belongs to, and what matters comes back as an error, too. The stock handlers also slow down
// errors that follow each other, by the time of the last one: in another bubble that may be decades
// away.
var quiet = sync.OnceFunc(func() {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	utilruntime.ErrorHandlers = nil
})

func newSeed(t testing.TB) uint64 {
	t.Helper()
	s := os.Getenv(seedVariable)
	if s == "" {
		return 1 + rand.Uint64()>>1
	}
	seed, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", seedVariable, err)
	}
	return seed
}

// Virtual runs f with a cluster in a testing/synctest bubble: inside, time is virtual and moves
// only while every goroutine waits. See [Cluster.Advance].
func Virtual(t *testing.T, f func(t *testing.T, c *Cluster), opts ...Option) {
	t.Helper()
	quiet()
	// The clock of nats-server's streams is one goroutine for the whole process. Held from here it
	// stays out of the bubble, whose time would stand still otherwise.
	ats.Register()
	defer ats.Unregister()
	synctest.Test(t, func(t *testing.T) {
		f(t, Start(t, append(opts, func(o *options) { o.virtual = true })...))
	})
}

// Advance lets time pass in a virtual cluster and returns when everything due has happened.
// Advance(0) only waits until the cluster rests.
func (c *Cluster) Advance(d time.Duration) {
	c.t.Helper()
	if !c.opts.virtual {
		c.t.Fatal("only a virtual cluster's time can be advanced")
	}
	time.Sleep(d)
	synctest.Wait()
}

// up starts the control plane and the nodes, these on the machines of an earlier life.
func (c *Cluster) up() {
	c.t.Helper()
	ctx := c.t.Context()
	cfg := cluster.Config{DataDir: c.opts.dataDir, Off: c.opts.off, Seed: c.opts.seed, Log: c.opts.log}
	if c.opts.virtual {
		l := newListener()
		cfg.Listener, cfg.Insecure, cfg.Dial = l, true, l.dial
	} else {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		c.must(err)
		cfg.Listener = l
	}
	var err error
	c.control, err = cluster.Start(ctx, cfg)
	c.must(err)
	if err := c.join(ctx); err != nil {
		c.down()
		c.t.Fatal(err)
	}
}

// join starts the nodes and makes the clients.
func (c *Cluster) join(ctx context.Context) (err error) {
	if c.conn, err = c.control.Conn("simulated nodes"); err != nil {
		return err
	}
	cfg := c.opts.sim
	cfg.Region, cfg.Conn, cfg.Stage, cfg.Log = c.control.Region(), c.conn, c.control.Stage(), c.opts.log
	cfg.Machines = make(map[string]*sim.Runtime, len(c.nodes))
	for _, n := range c.nodes {
		cfg.Machines[n.name] = n.machine
	}
	if c.opts.dataDir != "" {
		cfg.DataDir = filepath.Join(c.opts.dataDir, "nodes")
	}
	cfg.Nodes = -1 // they are added one by one
	if c.sim, err = node.StartSim(ctx, cfg); err != nil {
		return err
	}
	for _, n := range c.nodes {
		if n.stopped {
			continue
		}
		if err := c.sim.Add(n.name, n.labels); err != nil {
			return err
		}
	}
	if c.client, err = kubernetes.NewForConfig(c.Config()); err != nil {
		return err
	}
	c.names, err = newNames(c.Config(), c.client)
	return err
}

func (c *Cluster) down() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.t.Context()), stopWait)
	defer cancel()
	if c.names != nil {
		c.names.close()
	}
	if c.sim != nil {
		c.check("stop nodes", c.sim.Close(ctx))
	}
	if c.conn != nil {
		c.conn.Close()
	}
	c.check("stop control plane", c.control.Close(ctx))
	c.names, c.sim, c.conn, c.kubeconfig = nil, nil, nil, ""
}

// Restart ends the control plane and the nodes' agents and starts them again: on the same state
// with [DataDir], on an empty one without. Simulated containers run on meanwhile and are adopted;
// nodes that are stopped stay so. Clients made before have to be made anew.
func (c *Cluster) Restart() {
	c.t.Helper()
	for name, m := range c.sim.Machines() {
		c.find(name).machine = m
	}
	c.down()
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

// Feed follows the cluster's state from memory: every change, in order.
func (c *Cluster) Feed() objects.Feed { return c.control.Feed() }
