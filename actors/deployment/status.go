package deployment

import (
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// count returns the status by the sets as they are, with the Available and ReplicaFailure
// conditions brought up to date and the others as they were.
func (r *rollout) count() appsv1.DeploymentStatus {
	d := r.deployment
	out := appsv1.DeploymentStatus{
		ObservedGeneration:  d.Generation,
		CollisionCount:      d.Status.CollisionCount,
		Conditions:          slices.Clone(d.Status.Conditions),
		TerminatingReplicas: ptr.To[int32](0),
	}
	var wanted int32
	for _, rs := range r.sets {
		wanted += ptr.Deref(rs.Spec.Replicas, 1)
		out.Replicas += rs.Status.Replicas
		out.ReadyReplicas += rs.Status.ReadyReplicas
		out.AvailableReplicas += rs.Status.AvailableReplicas
		switch {
		case rs.Status.TerminatingReplicas == nil:
			out.TerminatingReplicas = nil
		case out.TerminatingReplicas != nil:
			*out.TerminatingReplicas += *rs.Status.TerminatingReplicas
		}
	}
	if r.plan.create != nil {
		wanted += *r.plan.create.Spec.Replicas
	}
	if r.current != nil {
		out.UpdatedReplicas = r.current.Status.Replicas
	}
	out.UnavailableReplicas = max(0, wanted-out.AvailableReplicas)
	if out.AvailableReplicas >= r.replicas-r.unavailable {
		setCondition(&out, appsv1.DeploymentAvailable, corev1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability.", r.now)
	} else {
		setCondition(&out, appsv1.DeploymentAvailable, corev1.ConditionFalse, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.", r.now)
	}
	if f := r.failure(); f != nil {
		setCondition(&out, appsv1.DeploymentReplicaFailure, f.Status, f.Reason, f.Message, r.now)
	} else {
		out.Conditions = without(out.Conditions, appsv1.DeploymentReplicaFailure)
	}
	return out
}

// failure is the ReplicaFailure condition of the new set or, when it has none, of another one.
func (r *rollout) failure() *appsv1.ReplicaSetCondition {
	sets := r.old
	if r.current != nil {
		sets = append([]*appsv1.ReplicaSet{r.current}, sets...)
	}
	for _, rs := range sets {
		for i, c := range rs.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
				return &rs.Status.Conditions[i]
			}
		}
	}
	return nil
}

// progress brings the Progressing condition up to date and returns when to look again.
func (r *rollout) progress(status *appsv1.DeploymentStatus) time.Duration {
	d := r.deployment
	limit, limited := deadline(d)
	if !limited {
		status.Conditions = without(status.Conditions, appsv1.DeploymentProgressing)
		return 0
	}
	what := fmt.Sprintf("Deployment %q", d.Name)
	if r.current != nil {
		what = fmt.Sprintf("ReplicaSet %q", r.current.Name)
	}
	set := func(s corev1.ConditionStatus, reason, message string) {
		setCondition(status, appsv1.DeploymentProgressing, s, reason, message, r.now)
	}
	was := condition(status, appsv1.DeploymentProgressing)
	switch {
	case r.plan.create != nil:
		set(corev1.ConditionTrue, "NewReplicaSetCreated", fmt.Sprintf("Created new replica set %q", r.plan.create.Name))
	case status.Replicas == status.UpdatedReplicas && was != nil && was.Reason == "NewReplicaSetAvailable":
		return 0 // done once: that pods come and go is not the rollout's
	case complete(d, status):
		set(corev1.ConditionTrue, "NewReplicaSetAvailable", what+" has successfully progressed.")
		return 0
	case moved(&d.Status, status):
		refresh(status, what+" is progressing.", r.now)
	case was == nil && r.current != nil:
		set(corev1.ConditionTrue, "FoundNewReplicaSet", fmt.Sprintf("Found new replica set %q", r.current.Name))
	case was != nil && was.Reason != "NewReplicaSetAvailable" && was.Reason != "ProgressDeadlineExceeded" && !r.now.Before(was.LastUpdateTime.Add(limit)):
		set(corev1.ConditionFalse, "ProgressDeadlineExceeded", what+" has timed out progressing.")
		return 0
	}
	now := condition(status, appsv1.DeploymentProgressing)
	if now == nil || now.Reason == "ProgressDeadlineExceeded" || now.Reason == "NewReplicaSetAvailable" {
		return 0
	}
	return max(now.LastUpdateTime.Add(limit).Sub(r.now), time.Millisecond)
}

func deadline(d *appsv1.Deployment) (time.Duration, bool) {
	s := d.Spec.ProgressDeadlineSeconds
	if s == nil || *s == math.MaxInt32 {
		return 0, false
	}
	return time.Duration(*s) * time.Second, true
}

// setPaused notes in the Progressing condition that a rollout was paused or goes on.
func setPaused(d *appsv1.Deployment, status *appsv1.DeploymentStatus, now time.Time) {
	if _, limited := deadline(d); !limited {
		return
	}
	c := condition(status, appsv1.DeploymentProgressing)
	if c != nil && c.Reason == "ProgressDeadlineExceeded" {
		return
	}
	paused := c != nil && c.Reason == "DeploymentPaused"
	switch {
	case d.Spec.Paused && !paused:
		setCondition(status, appsv1.DeploymentProgressing, corev1.ConditionUnknown, "DeploymentPaused", "Deployment is paused", now)
	case !d.Spec.Paused && paused:
		setCondition(status, appsv1.DeploymentProgressing, corev1.ConditionUnknown, "DeploymentResumed", "Deployment is resumed", now)
	}
}

// complete says that all replicas are of the new set and available, and no old one is left.
func complete(d *appsv1.Deployment, s *appsv1.DeploymentStatus) bool {
	n := ptr.Deref(d.Spec.Replicas, 1)
	return s.UpdatedReplicas == n && s.Replicas == n && s.AvailableReplicas == n && s.ObservedGeneration >= d.Generation
}

// moved says that a rollout got on between two statuses.
func moved(a, b *appsv1.DeploymentStatus) bool {
	return b.UpdatedReplicas > a.UpdatedReplicas || b.Replicas-b.UpdatedReplicas < a.Replicas-a.UpdatedReplicas ||
		b.ReadyReplicas > a.ReadyReplicas || b.AvailableReplicas > a.AvailableReplicas
}

func condition(s *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == t {
			return &s.Conditions[i]
		}
	}
	return nil
}

