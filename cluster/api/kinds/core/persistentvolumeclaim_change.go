package core

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
)

// oldSource says that dataSource, the older of two fields, may name this: another claim or a snapshot.
func oldSource(d *corev1.TypedLocalObjectReference) bool {
	switch ptr.Deref(d.APIGroup, "") {
	case "":
		return d.Kind == "PersistentVolumeClaim"
	case "snapshot.storage.k8s.io":
		return d.Kind == "VolumeSnapshot"
	}
	return false
}

// alignSources lets a claim say the same in both fields for its source. A source in another namespace
// has no place in the older one.
func alignSources(spec *corev1.PersistentVolumeClaimSpec) {
	d, ref := spec.DataSource, spec.DataSourceRef
	switch {
	case d != nil && ref == nil:
		spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: d.APIGroup, Kind: d.Kind, Name: d.Name}
	case d == nil && ref != nil && ptr.Deref(ref.Namespace, "") == "":
		spec.DataSource = &corev1.TypedLocalObjectReference{APIGroup: ref.APIGroup, Kind: ref.Kind, Name: ref.Name}
	}
}

func validateClaimUpdate(c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	errs := podspec.ValidateClaim(&c.Spec, specPath)
	// What is left over once everything that may change is set aside has to be the same.
	rest, was := c.Spec.DeepCopy(), old.Spec.DeepCopy()
	if was.VolumeName == "" {
		was.VolumeName = rest.VolumeName
	}
	before, had := old.Annotations[classAnnotation]
	now, has := c.Annotations[classAnnotation]
	given := was.StorageClassName == nil && rest.StorageClassName != nil // the default class, or the field in place of the annotation
	switch {
	case had && given && *rest.StorageClassName == before && (!has || now == before):
		rest.StorageClassName = nil
	default:
		if now != before {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "annotations", classAnnotation), now, "field is immutable"))
		}
		if given && (!had || *rest.StorageClassName == before) {
			rest.StorageClassName = nil
		}
	}
	if c.Status.Phase == corev1.ClaimBound {
		if size, ok := was.Resources.Requests[corev1.ResourceStorage]; ok && rest.Resources.Requests != nil {
			rest.Resources.Requests[corev1.ResourceStorage] = size
		}
		rest.VolumeAttributesClassName = was.VolumeAttributesClassName
	}
	if !apiequality.Semantic.DeepEqual(rest, was) {
		errs = append(errs, field.Forbidden(specPath, fmt.Sprintf("spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n%v", diff.Diff(*was, *rest))))
	}
	errs = append(errs, validateClaimSize(c, old)...)
	if !ptr.Equal(c.Spec.VolumeMode, old.Spec.VolumeMode) {
		// In Kubernetes, too, "spec" is missing from this path.
		errs = append(errs, field.Invalid(field.NewPath("volumeMode"), c.Spec.VolumeMode, "field is immutable"))
	}
	return append(errs, validateClassChange(c, old)...)
}

// validateClaimSize lets a claim ask for less again as long as its volume has not grown that far.
func validateClaimSize(c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	size, was := c.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
	have := old.Status.Capacity[corev1.ResourceStorage]
	if size.Cmp(was) < 0 && size.Cmp(have) <= 0 {
		return field.ErrorList{field.Forbidden(specPath.Child("resources", "requests", "storage"), "field can not be less than status.capacity")}
	}
	return nil
}

// validateClassChange keeps a class of attributes that a volume has already.
func validateClassChange(c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	now := c.Spec.VolumeAttributesClassName
	if old.Status.CurrentVolumeAttributesClassName == nil || ptr.Equal(now, old.Spec.VolumeAttributesClassName) {
		return nil
	}
	at, what := specPath.Child("volumeAttributesClassName"), "nil"
	if now != nil {
		what = "empty string"
	}
	if now == nil || *now == "" {
		return field.ErrorList{field.Forbidden(at, fmt.Sprintf("update to %s is forbidden when status.currentVolumeAttributesClassName is not nil", what))}
	}
	return nil
}

var resizeStatuses = sets.New(corev1.PersistentVolumeClaimControllerResizeInProgress, corev1.PersistentVolumeClaimControllerResizeInfeasible,
	corev1.PersistentVolumeClaimNodeResizePending, corev1.PersistentVolumeClaimNodeResizeInProgress, corev1.PersistentVolumeClaimNodeResizeInfeasible)

func validateClaimStatus(s *corev1.PersistentVolumeClaimStatus) field.ErrorList {
	status := field.NewPath("status")
	errs := claimAmountsList(s.Capacity, status.Child("capacity"))
	at := status.Child("allocatedResourceStatuses")
	for _, name := range slices.Sorted(maps.Keys(s.AllocatedResourceStatuses)) {
		errs = append(errs, claimResource(name, at)...)
		if !resizeStatuses.Has(s.AllocatedResourceStatuses[name]) {
			errs = append(errs, field.NotSupported(at, name, sets.List(resizeStatuses)))
		}
	}
	at = status.Child("allocatedResources")
	for _, name := range slices.Sorted(maps.Keys(s.AllocatedResources)) {
		errs = append(errs, claimResource(name, at)...)
	}
	return append(errs, claimAmountsList(s.AllocatedResources, at)...)
}

func claimAmountsList(list corev1.ResourceList, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(list)) {
		if q := list[name]; q.Sign() < 0 {
			errs = append(errs, field.Invalid(at.Key(string(name)), q.String(), badQuantity))
		}
	}
	return errs
}

// claimResource checks what a claim may have resized: storage, or something with a domain.
func claimResource(name corev1.ResourceName, at *field.Path) field.ErrorList {
	errs := check.QualifiedName(string(name), at)
	if len(errs) == 0 && check.IsNativeResource(name) && name != corev1.ResourceStorage {
		return field.ErrorList{field.NotSupported(at, name, []corev1.ResourceName{corev1.ResourceStorage})}
	}
	return errs
}
