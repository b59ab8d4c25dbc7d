package endpoints

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// reconcileSlices brings the slices of one Service and of the Endpoints of its name up to date.
// Slices of what is gone are left to garbage collection, by their owner.
func (s *services) reconcileSlices(ctx context.Context, key messages.Key) (controller.Result, error) {
	svc, exists := objects.Get[*corev1.Service](s.Reader, key)
	if ep, ok := objects.Get[*corev1.Endpoints](s.Reader, messages.KeyOf(messages.Endpoints, key.Namespace, key.Name)); ok {
		var want grouped
		like := &discoveryv1.EndpointSlice{}
		if exists && len(svc.Spec.Selector) == 0 && svc.Spec.Type != corev1.ServiceTypeExternalName && mirrors(ep) {
			want, like = mirrored(ep)
		}
		if err := s.write(ctx, arrange(s.slices(ep.UID, mirroredBy), want, like)); err != nil {
			return controller.Result{}, s.failed(ep, "FailedToUpdateEndpointSlices", fmt.Errorf("mirror endpoints %s: %w", key, err))
		}
	}
	if !exists || svc.DeletionTimestamp != nil || len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return controller.Result{}, nil
	}
	want, like := wanted(svc, s.pods(svc), s.zone)
	if err := s.write(ctx, arrange(s.slices(svc.UID, managedBy), want, like)); err != nil {
		return controller.Result{}, s.failed(svc, "FailedToUpdateEndpointSlices", fmt.Errorf("update endpoint slices of %s: %w", key, err))
	}
	return controller.Result{}, nil
}

// failed shows an error as an event, unless it is a conflict: the change behind it is on its way.
func (s *services) failed(obj objects.Object, reason string, err error) error {
	if !apierrors.IsConflict(err) {
		s.Recorder.Event(obj, corev1.EventTypeWarning, reason, err.Error())
	}
	return err
}

// slices returns what this package keeps for an owner.
func (s *services) slices(owner types.UID, by string) (out []*discoveryv1.EndpointSlice) {
	for _, slice := range objects.Index[*discoveryv1.EndpointSlice](s.Reader, messages.EndpointSlices, objects.IndexOwner, string(owner)) {
		if slice.Labels[discoveryv1.LabelManagedBy] == by {
			out = append(out, slice)
		}
	}
	return out
}

func (s *services) zone(node string) string {
	if node == "" {
		return ""
	}
	if obj, ok := s.Reader.Get(messages.KeyOf(messages.Nodes, "", node)); ok {
		return zoneOf(obj)
	}
	return ""
}

func (s *services) write(ctx context.Context, c changes) error {
	for _, slice := range c.create {
		if _, err := s.Writer.Create(ctx, slice); err != nil && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return err
		}
	}
	for _, slice := range c.update {
		if _, err := s.Writer.Update(ctx, slice); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	for _, slice := range c.remove {
		key := messages.KeyOf(messages.EndpointSlices, slice.Namespace, slice.Name)
		err := s.Writer.Delete(ctx, key, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(slice.UID))})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// reconcile brings the Endpoints of one Service up to date.
func (s *v1) reconcile(ctx context.Context, key messages.Key) (controller.Result, error) {
	at := messages.KeyOf(messages.Endpoints, key.Namespace, key.Name)
	have, exists := objects.Get[*corev1.Endpoints](s.Reader, at)
	svc, ok := objects.Get[*corev1.Service](s.Reader, key)
	if !ok {
		_, deleted := s.deleted.LoadAndDelete(key)
		if !exists || have.DeletionTimestamp != nil || !deleted && have.Labels[managedV1] == "" {
			return controller.Result{}, nil
		}
		err := s.Writer.Delete(ctx, at, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(have.UID))})
		if err != nil && !apierrors.IsNotFound(err) {
			return controller.Result{}, fmt.Errorf("delete %s: %w", at, err)
		}
		return controller.Result{}, nil
	}
	if svc.DeletionTimestamp != nil || len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return controller.Result{}, nil
	}
	want := wantedV1(svc, s.pods(svc))
	var err error
	switch {
	case !exists:
		if _, err = s.Writer.Create(ctx, want); apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			err = nil
		}
	case !sameV1(have, want):
		next := have.DeepCopy()
		next.Labels, next.Subsets, next.Annotations = want.Labels, want.Subsets, cloned(have.Annotations)
		delete(next.Annotations, corev1.EndpointsOverCapacity)
		maps.Copy(next.Annotations, want.Annotations)
		_, err = s.Writer.Update(ctx, next)
	}
	if err != nil {
		return controller.Result{}, s.failed(svc, "FailedToUpdateEndpoint", fmt.Errorf("update %s: %w", at, err))
	}
	return controller.Result{}, nil
}

// sameV1 compares what this package writes; other annotations are none of its business.
func sameV1(have, want *corev1.Endpoints) bool {
	return have.Annotations[corev1.EndpointsOverCapacity] == want.Annotations[corev1.EndpointsOverCapacity] &&
		equality.Semantic.DeepEqual(have.Labels, want.Labels) && equality.Semantic.DeepEqual(have.Subsets, want.Subsets)
}
