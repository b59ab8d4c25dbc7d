package testkit

import (
	"log/slog"
	"time"

	"github.com/troupe-run/troupe/node"
)

// Option changes how a cluster starts.
type Option func(*options)

type options struct {
	sim     node.SimConfig
	off     []string
	seed    uint64
	dataDir string
	log     *slog.Logger
	virtual bool
}

// Nodes sets how many simulated nodes there are; without it there is one.
func Nodes(n int) Option { return func(o *options) { o.sim.Nodes = n } }

// Without leaves controllers out by name ("deployment", "scheduler", ...), for tests that play
// their part.
func Without(controllers ...string) Option {
	return func(o *options) { o.off = append(o.off, controllers...) }
}

// Seed makes random choices repeatable.
func Seed(seed uint64) Option { return func(o *options) { o.seed = seed } }

// StartDelay is how long simulated containers take to start, and PullDelay how long images take to
// pull; without them both happen at once. Annotations of a pod can say otherwise, see node/runtime/sim.
func StartDelay(d time.Duration) Option { return func(o *options) { o.sim.StartDelay = d } }

// PullDelay is how long images take to pull.
func PullDelay(d time.Duration) Option { return func(o *options) { o.sim.PullDelay = d } }

// DataDir keeps the state in a folder, for tests that restart a cluster; without it nothing is
// written to disk.
func DataDir(dir string) Option { return func(o *options) { o.dataDir = dir } }

// Log receives what the cluster logs; without it warnings go to the test's log.
func Log(log *slog.Logger) Option { return func(o *options) { o.log = log } }
