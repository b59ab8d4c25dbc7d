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

// place chooses a node for a pod: one of the best among those that fit, at random. With many
// nodes it stops looking when enough fit; start rotates where it looks first. The misfit is nil
// when a node was found.
func place(p *podInfo, c *cluster, start int, rnd *rand.Rand) (string, *misfit) {
	nodes := c.all()
	fs := filters
	for _, prepare := range []func(*podInfo, *cluster) filter{spreadFilter, podAffinityFilter} {
		if f := prepare(p, c); f != nil {
			fs = append(fs[:len(fs):len(fs)], f)
		}
	}
	bad := &misfit{nodes: len(nodes), reasons: make(map[string]int)}
	enough := enoughNodes(len(nodes))
	var fits []*nodeInfo
	for i := range nodes {
		n := nodes[(start+i)%len(nodes)]
		if reasons := check(fs, p, n); reasons != nil {
			for _, r := range reasons {
				bad.reasons[r]++
			}
			continue
		}
		if fits = append(fits, n); len(fits) == enough {
			break
		}
	}
	if len(fits) == 0 {
		return "", bad
	}
	return best(p, c, fits, rnd).node.Name, nil
}

func check(fs []filter, p *podInfo, n *nodeInfo) []string {
	for _, f := range fs {
		if reasons := f(p, n); reasons != nil {
			return reasons
		}
	}
	return nil
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
