package core

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"

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
			v := obj.(*corev1.PersistentVolume)
			return validateVolume(v.Name, &v.Spec)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			v := obj.(*corev1.PersistentVolume)
			return append(validateVolume(v.Name, &v.Spec), validateVolumeChange(&v.Spec, &old.(*corev1.PersistentVolume).Spec)...)
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			v := obj.(*corev1.PersistentVolume)
			born := v.CreationTimestamp
			v.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending, LastPhaseTransitionTime: &born}
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			obj.(*corev1.PersistentVolume).Status = old.(*corev1.PersistentVolume).Status
		},
		Warnings: func(_ context.Context, obj, _ kind.Object) []string {
			return append(classAnnotationWarnings(obj), volumeWarnings(obj.(*corev1.PersistentVolume))...)
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				v, was := obj.(*corev1.PersistentVolume), old.(*corev1.PersistentVolume)
				v.Spec = was.Spec
				if v.Status.LastPhaseTransitionTime == nil && v.Status.Phase == was.Status.Phase {
					v.Status.LastPhaseTransitionTime = was.Status.LastPhaseTransitionTime
				}
			},
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Capacity", spec["capacity"]),
			table.Col("Access Modes", spec["accessModes"]),
			table.Col("Reclaim Policy", spec["persistentVolumeReclaimPolicy"]),
			table.Col("Status", status["phase"]),
			table.Col("Claim", spec["claimRef"]),
			table.Col("StorageClass", "StorageClass of the pv"),
			table.Col("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
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
	volumeModes   = sets.New(corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)
	volumeReclaim = sets.New(corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain)
)

func validateVolume(name string, spec *corev1.PersistentVolumeSpec) field.ErrorList {
	errs := podspec.ValidateAccessModes(spec.AccessModes, "", specPath.Child("accessModes"))
	errs = append(errs, validateSize(spec.Capacity, specPath.Child("capacity"))...)
	if a := spec.NodeAffinity; a != nil {
		at := specPath.Child("nodeAffinity", "required")
		if a.Required == nil {
			errs = append(errs, field.Required(at, "must specify required node constraints"))
		} else {
			errs = append(errs, podspec.ValidateNodeSelector(a.Required, at)...)
		}
	}
	errs = append(errs, validateVolumeSource(name, spec)...)
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
	var errs field.ErrorList
	if len(capacity) == 0 {
		errs = append(errs, field.Required(at, ""))
	}
	if _, ok := capacity[corev1.ResourceStorage]; !ok || len(capacity) > 1 {
		errs = append(errs, field.NotSupported(at, capacity, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	for _, name := range slices.Sorted(maps.Keys(capacity)) {
		q, at := capacity[name], at.Key(string(name))
		if q.Sign() < 0 {
			errs = append(errs, field.Invalid(at, q.String(), badQuantity))
		}
		if q.Sign() <= 0 {
			errs = append(errs, field.Invalid(at, q.String(), "must be greater than zero"))
		}
	}
	return errs
}

// badQuantity is why an amount below zero is refused where nothing is consumed.
const badQuantity = "must be a valid resource quantity"

// validateVolumeChange lets nothing change that says where a volume lies. A secret for growing it may
// be added later, and labels of nodes may go by their newer names.
func validateVolumeChange(spec, old *corev1.PersistentVolumeSpec) field.ErrorList {
	var errs field.ErrorList
	source := spec.PersistentVolumeSource
	if source.CSI != nil && old.CSI != nil && old.CSI.ControllerExpandSecretRef == nil && source.CSI.ControllerExpandSecretRef != nil {
		source = *source.DeepCopy()
		source.CSI.ControllerExpandSecretRef = nil
	}
	if !apiequality.Semantic.DeepEqual(source, old.PersistentVolumeSource) {
		errs = append(errs, field.Forbidden(specPath.Child("persistentvolumesource"), fmt.Sprintf("spec.persistentvolumesource is immutable after creation\n%v",
			diff.Diff(old.PersistentVolumeSource, source))))
	}
	// In Kubernetes, too, "spec" is missing from these two paths.
	errs = append(errs, apivalidation.ValidateImmutableField(spec.VolumeMode, old.VolumeMode, field.NewPath("volumeMode"))...)
	if old.NodeAffinity != nil && !sameNodes(spec.NodeAffinity, old.NodeAffinity) {
		errs = append(errs, field.Invalid(field.NewPath("nodeAffinity"), spec.NodeAffinity, "field is immutable, except for updating from beta label to GA"))
	}
	if old.VolumeAttributesClassName != nil && spec.VolumeAttributesClassName == nil {
		errs = append(errs, field.Forbidden(specPath.Child("volumeAttributesClassName"), "update from non-nil value to nil is forbidden"))
	}
	return errs
}

// stableLabels are the names that well-known labels of nodes have gone by since they are stable.
var stableLabels = map[string]string{
	corev1.LabelFailureDomainBetaZone:   corev1.LabelTopologyZone,
	corev1.LabelFailureDomainBetaRegion: corev1.LabelTopologyRegion,
	"beta.kubernetes.io/os":             corev1.LabelOSStable,
	"beta.kubernetes.io/arch":           corev1.LabelArchStable,
	corev1.LabelInstanceType:            corev1.LabelInstanceTypeStable,
}

// sameNodes says that now selects what was selected, but for newer names of labels.
func sameNodes(now, was *corev1.VolumeNodeAffinity) bool {
	if now == nil || now.Required == nil || was.Required == nil {
		return apiequality.Semantic.DeepEqual(now, was)
	}
	renamed := was.DeepCopy()
	for t := range min(len(now.Required.NodeSelectorTerms), len(renamed.Required.NodeSelectorTerms)) {
		is, old := now.Required.NodeSelectorTerms[t].MatchExpressions, renamed.Required.NodeSelectorTerms[t].MatchExpressions
		for e := range min(len(is), len(old)) {
			if stableLabels[old[e].Key] == is[e].Key {
				old[e].Key = is[e].Key
			}
		}
	}
	return apiequality.Semantic.DeepEqual(now, renamed)
}
