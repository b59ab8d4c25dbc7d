package core

import (
	"context"
	"fmt"
	"path"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// PersistentVolume describes v1 PersistentVolume.
func PersistentVolume() kind.Kind {
	spec, status := corev1.PersistentVolumeSpec{}.SwaggerDoc(), corev1.PersistentVolumeStatus{}.SwaggerDoc()
	return kind.Kind{
		GVK:        corev1.SchemeGroupVersion.WithKind("PersistentVolume"),
		Resource:   "persistentvolumes",
		Singular:   "persistentvolume",
		ShortNames: []string{"pv"},
		New:        func() kind.Object { return &corev1.PersistentVolume{} },
		NewList:    func() runtime.Object { return &corev1.PersistentVolumeList{} },

		Default: func(obj kind.Object) { defaultVolume(obj.(*corev1.PersistentVolume)) },
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateVolume(&obj.(*corev1.PersistentVolume).Spec)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			return validateVolumeUpdate(&obj.(*corev1.PersistentVolume).Spec, &old.(*corev1.PersistentVolume).Spec)
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			v := obj.(*corev1.PersistentVolume)
			born := v.CreationTimestamp
			v.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending, LastPhaseTransitionTime: &born}
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			obj.(*corev1.PersistentVolume).Status = old.(*corev1.PersistentVolume).Status
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				obj.(*corev1.PersistentVolume).Spec = old.(*corev1.PersistentVolume).Spec
			},
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Capacity", spec["capacity"]),
			table.Col("Access Modes", spec["accessModes"]),
			table.Col("Reclaim Policy", spec["persistentVolumeReclaimPolicy"]),
			table.Col("Status", status["phase"]),
			table.Col("Claim", spec["claimRef"]),
			table.Col("StorageClass", spec["storageClassName"]),
			table.Col("VolumeAttributesClass", spec["volumeAttributesClassName"]),
			table.Col("Reason", status["reason"]),
			table.Age(),
			table.Wide(table.Col("VolumeMode", spec["volumeMode"])),
		},
		Row: func(obj kind.Object) []any { return volumeRow(obj.(*corev1.PersistentVolume)) },
	}
}

func volumeRow(v *corev1.PersistentVolume) []any {
	claim, phase, class := "", string(v.Status.Phase), v.Spec.StorageClassName
	if ref := v.Spec.ClaimRef; ref != nil {
		claim = ref.Namespace + "/" + ref.Name
	}
	if v.DeletionTimestamp != nil {
		phase = "Terminating"
	}
	if old := v.Annotations[classAnnotation]; old != "" {
		class = old
	}
	return []any{
		v.Name, v.Spec.Capacity.Storage().String(), accessModes(v.Spec.AccessModes), string(v.Spec.PersistentVolumeReclaimPolicy), phase, claim, class,
		ptr.Deref(v.Spec.VolumeAttributesClassName, "<unset>"), v.Status.Reason, table.Since(v.CreationTimestamp), string(ptr.Deref(v.Spec.VolumeMode, "<unset>")),
	}
}

func defaultVolume(v *corev1.PersistentVolume) {
	if v.Status.Phase == "" {
		v.Status.Phase = corev1.VolumePending
	}
	if v.Spec.PersistentVolumeReclaimPolicy == "" {
		v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	}
	if v.Spec.VolumeMode == nil {
		v.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeFilesystem)
	}
	text := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	if s := v.Spec.HostPath; s != nil && s.Type == nil {
		s.Type = ptr.To(corev1.HostPathUnset)
	}
	if s := v.Spec.ISCSI; s != nil {
		text(&s.ISCSIInterface, "default")
	}
	if s := v.Spec.RBD; s != nil {
		text(&s.RBDPool, "rbd")
		text(&s.RadosUser, "admin")
		text(&s.Keyring, "/etc/ceph/keyring")
	}
	if s := v.Spec.ScaleIO; s != nil {
		text(&s.StorageMode, "ThinProvisioned")
		text(&s.FSType, "xfs")
	}
}

