package node

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/node/eviction"
)

// What a simulated node has, beside its memory.
const (
	simDisk      = 100 << 30
	simInodes    = 1 << 20
	simProcesses = 1 << 15
)

// Burden says what is used on the node beside what its pods say they use: bytes, inodes or
// processes by signal. What an earlier call said is forgotten. The node looks at once.
func (n *SimNode) Burden(used map[eviction.Signal]int64) {
	n.burden.Store(&used)
	n.press()
}

// press lets the node look what it has left.
func (n *SimNode) press() {
	if pid := n.evictor.Load(); pid != nil {
		n.stage.Send(pid, pressDue{})
	}
}

// simGauge measures a simulated node: what it has, less what its pods say they use and its burden.
type simGauge struct {
	*SimNode
	memory int64
}

func (g simGauge) left(ctx context.Context) (eviction.Signals, bool) {
	all := eviction.Signals{
		eviction.MemoryAvailable:   {Available: g.memory, Capacity: g.memory},
		eviction.NodeFSAvailable:   {Available: simDisk, Capacity: simDisk},
		eviction.NodeFSInodesFree:  {Available: simInodes, Capacity: simInodes},
		eviction.ImageFSAvailable:  {Available: simDisk, Capacity: simDisk},
		eviction.ImageFSInodesFree: {Available: simInodes, Capacity: simInodes},
		eviction.PIDAvailable:      {Available: simProcesses, Capacity: simProcesses},
	}
	take := func(s eviction.Signal, n int64) {
		a := all[s]
		a.Available -= n
		all[s] = a
	}
	if used, err := g.usage(ctx, nil); err == nil {
		for _, u := range used {
			take(eviction.MemoryAvailable, u.Memory)
			take(eviction.PIDAvailable, u.Processes)
			for _, c := range u.Containers { // one disk holds everything
				take(eviction.NodeFSAvailable, c.Files.Bytes)
				take(eviction.ImageFSAvailable, c.Files.Bytes)
			}
		}
	}
	if b := g.burden.Load(); b != nil {
		for s, n := range *b {
			take(s, n)
		}
	}
	return all, false
}

func (g simGauge) reclaim(ctx context.Context) error {
	if p := g.pods.Load(); p != nil {
		return p.Release(ctx)
	}
	return nil
}

func (g simGauge) usage(ctx context.Context, _ []*corev1.Pod) (map[types.UID]*eviction.Usage, error) {
	rt := g.rt.Load()
	if rt == nil {
		return nil, nil
	}
	stats, err := rt.PodStats(ctx)
	return usageOf(stats), err
}

var _ gauge = simGauge{}
