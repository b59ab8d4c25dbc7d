package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// podAffinity is a pod's affinity to other pods, parsed.
type podAffinity struct {
	near, apart             []affinityTerm
	prefersNear, prefersFar []affinityTerm
}

// affinityTerm matches other pods within one topology domain.
type affinityTerm struct {
	topologyKey string
	selector    labels.Selector
	namespaces  map[string]bool
	spaces      labels.Selector // of further namespaces by their labels; nil selects none
	weight      int64
}

// guards says whether a pod refuses others beside it.
func (a *podAffinity) guards() bool { return len(a.apart) > 0 }

// attracts says whether a pod's wishes count for others that want a place.
func (a *podAffinity) attracts() bool {
	return len(a.near)+len(a.prefersNear)+len(a.prefersFar) > 0
}

func newPodAffinity(pod *corev1.Pod) podAffinity {
	var out podAffinity
	if pod.Spec.Affinity == nil {
		return out
	}
	if a := pod.Spec.Affinity.PodAffinity; a != nil {
		out.near = affinityTerms(pod, a.RequiredDuringSchedulingIgnoredDuringExecution)
		out.prefersNear = weightedTerms(pod, a.PreferredDuringSchedulingIgnoredDuringExecution, 1)
	}
	if a := pod.Spec.Affinity.PodAntiAffinity; a != nil {
		out.apart = affinityTerms(pod, a.RequiredDuringSchedulingIgnoredDuringExecution)
		out.prefersFar = weightedTerms(pod, a.PreferredDuringSchedulingIgnoredDuringExecution, -1)
	}
	return out
}

func affinityTerms(pod *corev1.Pod, terms []corev1.PodAffinityTerm) []affinityTerm {
	out := make([]affinityTerm, 0, len(terms))
	for i := range terms {
		out = append(out, newAffinityTerm(pod, &terms[i], 0))
	}
	return out
}

func weightedTerms(pod *corev1.Pod, terms []corev1.WeightedPodAffinityTerm, sign int64) []affinityTerm {
	out := make([]affinityTerm, 0, len(terms))
	for i := range terms {
		out = append(out, newAffinityTerm(pod, &terms[i].PodAffinityTerm, sign*int64(terms[i].Weight)))
	}
	return out
}

func newAffinityTerm(pod *corev1.Pod, t *corev1.PodAffinityTerm, weight int64) affinityTerm {
	out := affinityTerm{topologyKey: t.TopologyKey, weight: weight, namespaces: make(map[string]bool)}
	out.selector = selectorWithKeys(t.LabelSelector, pod.Labels, t.MatchLabelKeys, t.MismatchLabelKeys)
	for _, ns := range t.Namespaces {
		out.namespaces[ns] = true
	}
	switch {
	case t.NamespaceSelector != nil:
		out.spaces = selectorWithKeys(t.NamespaceSelector, nil, nil, nil)
	case len(t.Namespaces) == 0:
		out.namespaces[pod.Namespace] = true
	}
	return out
}

// selectorWithKeys joins a selector with the pod's own values of the keys to match or mismatch.
func selectorWithKeys(s *metav1.LabelSelector, own map[string]string, match, mismatch []string) labels.Selector {
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	add := func(keys []string, not bool) {
		for _, k := range keys {
			v, ok := own[k]
			if !ok {
				continue
			}
			for _, r := range requirement(k, v, not) {
				sel = sel.Add(r)
			}
		}
	}
	add(match, false)
	add(mismatch, true)
	return sel
}

func requirement(key, value string, not bool) labels.Requirements {
	s := labels.Set{key: value}.AsSelector()
	if not {
		s, _ = labels.Parse(key + "!=" + value)
	}
	r, _ := s.Requirements()
	return r
}

func (t *affinityTerm) matches(pod *corev1.Pod, c *cluster) bool {
	if !t.namespaces[pod.Namespace] && (t.spaces == nil || !t.spaces.Matches(c.namespaces[pod.Namespace])) {
		return false
	}
	return t.selector.Matches(labels.Set(pod.Labels))
}

// domains counts, per value of the term's topology key, the pods the term matches.
func (t *affinityTerm) domains(c *cluster) map[string]int64 {
	out := make(map[string]int64)
	for _, n := range c.all() {
		value, ok := n.node.Labels[t.topologyKey]
		if !ok {
			continue
		}
		for _, p := range n.pods {
			if t.matches(p.pod, c) {
				out[value]++
			}
		}
	}
	return out
}

// podAffinityFilter prepares the inter-pod affinity filter for one pod; nil when nothing is to check.
func podAffinityFilter(p *podInfo, c *cluster) filter {
	a := &p.affinity
	if len(a.near) == 0 && len(a.apart) == 0 && c.guarded == 0 {
		return nil
	}
	near, apart := countAll(a.near, c), countAll(a.apart, c)
	refused := refusedBy(p, c)
	first := firstOfItsKind(p, c, near)
	return func(_ *podInfo, n *nodeInfo) refusal {
		for i, t := range a.near {
			value, ok := n.node.Labels[t.topologyKey]
			if !ok || near[i][value] == 0 && !first {
				return refuseForGood("node(s) didn't match pod affinity rules")
			}
		}
		for i, t := range a.apart {
			if value, ok := n.node.Labels[t.topologyKey]; ok && apart[i][value] > 0 {
				return refuse("node(s) didn't match pod anti-affinity rules")
			}
		}
		for key, values := range refused {
			if value, ok := n.node.Labels[key]; ok && values[value] {
				return refuse("node(s) didn't satisfy existing pods anti-affinity rules")
			}
		}
		return refusal{}
	}
}

func countAll(terms []affinityTerm, c *cluster) []map[string]int64 {
	out := make([]map[string]int64, len(terms))
	for i := range terms {
		out[i] = terms[i].domains(c)
	}
	return out
}

// firstOfItsKind lets the first pod of a group that wants to be near itself start somewhere.
func firstOfItsKind(p *podInfo, c *cluster, near []map[string]int64) bool {
	for i, t := range p.affinity.near {
		if len(near[i]) > 0 || !t.matches(p.pod, c) {
			return false
		}
	}
	return true
}

// refusedBy collects the domains, by topology key, where a present pod refuses p beside it.
func refusedBy(p *podInfo, c *cluster) map[string]map[string]bool {
	if c.guarded == 0 {
		return nil
	}
	out := make(map[string]map[string]bool)
	for _, n := range c.all() {
		if n.guarded == 0 {
			continue
		}
		for _, other := range n.pods {
			for i := range other.affinity.apart {
				t := &other.affinity.apart[i]
				value, ok := n.node.Labels[t.topologyKey]
				if !ok || !t.matches(p.pod, c) {
					continue
				}
				if out[t.topologyKey] == nil {
					out[t.topologyKey] = make(map[string]bool)
				}
				out[t.topologyKey][value] = true
			}
		}
	}
	return out
}