var (
	volumeAccess  = sets.New(corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod)
	volumeModes   = sets.New(corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)
	volumeReclaim = sets.New(corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain)
)

func validateVolume(spec *corev1.PersistentVolumeSpec) field.ErrorList {
	var errs field.ErrorList
	modes := specPath.Child("accessModes")
	if len(spec.AccessModes) == 0 {
		errs = append(errs, field.Required(modes, ""))
	}
	for _, mode := range spec.AccessModes {
		errs = append(errs, check.OneOfOrBad(mode, volumeAccess, modes)...)
		if mode == corev1.ReadWriteOncePod && len(sets.New(spec.AccessModes...)) > 1 {
			errs = append(errs, field.Forbidden(modes, "may not use ReadWriteOncePod with other access modes"))
		}
	}
	errs = append(errs, validateSize(spec.Capacity, specPath.Child("capacity"))...)
	if a := spec.NodeAffinity; a != nil {
		at := specPath.Child("nodeAffinity", "required")
		if a.Required == nil {
			errs = append(errs, field.Required(at, "must specify required node constraints"))
		} else {
			errs = append(errs, podspec.ValidateNodeSelector(a.Required, at)...)
		}
	}
	errs = append(errs, validateVolumeSource(spec)...)
	errs = append(errs, check.OneOfOrBad(spec.PersistentVolumeReclaimPolicy, volumeReclaim, specPath.Child("persistentVolumeReclaimPolicy"))...)
	if spec.HostPath != nil && path.Clean(spec.HostPath.Path) == "/" && spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		errs = append(errs, field.Forbidden(specPath.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'"))
	}
	if spec.StorageClassName != "" {
		errs = append(errs, check.DNSSubdomain(spec.StorageClassName, specPath.Child("storageClassName"))...)
	}
	errs = append(errs, check.OptionalOneOf(spec.VolumeMode, volumeModes, specPath.Child("volumeMode"))...)
	if class := spec.VolumeAttributesClassName; class != nil {
		at := specPath.Child("volumeAttributesClassName")
		if *class == "" {
			errs = append(errs, field.Required(at, "an empty string is disallowed"))
		} else {
			errs = append(errs, check.DNSSubdomain(*class, at)...)
		}
		if spec.CSI == nil {
			errs = append(errs, field.Required(specPath.Child("csi"), "has to be specified when using volumeAttributesClassName"))
		}
	}
	return errs
}

// validateSize checks how big a volume is, which is all that its capacity may say.
func validateSize(capacity corev1.ResourceList, at *field.Path) field.ErrorList {
	if len(capacity) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	size, ok := capacity[corev1.ResourceStorage]
	if !ok || len(capacity) > 1 {
		errs = append(errs, field.NotSupported(at, capacity, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	if ok && size.Sign() <= 0 {
		errs = append(errs, field.Invalid(at.Key(string(corev1.ResourceStorage)), size.String(), "must be greater than zero"))
	}
	return errs
}

func validateVolumeUpdate(spec, old *corev1.PersistentVolumeSpec) field.ErrorList {
	errs := validateVolume(spec)
	if !apiequality.Semantic.DeepEqual(spec.PersistentVolumeSource, old.PersistentVolumeSource) {
		errs = append(errs, field.Forbidden(specPath.Child("persistentvolumesource"), fmt.Sprintf("spec.persistentvolumesource is immutable after creation\n%v",
			diff.Diff(old.PersistentVolumeSource, spec.PersistentVolumeSource))))
	}
	errs = append(errs, apivalidation.ValidateImmutableField(spec.VolumeMode, old.VolumeMode, specPath.Child("volumeMode"))...)
	if old.NodeAffinity != nil {
		errs = append(errs, apivalidation.ValidateImmutableField(spec.NodeAffinity, old.NodeAffinity, specPath.Child("nodeAffinity"))...)
	}
	return errs
}
