package scheduler

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	corehelpers "k8s.io/component-helpers/scheduling/corev1"
)

// maxScore is the best a single scorer gives.
const maxScore = 100

// scorer rates the nodes that fit, each 0 to maxScore, and weighs its word.
type scorer struct {
	weight int64
	score  func(p *podInfo, c *cluster, fits []*nodeInfo) []int64
}

// scorers and weights are those of kube-scheduler's defaults.
var scorers = []scorer{
	{3, taintScore},
	{2, nodePreference},
	{2, spreadScore},
	{2, affinityScore},
	{1, leastAllocated},
	{1, balanced},
	{1, imageLocality},
}

func leastAllocated(p *podInfo, _ *cluster, fits []*nodeInfo) []int64 {
	return each(fits, func(n *nodeInfo) int64 {
		return (free(p.scored.milliCPU+n.scored.milliCPU, n.allocatable.milliCPU) +
			free(p.scored.memory+n.scored.memory, n.allocatable.memory)) / 2
	})
}

func free(used, has int64) int64 {
	if has <= 0 || used > has {
		return 0
	}
	return (has - used) * maxScore / has
}

// balanced prefers nodes whose CPU and memory would be used to the same degree.
func balanced(p *podInfo, _ *cluster, fits []*nodeInfo) []int64 {
	return each(fits, func(n *nodeInfo) int64 {
		cpu := fraction(p.scored.milliCPU+n.scored.milliCPU, n.allocatable.milliCPU)
		mem := fraction(p.scored.memory+n.scored.memory, n.allocatable.memory)
		return int64((1 - math.Abs(cpu-mem)/2) * maxScore)
	})
}

func fraction(used, has int64) float64 {
	if has <= 0 {
		return 1
	}
	return min(float64(used)/float64(has), 1)
}

func taintScore(p *podInfo, _ *cluster, fits []*nodeInfo) []int64 {
	bad := each(fits, func(n *nodeInfo) int64 {
		count := int64(0)
		for i := range n.node.Spec.Taints {
			t := &n.node.Spec.Taints[i]
			if t.Effect == corev1.TaintEffectPreferNoSchedule && !corehelpers.TolerationsTolerateTaint(quiet, p.pod.Spec.Tolerations, t, false) {
				count++
			}
		}
		return count
	})
	return normalize(bad, true)
}

func nodePreference(p *podInfo, _ *cluster, fits []*nodeInfo) []int64 {
	if p.prefers == nil {
		return nil
	}
	return normalize(each(fits, func(n *nodeInfo) int64 { return p.prefers.Score(n.node) }), false)
}

// Images between these sizes, in bytes, count in proportion: smaller ones pull quickly anyway.
const (
	minImage = 23 << 20
	maxImage = 1000 << 20
)

func imageLocality(p *podInfo, _ *cluster, fits []*nodeInfo) []int64 {
	containers := p.pod.Spec.Containers
	return each(fits, func(n *nodeInfo) int64 {
		var have int64
		for i := range containers {
			have += n.images[containers[i].Image]
		}
		top := int64(len(containers)) * maxImage
		return (min(max(have, minImage), top) - minImage) * maxScore / (top - minImage)
	})
}

// spreadScore prefers domains with fewer pods: by the pod's soft constraints, or, where it has
// none, nodes with fewer pods of the same controller.
func spreadScore(p *podInfo, c *cluster, fits []*nodeInfo) []int64 {
	total := make([]int64, len(fits))
	soft := false
	for i := range p.spread {
		s := &p.spread[i]
		if s.hard {
			continue
		}
		soft = true
		counts := s.counts(p, c.all())
		for j, n := range fits {
			total[j] += counts[n.node.Labels[s.topologyKey]]
		}
	}
	if !soft && len(p.spread) == 0 {
		if p.owner == "" {
			return nil
		}
		for j, n := range fits {
			total[j] += n.owners[p.owner]
		}
	}
	return normalize(total, true)
}

func affinityScore(p *podInfo, c *cluster, fits []*nodeInfo) []int64 {
	terms := append(append([]affinityTerm(nil), p.affinity.prefersNear...), p.affinity.prefersFar...)
	if len(terms) == 0 && c.attracting == 0 {
		return nil
	}
	total := make([]int64, len(fits))
	for _, t := range terms {
		counts := t.domains(c)
		for j, n := range fits {
			total[j] += t.weight * counts[n.node.Labels[t.topologyKey]]
		}
	}
	wishes := wishedFor(p, c)
	for j, n := range fits {
		for key, values := range wishes {
			total[j] += values[n.node.Labels[key]]
		}
	}
	return spanned(total)
}

// hardAffinityWeight is what a present pod's required affinity to a new one counts.
const hardAffinityWeight = 1

// wishedFor weighs, by topology key and value, how much the pods there want p beside them.
func wishedFor(p *podInfo, c *cluster) map[string]map[string]int64 {
	if c.attracting == 0 {
		return nil
	}
	out := make(map[string]map[string]int64)
	for _, n := range c.all() {
		for _, other := range n.pods {
			wish := func(terms []affinityTerm, weight int64) {
				for i := range terms {
					t := &terms[i]
					value, ok := n.node.Labels[t.topologyKey]
					if !ok || !t.matches(p.pod, c) {
						continue
					}
					if out[t.topologyKey] == nil {
						out[t.topologyKey] = make(map[string]int64)
					}
					out[t.topologyKey][value] += t.weight + weight
				}
			}
			wish(other.affinity.near, hardAffinityWeight)
			wish(other.affinity.prefersNear, 0)
			wish(other.affinity.prefersFar, 0)
		}
	}
	return out
}

func each(fits []*nodeInfo, f func(*nodeInfo) int64) []int64 {
	out := make([]int64, len(fits))
	for i, n := range fits {
		out[i] = f(n)
	}
	return out
}

// normalize maps counts to 0..maxScore by the highest; reverse makes a low count the good one.
func normalize(counts []int64, reverse bool) []int64 {
	var top int64
	for _, v := range counts {
		top = max(top, v)
	}
	for i, v := range counts {
		if top > 0 {
			v = v * maxScore / top
		}
		if reverse {
			v = maxScore - v
		}
		counts[i] = v
	}
	return counts
}

// spanned maps values, negative ones too, to 0..maxScore between the lowest and the highest.
func spanned(values []int64) []int64 {
	low, high := values[0], values[0]
	for _, v := range values {
		low, high = min(low, v), max(high, v)
	}
	for i, v := range values {
		if high > low {
			values[i] = (v - low) * maxScore / (high - low)
		} else {
			values[i] = 0
		}
	}
	return values
}