// setCondition leaves a condition with the same status and reason alone.
func setCondition(s *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType, is corev1.ConditionStatus, reason, message string, now time.Time) {
	at := metav1.NewTime(now)
	next := appsv1.DeploymentCondition{Type: t, Status: is, Reason: reason, Message: message, LastUpdateTime: at, LastTransitionTime: at}
	if was := condition(s, t); was != nil {
		if was.Status == is && was.Reason == reason {
			return
		}
		if was.Status == is {
			next.LastTransitionTime = was.LastTransitionTime
		}
	}
	s.Conditions = append(without(s.Conditions, t), next)
}

// refresh renews the Progressing condition, so that the deadline counts from the last movement.
func refresh(s *appsv1.DeploymentStatus, message string, now time.Time) {
	var since metav1.Time
	if was := condition(s, appsv1.DeploymentProgressing); was != nil && was.Status == corev1.ConditionTrue {
		since = was.LastTransitionTime
	}
	s.Conditions = without(s.Conditions, appsv1.DeploymentProgressing)
	setCondition(s, appsv1.DeploymentProgressing, corev1.ConditionTrue, "ReplicaSetUpdated", message, now)
	if !since.IsZero() {
		condition(s, appsv1.DeploymentProgressing).LastTransitionTime = since
	}
}

func without(list []appsv1.DeploymentCondition, t appsv1.DeploymentConditionType) []appsv1.DeploymentCondition {
	return slices.DeleteFunc(slices.Clone(list), func(c appsv1.DeploymentCondition) bool { return c.Type == t })
}
