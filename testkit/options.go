package testkit

import (
	"log/slog"
	"time"

	"github.com/troupe-run/troupe/node"
)

// Option changes how a cluster starts.
type Option func(*options)

type options struct {
	nodes   int
	sim     node.SimConfig
	off     []string
	seed    uint64
	dataDir string
	log     *slog.Logger
	virtual bool
}

// Nodes sets how many simulated nodes there are, "node-0" and so on; without it there is one.
func Nodes(n int) Option { return func(o *options) { o.nodes = n } }

// Capacity sets what each node offers; without it 32 cores, 64 GiB and 110 pods.
func Capacity(cores, memory, pods int64) Option {
	return func(o *options) { o.sim.CPU, o.sim.Memory, o.sim.MaxPods = cores, memory, pods }
}

// Without leaves controllers out by name ("deployment", "scheduler", ...), for tests that play
// their part.
func Without(controllers ...string) Option {
	return func(o *options) { o.off = append(o.off, controllers...) }
}

// Seed makes random choices repeatable. Without it each cluster has a new one, which a failing
// test logs; the variable TESTKIT_SEED sets it from outside.
func Seed(seed uint64) Option { return func(o *options) { o.seed = seed } }

// StartDelay is how long simulated containers take to start; without it they start at once.
// Annotations of a pod can say otherwise, see package node/runtime/sim.
func StartDelay(d time.Duration) Option { return func(o *options) { o.sim.StartDelay = d } }

// PullDelay is how long images take to pull; without it they are there at once.
func PullDelay(d time.Duration) Option { return func(o *options) { o.sim.PullDelay = d } }

// DataDir keeps the state in a folder, for tests that restart a cluster; without it nothing is
// kept.
func DataDir(dir string) Option { return func(o *options) { o.dataDir = dir } }

// Log receives what the cluster logs; without it errors go to the test's log.
func Log(log *slog.Logger) Option { return func(o *options) { o.log = log } }
