package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// misfit says why a pod fits no node: how many nodes there are and how often each reason came up.
type misfit struct {
	nodes   int
	reasons map[string]int
	open    []*nodeInfo // where it might fit if other pods left
}

// String words it as kube-scheduler does: "0/3 nodes are available: 2 Insufficient cpu, ...".
func (m *misfit) String() string {
	if m.nodes == 0 {
		return "no nodes available to schedule pods"
	}
	parts := make([]string, 0, len(m.reasons))
	for reason, n := range m.reasons {
		parts = append(parts, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(parts)
	return fmt.Sprintf("0/%d nodes are available: %s.", m.nodes, strings.Join(parts, ", "))
}

func (m *misfit) add(n *nodeInfo, r refusal) {
	for _, reason := range r.reasons {
		m.reasons[reason]++
	}
	if !r.final {
		m.open = append(m.open, n)
	}
}

// place chooses a node for a pod: the one it was promised, else one of the best among those that
// fit, at random. With many nodes it stops looking when enough fit; start rotates where it looks
// first. The misfit is nil when a node was found.
func place(p *podInfo, c *cluster, start int, rnd *rand.Rand) (string, *misfit) {
	bad := &misfit{nodes: len(c.all()), reasons: make(map[string]int)}
	if m, ok := c.nominated[p.pod.UID]; ok {
		if n := c.nodes[m.node]; n != nil && n.node != nil && len(fitting(p, c, []*nodeInfo{n}, 1, &misfit{reasons: make(map[string]int)})) > 0 {
			return m.node, nil
		}
	}
	nodes := c.all()
	at := 0
	if len(nodes) > 0 {
		at = start % len(nodes)
	}
	fits := fitting(p, c, nodes[at:], enoughNodes(len(nodes)), bad)
	if more := enoughNodes(len(nodes)) - len(fits); more > 0 {
		fits = append(fits, fitting(p, c, nodes[:at], more, bad)...)
	}
	if len(fits) == 0 {
		return "", bad
	}
	return best(p, c, fits, rnd).node.Name, nil
}

// fitting returns up to enough of the nodes that p fits on, and tells bad of the others. Room that
// is promised to pods of the same or a higher priority counts as taken; but p must fit without
// these pods as well, for they may never come.
func fitting(p *podInfo, c *cluster, nodes []*nodeInfo, enough int, bad *misfit) []*nodeInfo {
	undo := c.promise(p)
	fits := check(p, c, nodes, enough, bad)
	if undo != nil {
		undo()
		fits = check(p, c, fits, enough, bad)
	}
	return fits
}

func check(p *podInfo, c *cluster, nodes []*nodeInfo, enough int, bad *misfit) []*nodeInfo {
	fs := prepare(p, c)
	var fits []*nodeInfo
	for _, n := range nodes {
		if r := fs.check(p, n); r.refused() {
			bad.add(n, r)
			continue
		}
		if fits = append(fits, n); len(fits) == enough {
			break
		}
	}
	return fits
}

// prepare returns the filters that concern p, as of the picture now.
func prepare(p *podInfo, c *cluster) filterList {
	fs := filters
	for _, prepare := range []func(*podInfo, *cluster) filter{spreadFilter, podAffinityFilter} {
		if f := prepare(p, c); f != nil {
			fs = append(fs[:len(fs):len(fs)], f)
		}
	}
	return fs
}

type filterList []filter

// check returns the first refusal.
func (fs filterList) check(p *podInfo, n *nodeInfo) refusal {
	for _, f := range fs {
		if r := f(p, n); r.refused() {
			return r
		}
	}
	return refusal{}
}

// enoughNodes is how many fitting nodes are scored: all up to a hundred, then a share that falls
// from a half to a twentieth as clusters grow (kube-scheduler's percentageOfNodesToScore).
func enoughNodes(all int) int {
	if all <= 100 {
		return all
	}
	percent := max(50-all/125, 5)
	return max(all*percent/100, 100)
}

func best(p *podInfo, c *cluster, fits []*nodeInfo, rnd *rand.Rand) *nodeInfo {
	if len(fits) == 1 {
		return fits[0]
	}
	total := make([]int64, len(fits))
	for _, s := range scorers {
		for i, v := range s.score(p, c, fits) {
			total[i] += s.weight * v
		}
	}
	top, equals, at := int64(-1), 0, 0
	for i, v := range total {
		switch {
		case v > top:
			top, equals, at = v, 1, i
		case v == top:
			if equals++; rnd.IntN(equals) == 0 {
				at = i
			}
		}
	}
	return fits[at]
}
