package proxyfeed

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// forgetAfter is how long a silent proxy counts as alive; they report every thirty seconds.
const forgetAfter = 90 * time.Second

// patience is how long a waiter is remembered: whoever asked has given up long before.
const patience = 10 * time.Minute

// proxies knows how far the rules of each node have come, and who waits for them.
type proxies struct {
	nodes   map[string]progress
	waiters []waiter
}

type progress struct {
	rev  uint64
	last time.Time
}

type waiter struct {
	rev    uint64
	who    *actor.PID
	answer any
	since  time.Time
}

func newProxies() *proxies { return &proxies{nodes: make(map[string]progress)} }

func (p *proxies) report(node string, rev uint64, now time.Time) {
	p.nodes[node] = progress{rev, now}
}

func (p *proxies) forget(node string) { delete(p.nodes, node) }

// await promises who an answer once every living proxy has reached rev.
func (p *proxies) await(rev uint64, who *actor.PID, answer any, now time.Time) {
	if who != nil {
		p.waiters = append(p.waiters, waiter{rev, who, answer, now})
	}
}

// ready returns, and forgets, the waiters whose revision every living proxy has reached. seen is
// the newest revision known here, visible the newest one that proxies could notice: a revision
// in between needs nothing of them.
func (p *proxies) ready(seen, visible uint64, now time.Time) []waiter {
	if len(p.waiters) == 0 {
		return nil
	}
	low, living := p.lowest(now)
	var out, left []waiter
	for _, w := range p.waiters {
		if w.rev <= seen && (!living || low >= min(w.rev, visible)) {
			out = append(out, w)
		} else if now.Sub(w.since) < patience {
			left = append(left, w)
		}
	}
	p.waiters = left
	return out
}

// lowest is how far the slowest of the living proxies has come; living is false when there are none.
func (p *proxies) lowest(now time.Time) (low uint64, living bool) {
	for _, rev := range p.revisions(now) {
		if !living || rev < low {
			low, living = rev, true
		}
	}
	return low, living
}

// revisions returns the progress of living proxies and forgets the others.
func (p *proxies) revisions(now time.Time) map[string]uint64 {
	out := make(map[string]uint64, len(p.nodes))
	for node, pr := range p.nodes {
		if now.Sub(pr.last) > forgetAfter {
			delete(p.nodes, node)
			continue
		}
		out[node] = pr.rev
	}
	return out
}
