package deployment

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// limits resolves maxSurge (rounded up) and maxUnavailable (rounded down, at most all). Both are
// never 0: a rollout could not move.
func limits(d *appsv1.Deployment) (surge, unavailable int32) {
	replicas := ptr.Deref(d.Spec.Replicas, 1)
	u := d.Spec.Strategy.RollingUpdate
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return 0, 0
	}
	if u == nil {
		u = &appsv1.RollingUpdateDeployment{}
	}
	surge = scaled(u.MaxSurge, replicas, true)
	unavailable = scaled(u.MaxUnavailable, replicas, false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, min(unavailable, replicas)
}

// scaled is a number, or a percentage of total; Kubernetes' default of both limits is a quarter.
func scaled(v *intstr.IntOrString, total int32, up bool) int32 {
	n, err := intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(v, intstr.FromString("25%")), int(total), up)
	if err != nil {
		return 0 // the API server refuses what cannot be read
	}
	return int32(n)
}

// resized says that spec.replicas changed since the active sets were last given their sizes. Where
// several are active under the Recreate strategy the rollout itself settles that.
func (r *rollout) resized() bool {
	active := r.active(r.sets)
	if len(active) > 1 && r.deployment.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return false
	}
	for _, rs := range active {
		if n, ok := annotated(rs, desiredAnnotation); ok && n != r.replicas {
			return true
		}
	}
	return false
}

// resize changes the total to what spec.replicas asks for without moving the rollout on: the one
// active set gets all of it, several share the difference by their size.
func (r *rollout) resize() {
	if one := r.activeOrLatest(); one != nil {
		r.sizes[one] = r.replicas
		return
	}
	if r.saturated() {
		for _, rs := range r.active(r.old) {
			r.sizes[rs] = 0
		}
		return
	}
	active := r.active(r.sets)
	if len(active) == 0 || r.deployment.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return
	}
	var allowed int32
	if r.replicas > 0 {
		allowed = r.replicas + r.surge
	}
	toAdd := allowed - r.total(active)
	slices.SortStableFunc(active, func(a, b *appsv1.ReplicaSet) int {
		if toAdd > 0 {
			return cmp.Or(cmp.Compare(r.size(b), r.size(a)), older(b, a))
		}
		return cmp.Or(cmp.Compare(r.size(b), r.size(a)), older(a, b))
	})
	var added int32
	for _, rs := range active {
		share := r.share(rs)
		if toAdd > 0 {
			share = max(0, min(share, toAdd-added))
		} else {
			share = min(0, max(share, toAdd-added))
		}
		r.sizes[rs] = r.size(rs) + share
		added += share
	}
	r.sizes[active[0]] = max(0, r.size(active[0])+toAdd-added) // what rounding left over
}

// share is how much a set should grow for its part of the total to stay the same.
func (r *rollout) share(rs *appsv1.ReplicaSet) int32 {
	size := r.size(rs)
	if r.replicas == 0 {
		return -size
	}
	was, ok := annotated(rs, maxAnnotation)
	if !ok || was <= 0 {
		was = r.deployment.Status.Replicas
	}
	if was <= 0 {
		return 0
	}
	return int32(math.Round(float64(size)*float64(r.replicas+r.surge)/float64(was))) - size
}

// activeOrLatest is the only active set, or the latest when none is; nil when several are.
func (r *rollout) activeOrLatest() *appsv1.ReplicaSet {
	switch active := r.active(r.sets); {
	case len(active) == 1:
		return active[0]
	case len(active) > 1:
		return nil
	case r.current != nil:
		return r.current
	case len(r.old) > 0:
		return r.old[len(r.old)-1]
	}
	return nil
}

// saturated says that the new set alone is all that is asked for, and available.
func (r *rollout) saturated() bool {
	if r.current == nil {
		return false
	}
	n, ok := annotated(r.current, desiredAnnotation)
	return ok && n == r.replicas && r.size(r.current) == r.replicas && r.current.Status.AvailableReplicas == r.replicas
}

func annotated(rs *appsv1.ReplicaSet, key string) (int32, bool) {
	n, err := strconv.ParseInt(rs.Annotations[key], 10, 32)
	return int32(n), err == nil
}
