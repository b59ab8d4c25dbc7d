package scheduler

import (
	"cmp"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Why nobody makes room for a pod, in kube-scheduler's words.
const (
	preemptsNever   = "not eligible due to preemptionPolicy=Never."
	preemptsAlready = "not eligible due to a terminating pod on the nominated node."
	noVictims       = "No preemption victims found for incoming pod"
	notHelpful      = "Preemption is not helpful for scheduling"
)

// eviction is how room is made for a pod: which pods must leave which node.
type eviction struct {
	node     string
	victims  []*podInfo // the most important first
	violated int        // how many of them a disruption budget protects
}

// preempt chooses pods of lower priority whose end lets p fit a node, as kube-scheduler's
// DefaultPreemption does: it spares what disruption budgets protect if it can, then takes the pods
// of the lowest priority, and as few as possible. Without a choice, why says why in its words.
func preempt(p *podInfo, c *cluster, bad *misfit, budgets []*policyv1.PodDisruptionBudget) (choice *eviction, why string) {
	if policy := p.pod.Spec.PreemptionPolicy; policy != nil && *policy == corev1.PreemptNever {
		return nil, preemptsNever
	}
	if m, ok := c.nominated[p.pod.UID]; ok && leaves(p, c.nodes[m.node]) {
		return nil, preemptsAlready
	}
	left := max(bad.nodes/10, 100) // so many choices are compared at most
	for _, n := range bad.open {
		e := victimsOn(n, p, c, budgets)
		if e == nil {
			continue
		}
		if choice == nil || better(e, choice) {
			choice = e
		}
		if left--; left == 0 {
			break
		}
	}
	if choice != nil {
		return choice, ""
	}
	if bad.nodes == 0 {
		return nil, "0/0 nodes are available: ."
	}
	none := misfit{nodes: bad.nodes, reasons: make(map[string]int)}
	if tried := len(bad.open); tried > 0 {
		none.reasons[noVictims] = tried
	}
	if untried := bad.nodes - len(bad.open); untried > 0 {
		none.reasons[notHelpful] = untried
	}
	return nil, none.String()
}

// leaves says whether a pod that p outranks is on its way out of a node.
func leaves(p *podInfo, n *nodeInfo) bool {
	if n == nil {
		return false
	}
	for _, o := range n.pods {
		if o.pod.DeletionTimestamp != nil && o.priority < p.priority {
			return true
		}
	}
	return false
}

// victimsOn returns the pods that must leave a node so that p fits, nil if none would do. The
// picture is as before when it returns.
func victimsOn(n *nodeInfo, p *podInfo, c *cluster, budgets []*policyv1.PodDisruptionBudget) *eviction {
	if !c.outranks(p) {
		return nil
	}
	name := n.node.Name
	var lower []*podInfo
	for _, o := range n.pods {
		if o.priority < p.priority {
			lower = append(lower, o)
		}
	}
	if undo := c.promise(p); undo != nil {
		defer undo()
	}
	for _, o := range lower {
		c.remove(o.pod.UID)
	}
	defer func() {
		for _, o := range lower {
			c.put(name, o)
		}
	}()
	fits := func() bool { return !prepare(p, c).check(p, n).refused() }
	if len(lower) == 0 || !fits() {
		return nil
	}
	slices.SortFunc(lower, moreImportant)
	guarded, free := split(lower, budgets)
	out := &eviction{node: name}
	for i, o := range append(guarded, free...) { // those that may stay do, the guarded ones first
		c.put(name, o)
		if fits() {
			continue
		}
		c.remove(o.pod.UID)
		out.victims = append(out.victims, o)
		if i < len(guarded) {
			out.violated++
		}
	}
	slices.SortFunc(out.victims, moreImportant)
	return out
}

// outranks says whether any placed pod has a lower priority than p.
func (c *cluster) outranks(p *podInfo) bool {
	for priority := range c.priorities {
		if priority < p.priority {
			return true
		}
	}
	return false
}

// moreImportant orders pods by priority, then by how long they have run.
func moreImportant(a, b *podInfo) int {
	if d := cmp.Compare(b.priority, a.priority); d != 0 {
		return d
	}
	return startOf(a).Compare(startOf(b))
}

// startOf is when a pod was started; one that was not is the youngest.
func startOf(p *podInfo) time.Time {
	if s := p.pod.Status.StartTime; s != nil {
		return s.Time
	}
	return time.Unix(math.MaxInt32, 0)
}

// split tells the pods whose end would violate a disruption budget from the others. What budgets
// allow is used up in the order given.
func split(pods []*podInfo, budgets []*policyv1.PodDisruptionBudget) (guarded, free []*podInfo) {
	allowed := make([]int32, len(budgets))
	selectors := make([]labels.Selector, len(budgets))
	for i, b := range budgets {
		allowed[i] = b.Status.DisruptionsAllowed
		s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil || s.Empty() {
			s = labels.Nothing()
		}
		selectors[i] = s
	}
	for _, p := range pods {
		violates := false
		for i, b := range budgets {
			if _, counted := b.Status.DisruptedPods[p.pod.Name]; counted ||
				b.Namespace != p.pod.Namespace || !selectors[i].Matches(labels.Set(p.pod.Labels)) {
				continue
			}
			allowed[i]--
			violates = violates || allowed[i] < 0
		}
		if violates {
			guarded = append(guarded, p)
		} else {
			free = append(free, p)
		}
	}
	return guarded, free
}

// better says whether evicting a hurts less than evicting b.
func better(a, b *eviction) bool {
	return cmp.Or(
		cmp.Compare(a.violated, b.violated),
		cmp.Compare(highest(a), highest(b)),
		cmp.Compare(sum(a), sum(b)),
		cmp.Compare(len(a.victims), len(b.victims)),
		-earliest(a).Compare(earliest(b)),
	) < 0
}

func highest(e *eviction) int32 {
	if len(e.victims) == 0 {
		return math.MinInt32
	}
	return e.victims[0].priority
}

// sum adds the priorities up, moved so that none is negative: more pods always weigh more.
func sum(e *eviction) (total int64) {
	for _, v := range e.victims {
		total += int64(v.priority) + math.MaxInt32 + 1
	}
	return total
}

// earliest is when the first of the most important victims was started.
func earliest(e *eviction) time.Time {
	if len(e.victims) == 0 {
		return time.Time{}
	}
	return startOf(e.victims[0])
}
