package scheduler

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// spreadConstraint is one topology spread constraint, parsed.
type spreadConstraint struct {
	topologyKey string
	selector    labels.Selector
	maxSkew     int64
	minDomains  int64
	hard        bool
	policies    corev1.TopologySpreadConstraint // nodeAffinityPolicy and nodeTaintsPolicy
}

func spreadConstraints(pod *corev1.Pod) []spreadConstraint {
	out := make([]spreadConstraint, 0, len(pod.Spec.TopologySpreadConstraints))
	for _, t := range pod.Spec.TopologySpreadConstraints {
		s := spreadConstraint{topologyKey: t.TopologyKey, maxSkew: int64(t.MaxSkew), minDomains: 1, policies: t}
		s.hard = t.WhenUnsatisfiable == corev1.DoNotSchedule
		s.selector = selectorWithKeys(t.LabelSelector, pod.Labels, t.MatchLabelKeys, nil)
		if t.MinDomains != nil {
			s.minDomains = int64(*t.MinDomains)
		}
		out = append(out, s)
	}
	return out
}

// counts returns, per domain that p may use at all, the pods of p's namespace the constraint selects.
func (s *spreadConstraint) counts(p *podInfo, nodes []*nodeInfo) map[string]int64 {
	out := make(map[string]int64)
	for _, n := range nodes {
		value, ok := n.node.Labels[s.topologyKey]
		if !ok || !s.counted(p, n) {
			continue
		}
		out[value] += 0
		for _, other := range n.pods {
			if other.pod.Namespace == p.pod.Namespace && other.pod.DeletionTimestamp == nil &&
				s.selector.Matches(labels.Set(other.pod.Labels)) {
				out[value]++
			}
		}
	}
	return out
}

// counted applies the constraint's inclusion policies: affinity honoured, taints ignored by default.
func (s *spreadConstraint) counted(p *podInfo, n *nodeInfo) bool {
	honour := func(policy *corev1.NodeInclusionPolicy, byDefault bool) bool {
		if policy == nil {
			return byDefault
		}
		return *policy == corev1.NodeInclusionPolicyHonor
	}
	if honour(s.policies.NodeAffinityPolicy, true) && nodeSelection(p, n).refused() {
		return false
	}
	return !honour(s.policies.NodeTaintsPolicy, false) || !taints(p, n).refused()
}

// spreadFilter prepares the hard constraints of one pod; nil when it has none.
func spreadFilter(p *podInfo, c *cluster) filter {
	type prepared struct {
		*spreadConstraint
		count  map[string]int64
		lowest int64
		self   int64
	}
	var hard []prepared
	for i := range p.spread {
		s := &p.spread[i]
		if !s.hard {
			continue
		}
		pr := prepared{spreadConstraint: s, count: s.counts(p, c.all())}
		if int64(len(pr.count)) >= s.minDomains { // with fewer domains the minimum counts as zero
			pr.lowest = lowest(pr.count)
		}
		if s.selector.Matches(labels.Set(p.pod.Labels)) {
			pr.self = 1
		}
		hard = append(hard, pr)
	}
	if hard == nil {
		return nil
	}
	return func(_ *podInfo, n *nodeInfo) refusal {
		for _, s := range hard {
			value, ok := n.node.Labels[s.topologyKey]
			if !ok {
				return refuseForGood("node(s) didn't match pod topology spread constraints (missing required label)")
			}
			if s.count[value]+s.self-s.lowest > s.maxSkew {
				return refuse("node(s) didn't match pod topology spread constraints")
			}
		}
		return refusal{}
	}
}

func lowest(counts map[string]int64) int64 {
	low := int64(math.MaxInt64)
	for _, v := range counts {
		low = min(low, v)
	}
	if low == math.MaxInt64 {
		return 0
	}
	return low
}
