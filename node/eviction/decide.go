package eviction

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Rules are when and how a node reacts.
type Rules struct {
	// Thresholds are checked in this order, memory first. None means that nothing is ever evicted.
	Thresholds []Threshold
	// Transition is for how long after it was last seen a condition stays.
	Transition time.Duration
}

// Snapshot is what a decision is made of. It is made anew, with more in it, when a [Plan] asks for
// more.
type Snapshot struct {
	Signals Signals
	// ImageDisk says that images have a disk of their own.
	ImageDisk bool
	// Reclaimed says that what nobody uses has just been removed.
	Reclaimed bool
	// Measured says that Pods are known.
	Measured bool
	// Pods are those that run.
	Pods []Pod
}

// State is what is remembered between two looks: when each condition was last seen.
type State map[corev1.NodeConditionType]time.Time

// Plan is what to do now. At most one of Reclaim, Measure and Victim is set.
type Plan struct {
	// Conditions the node has, in alphabetical order.
	Conditions []corev1.NodeConditionType
	// Starved is what there is too little of, empty when there is enough of everything.
	Starved corev1.ResourceName
	// Reclaim asks to remove what nobody uses and to look again.
	Reclaim bool
	// Measure asks what the pods use.
	Measure bool
	// Victim is the pod to end.
	Victim *Victim
}

// Victim is a pod that has to end, with the reason as it is shown to users.
type Victim struct {
	Pod     *corev1.Pod
	Message string
}

// Decide says what to do about a snapshot. It changes nothing; the state it returns is for the
// next look.
func (r Rules) Decide(s State, in Snapshot, now time.Time) (State, Plan) {
	crossed := r.crossed(in.Signals)
	s = maps.Clone(s)
	if s == nil {
		s = State{}
	}
	for _, t := range crossed {
		s[signals[t.Signal].condition] = now
	}
	var plan Plan
	for c, seen := range s {
		if now.Sub(seen) < r.Transition || seen.Equal(now) {
			plan.Conditions = append(plan.Conditions, c)
		} else {
			delete(s, c)
		}
	}
	slices.Sort(plan.Conditions)
	if len(crossed) == 0 {
		return s, plan
	}
	first := crossed[0]
	plan.Starved = signals[first.Signal].resource
	switch {
	case !in.Reclaimed && reclaimable(first.Signal, in.ImageDisk):
		plan.Reclaim = true
	case !in.Measured:
		plan.Measure = true
	default:
		if p := worst(first.Signal, in.Pods, in.ImageDisk); p != nil {
			plan.Victim = &Victim{p.Pod, message(plan.Starved, first, in.Signals[first.Signal], p)}
		}
	}
	return s, plan
}

// crossed lists the thresholds below which the node is, the most urgent first: without memory
// nothing goes on.
func (r Rules) crossed(all Signals) []Threshold {
	var out []Threshold
	for _, t := range r.Thresholds {
		if a, measured := all[t.Signal]; measured && t.crossed(a) {
			out = append(out, t)
		}
	}
	slices.SortStableFunc(out, func(a, b Threshold) int { return first(a.Signal == MemoryAvailable, b.Signal == MemoryAvailable) })
	return out
}

// reclaimable says whether removing what nobody uses helps: it is on the disk of images.
func reclaimable(s Signal, imageDisk bool) bool {
	return signals[s].disk && (!imageDisk || s.image())
}

// first orders what is true before what is not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}
