package storage

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// VolumeAttachment describes storage.k8s.io/v1 VolumeAttachment.
func VolumeAttachment() kind.Kind {
	spec, status := storagev1.VolumeAttachmentSpec{}.SwaggerDoc(), storagev1.VolumeAttachmentStatus{}.SwaggerDoc()
	return kind.Kind{
		GVK:      storagev1.SchemeGroupVersion.WithKind("VolumeAttachment"),
		Resource: "volumeattachments",
		Singular: "volumeattachment",
		New:      func() kind.Object { return &storagev1.VolumeAttachment{} },
		NewList:  func() runtime.Object { return &storagev1.VolumeAttachmentList{} },

		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			a := obj.(*storagev1.VolumeAttachment)
			errs := check.DriverName(a.Spec.Attacher, specPath.Child("attacher"))
			return append(errs, validateAttachment(a)...)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			a, was := obj.(*storagev1.VolumeAttachment), old.(*storagev1.VolumeAttachment)
			errs := validateAttachment(a)
			if !apiequality.Semantic.DeepEqual(a.Spec, was.Spec) {
				errs = append(errs, field.Invalid(specPath, a.Spec, "field is immutable"))
			}
			return errs
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			obj.(*storagev1.VolumeAttachment).Status = storagev1.VolumeAttachmentStatus{}
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			obj.(*storagev1.VolumeAttachment).Status = old.(*storagev1.VolumeAttachment).Status
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				a, was := obj.(*storagev1.VolumeAttachment), old.(*storagev1.VolumeAttachment)
				a.Spec = was.Spec
				metav1.ResetObjectMetaForStatus(a, was)
			},
			Validate: func(_ context.Context, obj, _ kind.Object) field.ErrorList {
				return validateAttachment(obj.(*storagev1.VolumeAttachment))
			},
		},

		NeedsResourceVersion: true,
		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			{Name: "Attacher", Type: "string", Format: "name", Description: spec["attacher"]},
			table.Col("PV", storagev1.VolumeAttachmentSource{}.SwaggerDoc()["persistentVolumeName"]),
			table.Col("Node", spec["nodeName"]),
			{Name: "Attached", Type: "boolean", Description: status["attached"]},
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			a := obj.(*storagev1.VolumeAttachment)
			return []any{a.Name, a.Spec.Attacher, ptr.Deref(a.Spec.Source.PersistentVolumeName, ""), a.Spec.NodeName, a.Status.Attached, table.Since(a.CreationTimestamp)}
		},
	}
}

const (
	maxErrorBytes    = 1024
	maxMetadataBytes = 256 * 1024
)

func validateAttachment(a *storagev1.VolumeAttachment) field.ErrorList {
	var errs field.ErrorList
	if a.Spec.Attacher == "" {
		errs = append(errs, field.Required(specPath.Child("attacher"), ""))
	}
	source := specPath.Child("source")
	switch name, inline := a.Spec.Source.PersistentVolumeName, a.Spec.Source.InlineVolumeSpec; {
	case name == nil && inline == nil:
		errs = append(errs, field.Required(source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
	case name != nil && inline != nil:
		errs = append(errs, field.Forbidden(source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
	case name != nil:
		at := source.Child("persistentVolumeName")
		if *name == "" {
			errs = append(errs, field.Required(at, "must specify non empty persistentVolumeName"))
		}
		errs = append(errs, check.DNSSubdomain(*name, at)...)
	default:
		errs = append(errs, validateInline(inline, source.Child("inlineVolumeSpec"))...)
	}
	errs = append(errs, check.DNSSubdomain(a.Spec.NodeName, specPath.Child("nodeName"))...)
	status := field.NewPath("status")
	size := 0
	for key, value := range a.Status.AttachmentMetadata {
		size += len(key) + len(value)
	}
	if size > maxMetadataBytes {
		errs = append(errs, field.TooLong(status.Child("attachmentMetadata"), "", maxMetadataBytes))
	}
	errs = append(errs, volumeError(a.Status.AttachError, status.Child("attachError"))...)
	return append(errs, volumeError(a.Status.DetachError, status.Child("detachError"))...)
}

// validateInline checks a volume that is attached without a persistent volume: it is a driver's, and
// what claims are matched by has no meaning for it.
func validateInline(spec *corev1.PersistentVolumeSpec, path *field.Path) field.ErrorList {
	const context = "in the context of inline volumes"
	var errs field.ErrorList
	for _, f := range []struct {
		child string
		set   bool
	}{
		{"claimRef", spec.ClaimRef != nil}, {"capacity", len(spec.Capacity) > 0}, {"nodeAffinity", spec.NodeAffinity != nil}, {"storageClassName", spec.StorageClassName != ""},
	} {
		if f.set {
			errs = append(errs, field.Forbidden(path.Child(f.child), "may not be specified "+context))
		}
	}
	if spec.CSI == nil {
		errs = append(errs, field.Required(path.Child("csi"), "has to be specified "+context))
	}
	if p := spec.PersistentVolumeReclaimPolicy; p != "" && p != corev1.PersistentVolumeReclaimRetain {
		errs = append(errs, field.Forbidden(path.Child("persistentVolumeReclaimPolicy"), "may only be "+string(corev1.PersistentVolumeReclaimRetain)+" "+context))
	}
	if m := spec.VolumeMode; m != nil && *m != corev1.PersistentVolumeFilesystem {
		errs = append(errs, field.Forbidden(path.Child("volumeMode"), "may not specify volumeMode other than "+string(corev1.PersistentVolumeFilesystem)+" "+context))
	}
	return append(errs, podspec.ValidateAccessModes(spec.AccessModes, "", path.Child("accessModes"))...)
}

func volumeError(e *storagev1.VolumeError, path *field.Path) field.ErrorList {
	if e == nil {
		return nil
	}
	var errs field.ErrorList
	if len(e.Message) > maxErrorBytes {
		errs = append(errs, field.TooLong(path.Child("message"), e.Message, maxErrorBytes))
	}
	return append(errs, check.OptionalNonNegative(e.ErrorCode, path.Child("errorCode"))...)
}
