package admission

import (
	"context"
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/storageprotection"
	"github.com/troupe-run/troupe/messages"
)

var (
	volumesResource    = corev1.Resource("persistentvolumes")
	attributesResource = storagev1.Resource("volumeattributesclasses")
)

// inUse marks what stores data, so that it stays while somebody uses it; the controller of
// actors/storageprotection takes the mark away.
type inUse struct{ *admission.Handler }

func newInUse() *inUse { return &inUse{admission.NewHandler(admission.Create)} }

// Admit adds the finalizer.
func (*inUse) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetSubresource() != "" {
		return nil
	}
	var finalizer string
	switch a.GetResource().GroupResource() {
	case claimsResource:
		finalizer = storageprotection.ClaimFinalizer
	case volumesResource:
		finalizer = storageprotection.VolumeFinalizer
	case attributesResource:
		finalizer = storageprotection.AttributesFinalizer
	default:
		return nil
	}
	if obj, ok := a.GetObject().(objects.Object); ok && !slices.Contains(obj.GetFinalizers(), finalizer) {
		obj.SetFinalizers(append(slices.Clone(obj.GetFinalizers()), finalizer))
	}
	return nil
}

// resize lets claims grow that can.
type resize struct {
	*admission.Handler
	reader objects.Reader
}

func newResize(reader objects.Reader) *resize {
	return &resize{admission.NewHandler(admission.Update), reader}
}

// Validate refuses to grow what nobody could make larger.
func (r *resize) Validate(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if !is(a, claimsResource, "") {
		return nil
	}
	claim, ok := a.GetObject().(*corev1.PersistentVolumeClaim)
	old, had := a.GetOldObject().(*corev1.PersistentVolumeClaim)
	if !ok || !had {
		return nil
	}
	want, have := claim.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
	if have.Cmp(want) >= 0 {
		return nil
	}
	if old.Status.Phase != corev1.ClaimBound {
		return admission.NewForbidden(a, errors.New("Only bound persistent volume claims can be expanded")) //nolint:staticcheck // Kubernetes' words
	}
	class, ok := objects.Get[*storagev1.StorageClass](r.reader, messages.KeyOf(storageClasses, "", classOf(claim)))
	if classOf(claim) != classOf(old) || !ok || !ptr.Deref(class.AllowVolumeExpansion, false) {
		return admission.NewForbidden(a, errors.New("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"))
	}
	return nil
}

// classOf returns the class that a claim names, "" for none.
func classOf(claim *corev1.PersistentVolumeClaim) string {
	if name, ok := claim.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return name
	}
	return ptr.Deref(claim.Spec.StorageClassName, "")
}

var (
	_ admission.MutationInterface   = (*inUse)(nil)
	_ admission.ValidationInterface = (*resize)(nil)
)
