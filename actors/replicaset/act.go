package replicaset

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/claim"
	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// act is one pass: claim, create or delete, count again, write the status if it differs.
func (s *sets) act(ctx context.Context, key messages.Key, rs *appsv1.ReplicaSet) (controller.Result, error) {
	pods := s.pods(rs)
	claimed, err := s.claim(ctx, key, rs, pods)
	if err != nil {
		return controller.Result{}, err
	}
	if claimed {
		pods = s.pods(rs)
	}
	scaled, reason, failed := s.scale(ctx, rs, pods)
	if scaled {
		pods = s.pods(rs)
	}
	message := ""
	if failed != nil {
		message = failed.Error()
	}
	now := s.Clock.Now()
	status, after := count(rs, pods, now)
	setFailure(&status, reason, message, now)
	if err := s.report(ctx, key, rs, status); err != nil {
		return controller.Result{}, err
	}
	if failed != nil {
		return controller.Result{}, fmt.Errorf("scale %s: %w", key, failed)
	}
	return controller.Result{After: after}, nil
}

// pods returns the pods the set controls, ended and leaving ones too.
func (s *sets) pods(rs *appsv1.ReplicaSet) []*corev1.Pod {
	all := objects.Index[*corev1.Pod](s.Reader, messages.Pods, objects.IndexOwner, string(rs.UID))
	out := all[:0]
	for _, pod := range all {
		if metav1.IsControlledBy(pod, rs) && pod.Namespace == rs.Namespace {
			out = append(out, pod)
		}
	}
	return out
}

// claim adopts and releases pods and says whether there were any.
func (s *sets) claim(ctx context.Context, key messages.Key, rs *appsv1.ReplicaSet, pods []*corev1.Pod) (changed bool, err error) {
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil {
		return false, fmt.Errorf("read the selector of %s: %w", key, err)
	}
	_, adopt, release := claim.Sort(rs, selector, claim.Append(slices.Clip(pods), s.orphans, s.Reader, rs.Namespace))
	for _, pod := range adopt {
		if ended(pod) {
			continue
		}
		if _, err := claim.Adopt(ctx, s.Reader, s.Writer, key, controllerRef(rs), podKey(pod), pod); err != nil {
			return false, err
		}
	}
	for _, pod := range release {
		if err := claim.Release(ctx, s.Writer, rs, podKey(pod), pod); err != nil {
			return false, err
		}
	}
	return len(adopt)+len(release) > 0, nil
}

// scale creates or deletes pods and says whether it tried. It returns the first error and the reason
// to report with it.
func (s *sets) scale(ctx context.Context, rs *appsv1.ReplicaSet, pods []*corev1.Pod) (tried bool, reason string, err error) {
	running := make([]*corev1.Pod, 0, len(pods))
	for _, pod := range pods {
		if active(pod) {
			running = append(running, pod)
		}
	}
	n := missing(rs, len(running))
	switch {
	case n > 0:
		reason, err = "FailedCreate", s.create(ctx, rs, n)
	case n < 0:
		reason, err = "FailedDelete", s.delete(ctx, rs, victims(running, s.crowds(rs), -n, s.Clock.Now()))
	}
	if err == nil {
		reason = ""
	}
	return n != 0, reason, err
}

func (s *sets) create(ctx context.Context, rs *appsv1.ReplicaSet, n int) error {
	_, err := controller.SlowStart(ctx, n, func(ctx context.Context, _ int) error {
		pod, err := s.Writer.Create(ctx, podOf(rs))
		switch {
		case err == nil:
			s.Recorder.Event(rs, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: "+pod.GetName())
		case !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) && ctx.Err() == nil:
			s.Recorder.Event(rs, corev1.EventTypeWarning, "FailedCreate", "Error creating: "+err.Error())
		}
		return err
	})
	if err = first(err); apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil // the set is about to go as well
	}
	return err
}

func (s *sets) delete(ctx context.Context, rs *appsv1.ReplicaSet, pods []*corev1.Pod) error {
	_, err := controller.SlowStart(ctx, len(pods), func(ctx context.Context, i int) error {
		pod := pods[i]
		err := s.Writer.Delete(ctx, podKey(pod), metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
		switch {
		case apierrors.IsNotFound(err), apierrors.IsConflict(err): // gone, or another one of that name
			return nil
		case err != nil:
			s.Recorder.Event(rs, corev1.EventTypeWarning, "FailedDelete", "Error deleting: "+err.Error())
			return err
		}
		s.Recorder.Event(rs, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: "+pod.Name)
		return nil
	})
	return first(err)
}

// crowds counts the active pods per node of all sets that share the set's controller.
func (s *sets) crowds(rs *appsv1.ReplicaSet) map[string]int {
	related := []*appsv1.ReplicaSet{rs}
	if ref := metav1.GetControllerOfNoCopy(rs); ref != nil {
		related = objects.Index[*appsv1.ReplicaSet](s.Reader, messages.ReplicaSets, objects.IndexOwner, string(ref.UID))
	}
	out := make(map[string]int)
	for _, rs := range related {
		for _, pod := range s.pods(rs) {
			if active(pod) {
				out[pod.Spec.NodeName]++
			}
		}
	}
	return out
}

func (s *sets) report(ctx context.Context, key messages.Key, rs *appsv1.ReplicaSet, status appsv1.ReplicaSetStatus) error {
	if equality.Semantic.DeepEqual(rs.Status, status) {
		return nil
	}
	_, err := s.Writer.Mutate(ctx, key, "status", func(o objects.Object) (objects.Object, error) {
		if o.GetUID() == rs.UID {
			o.(*appsv1.ReplicaSet).Status = status
		}
		return o, nil
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("report the status of %s: %w", key, err)
	}
	return nil
}

// first returns the first of several joined errors: what fails in parallel fails alike.
func first(err error) error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()[0]
	}
	return err
}

func podKey(pod *corev1.Pod) messages.Key {
	return messages.KeyOf(messages.Pods, pod.Namespace, pod.Name)
}
