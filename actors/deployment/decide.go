package deployment

import (
	"cmp"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/utils/ptr"
)

// snapshot is what a decision depends on.
type snapshot struct {
	deployment *appsv1.Deployment
	sets       []*appsv1.ReplicaSet
	running    func(*appsv1.ReplicaSet) bool
	now        time.Time
}

// plan is one step: what to write, in this order.
type plan struct {
	// create is the set of a new template, nil when there is one already.
	create *appsv1.ReplicaSet
	// update are changes of sets.
	update []change
	// remove are sets beyond the history limit.
	remove []*appsv1.ReplicaSet
	// revision goes into the Deployment's annotation; "" leaves it.
	revision string
	status   appsv1.DeploymentStatus
	// after is when the progress deadline has to be looked at; 0 means not at all.
	after time.Duration
}

// change turns a set as it was seen into another.
type change struct{ from, to *appsv1.ReplicaSet }

// rollout is the work space of one decision.
type rollout struct {
	snapshot
	replicas           int32
	surge, unavailable int32
	current            *appsv1.ReplicaSet   // of the present template; nil when there is none
	old                []*appsv1.ReplicaSet // oldest first
	sizes              map[*appsv1.ReplicaSet]int32
	plan               plan
}

func decide(s snapshot) plan {
	r := newRollout(s)
	d := s.deployment
	switch {
	case d.DeletionTimestamp != nil:
		r.plan.status = r.count()
		return r.plan
	case d.Spec.Paused || r.resized():
		r.resize()
		if d.Spec.Paused {
			r.forget()
		}
		r.finish()
		r.plan.status = r.count()
		setPaused(d, &r.plan.status, s.now)
		return r.plan
	case d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		r.recreate()
	default:
		r.roll()
	}
	r.finish()
	r.plan.status = r.count()
	setPaused(d, &r.plan.status, s.now)
	r.plan.after = r.progress(&r.plan.status)
	if complete(d, &r.plan.status) {
		r.forget()
	}
	return r.plan
}

func newRollout(s snapshot) *rollout {
	d := s.deployment
	r := &rollout{snapshot: s, replicas: ptr.Deref(d.Spec.Replicas, 1), sizes: make(map[*appsv1.ReplicaSet]int32)}
	r.surge, r.unavailable = limits(d)
	slices.SortFunc(r.sets, older)
	for _, rs := range r.sets {
		if r.current == nil && sameTemplate(&d.Spec.Template, &rs.Spec.Template) {
			r.current = rs
		} else {
			r.old = append(r.old, rs)
		}
	}
	return r
}

// size is how many replicas a set is to have, as decided so far.
func (r *rollout) size(rs *appsv1.ReplicaSet) int32 {
	if n, ok := r.sizes[rs]; ok {
		return n
	}
	return ptr.Deref(rs.Spec.Replicas, 1)
}

func (r *rollout) total(sets []*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += r.size(rs)
	}
	return n
}

func (r *rollout) active(sets []*appsv1.ReplicaSet) (out []*appsv1.ReplicaSet) {
	for _, rs := range sets {
		if r.size(rs) > 0 {
			out = append(out, rs)
		}
	}
	return out
}

// recreate empties the old sets, waits for their pods to be gone, then fills the new one.
func (r *rollout) recreate() {
	if active := r.active(r.old); len(active) > 0 {
		for _, rs := range active {
			r.sizes[rs] = 0
		}
		return
	}
	if slices.ContainsFunc(r.old, r.running) {
		return
	}
	if r.current == nil {
		r.create(r.replicas)
		return
	}
	r.sizes[r.current] = r.replicas
}

// roll grows the new set first, and when it cannot grow shrinks the old ones.
func (r *rollout) roll() {
	room := r.replicas + r.surge - r.total(r.sets)
	if r.current == nil {
		r.create(max(0, min(room, r.replicas)))
		return
	}
	switch have := r.size(r.current); {
	case have > r.replicas:
		r.sizes[r.current] = r.replicas
		return
	case have < r.replicas && room > 0:
		r.sizes[r.current] = have + min(room, r.replicas-have)
		return
	}
	r.shrink()
}

// shrink takes replicas off the old sets: those that are not available anyway first, then as many
// as the least number of available pods allows.
func (r *rollout) shrink() {
	least := r.replicas - r.unavailable
	budget := r.total(r.old) + r.available(r.current) - least
	for _, rs := range r.old {
		n := min(r.size(rs)-r.available(rs), budget)
		if n > 0 {
			r.sizes[rs] = r.size(rs) - n
			budget -= n
		}
	}
	spare := -least
	for _, rs := range r.sets {
		spare += r.available(rs)
	}
	for _, rs := range r.old {
		if n := min(r.size(rs), spare); n > 0 {
			r.sizes[rs] = r.size(rs) - n
			spare -= n
		}
	}
}

// available is how many of a set's pods can be counted on: what its status reports beyond its size
// is on its way out.
func (r *rollout) available(rs *appsv1.ReplicaSet) int32 {
	return min(rs.Status.AvailableReplicas, r.size(rs))
}

// create plans the set of the present template.
func (r *rollout) create(replicas int32) {
	r.plan.create = newSet(r.deployment, replicas, r.surge, maxRevision(r.old)+1)
	r.plan.revision = r.plan.create.Annotations[revisionAnnotation]
}

// finish turns sizes and what else a set should say into changes.
func (r *rollout) finish() {
	for _, rs := range r.sets {
		next := rs.DeepCopy()
		next.Spec.Replicas = ptr.To(r.size(rs))
		if _, resized := r.sizes[rs]; resized {
			annotateSize(next, r.replicas, r.surge)
		}
		if rs == r.current {
			next.Spec.MinReadySeconds = r.deployment.Spec.MinReadySeconds
			annotateRevision(r.deployment, next, maxRevision(r.old)+1)
			r.plan.revision = next.Annotations[revisionAnnotation]
		}
		if *next.Spec.Replicas != ptr.Deref(rs.Spec.Replicas, 1) || next.Spec.MinReadySeconds != rs.Spec.MinReadySeconds ||
			!maps.Equal(next.Annotations, rs.Annotations) {
			r.plan.update = append(r.plan.update, change{rs, next})
		}
	}
}

// forget plans the removal of old, empty sets beyond the history limit.
func (r *rollout) forget() {
	limit := r.deployment.Spec.RevisionHistoryLimit
	if limit == nil {
		return
	}
	var empty []*appsv1.ReplicaSet
	for _, rs := range r.old {
		if rs.DeletionTimestamp == nil && r.size(rs) == 0 && rs.Status.Replicas == 0 && rs.Status.ObservedGeneration >= rs.Generation {
			empty = append(empty, rs)
		}
	}
	slices.SortStableFunc(empty, func(a, b *appsv1.ReplicaSet) int { return cmp.Compare(revisionOf(a), revisionOf(b)) })
	if extra := len(r.old) - int(*limit); extra > 0 {
		r.plan.remove = empty[:min(extra, len(empty))]
	}
}

// sameTemplate compares templates without the label that tells their sets apart.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	return equality.Semantic.DeepEqual(withoutHash(a), withoutHash(b))
}

func withoutHash(t *corev1.PodTemplateSpec) *corev1.PodTemplateSpec {
	if _, ok := t.Labels[appsv1.DefaultDeploymentUniqueLabelKey]; !ok {
		return t
	}
	out := *t
	out.Labels = maps.Clone(t.Labels)
	delete(out.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	return &out
}

func older(a, b *appsv1.ReplicaSet) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}
