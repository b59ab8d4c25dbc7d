package deployment

import (
	"context"
	"fmt"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// act carries out a plan. The status is written last, and also when something before failed.
func (s *deployments) act(ctx context.Context, key messages.Key, d *appsv1.Deployment, p plan) (controller.Result, error) {
	failed := s.create(ctx, d, &p)
	for _, c := range p.update {
		if failed == nil {
			failed = s.update(ctx, d, c)
		}
	}
	for _, rs := range p.remove {
		if failed == nil {
			failed = s.remove(ctx, rs)
		}
	}
	if failed == nil {
		failed = s.annotate(ctx, key, d, p.revision)
	}
	if err := s.report(ctx, key, d, p.status); err != nil {
		return controller.Result{}, err
	}
	return controller.Result{After: p.after}, failed
}

// create makes the new set. A name taken by something else is a collision: the next pass hashes
// with another count.
func (s *deployments) create(ctx context.Context, d *appsv1.Deployment, p *plan) error {
	rs := p.create
	if rs == nil {
		return nil
	}
	_, err := s.Writer.Create(ctx, rs)
	switch {
	case err == nil:
		if n := *rs.Spec.Replicas; n > 0 {
			s.scaled(d, rs.Name, 0, n)
		}
		return nil
	case apierrors.IsAlreadyExists(err):
		if have, ok := objects.Get[*appsv1.ReplicaSet](s.Reader, setKey(rs)); ok && metav1.IsControlledBy(have, d) && sameTemplate(&have.Spec.Template, &d.Spec.Template) {
			return nil
		}
		p.status.CollisionCount = ptr.To(ptr.Deref(d.Status.CollisionCount, 0) + 1)
		return fmt.Errorf("create %s: %w", setKey(rs), err)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil // the Deployment is about to go as well
	}
	message := fmt.Sprintf("Failed to create new replica set %q: %v", rs.Name, err)
	if _, limited := deadline(d); limited {
		p.status.Conditions = d.Status.Conditions
		setCondition(&p.status, appsv1.DeploymentProgressing, corev1.ConditionFalse, "ReplicaSetCreateError", message, s.Clock.Now())
	}
	s.Recorder.Event(d, corev1.EventTypeWarning, "ReplicaSetCreateError", message)
	return fmt.Errorf("create %s: %w", setKey(rs), err)
}

// update gives a set its size and annotations, unless somebody else changed its size meanwhile.
func (s *deployments) update(ctx context.Context, d *appsv1.Deployment, c change) error {
	from, to := ptr.Deref(c.from.Spec.Replicas, 1), *c.to.Spec.Replicas
	_, err := s.Writer.Mutate(ctx, setKey(c.from), "", func(o objects.Object) (objects.Object, error) {
		rs := o.(*appsv1.ReplicaSet)
		if rs.UID != c.from.UID || ptr.Deref(rs.Spec.Replicas, 1) != from {
			return nil, apierrors.NewConflict(appsv1.Resource("replicasets"), rs.Name, fmt.Errorf("changed since it was read"))
		}
		rs.Spec.Replicas, rs.Spec.MinReadySeconds, rs.Annotations = &to, c.to.Spec.MinReadySeconds, maps.Clone(c.to.Annotations)
		return rs, nil
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("update %s: %w", setKey(c.from), err)
	}
	if from != to {
		s.scaled(d, c.from.Name, from, to)
	}
	return nil
}

func (s *deployments) scaled(d *appsv1.Deployment, set string, from, to int32) {
	direction := "up"
	if to < from {
		direction = "down"
	}
	s.Recorder.Event(d, corev1.EventTypeNormal, "ScalingReplicaSet", fmt.Sprintf("Scaled %s replica set %s from %d to %d", direction, set, from, to))
}

func (s *deployments) remove(ctx context.Context, rs *appsv1.ReplicaSet) error {
	background := metav1.DeletePropagationBackground
	err := s.Writer.Delete(ctx, setKey(rs), metav1.DeleteOptions{
		PropagationPolicy: &background,
		Preconditions:     &metav1.Preconditions{UID: &rs.UID, ResourceVersion: &rs.ResourceVersion},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove %s: %w", setKey(rs), err)
	}
	return nil
}

func (s *deployments) annotate(ctx context.Context, key messages.Key, d *appsv1.Deployment, revision string) error {
	if revision == "" || d.Annotations[revisionAnnotation] == revision {
		return nil
	}
	_, err := s.Writer.Mutate(ctx, key, "", func(o objects.Object) (objects.Object, error) {
		if o.GetUID() == d.UID {
			a := cloned(o.GetAnnotations())
			a[revisionAnnotation] = revision
			o.SetAnnotations(a)
		}
		return o, nil
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("annotate %s: %w", key, err)
	}
	return nil
}

func (s *deployments) report(ctx context.Context, key messages.Key, d *appsv1.Deployment, status appsv1.DeploymentStatus) error {
	if equality.Semantic.DeepEqual(d.Status, status) {
		return nil
	}
	_, err := s.Writer.Mutate(ctx, key, "status", func(o objects.Object) (objects.Object, error) {
		if o.GetUID() == d.UID {
			o.(*appsv1.Deployment).Status = status
		}
		return o, nil
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("report the status of %s: %w", key, err)
	}
	return nil
}
