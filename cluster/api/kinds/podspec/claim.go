package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

var (
	accessModes = sets.New(corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod)
	volumeModes = sets.New(corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)
)

// ephemeral checks a volume whose claim is made and deleted together with the pod.
func (v *validator) ephemeral(name string, s *corev1.EphemeralVolumeSource, path *field.Path) field.ErrorList {
	if s.VolumeClaimTemplate == nil {
		return field.ErrorList{field.Required(path.Child("volumeClaimTemplate"), "")}
	}
	t, path := s.VolumeClaimTemplate, path.Child("volumeClaimTemplate")
	errs := metavalidation.ValidateLabels(t.Labels, path.Child("metadata", "labels"))
	errs = append(errs, apivalidation.ValidateAnnotations(t.Annotations, path.Child("metadata", "annotations"))...)
	errs = append(errs, ValidateClaim(&t.Spec, path.Child("spec"))...)
	// The claim is called after the pod and the volume; a pod without a name yet cannot be checked.
	if v.opts.Pod && v.meta != nil && v.meta.Name != "" {
		if claim := v.meta.Name + "-" + name; len(check.DNSSubdomain(claim, path)) > 0 {
			errs = append(errs, field.Invalid(path.Child("name"), name, fmt.Sprintf("PVC name %q: a lowercase RFC 1123 subdomain is required", claim)))
		}
	}
	return errs
}

// ValidateClaim checks the spec of a claim, or of a template for one.
func ValidateClaim(spec *corev1.PersistentVolumeClaimSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	modes := path.Child("accessModes")
	if len(spec.AccessModes) == 0 {
		errs = append(errs, field.Required(modes, "at least 1 access mode is required"))
	}
	pod, other := false, false
	for _, mode := range spec.AccessModes {
		if !accessModes.Has(mode) {
			errs = append(errs, field.NotSupported(modes, mode, sets.List(accessModes)))
		}
		pod, other = pod || mode == corev1.ReadWriteOncePod, other || mode != corev1.ReadWriteOncePod
	}
	if pod && other {
		errs = append(errs, field.Forbidden(modes, "may not use ReadWriteOncePod with other access modes"))
	}
	errs = append(errs, metavalidation.ValidateLabelSelector(spec.Selector, metavalidation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	storage, ok := spec.Resources.Requests[corev1.ResourceStorage]
	at := path.Child("resources").Key(string(corev1.ResourceStorage))
	if !ok {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, check.ResourceQuantity(corev1.ResourceStorage, storage, at)...)
		if storage.Sign() == 0 {
			errs = append(errs, field.Invalid(at, storage.String(), "must be greater than zero"))
		}
	}
	if spec.StorageClassName != nil && *spec.StorageClassName != "" {
		errs = append(errs, check.DNSSubdomain(*spec.StorageClassName, path.Child("storageClassName"))...)
	}
	errs = append(errs, check.OptionalOneOf(spec.VolumeMode, volumeModes, path.Child("volumeMode"))...)
	if d := spec.DataSource; d != nil {
		errs = append(errs, claimSource(d.APIGroup, d.Kind, d.Name, path.Child("dataSource"))...)
	}
	if d := spec.DataSourceRef; d != nil {
		errs = append(errs, claimSource(d.APIGroup, d.Kind, d.Name, path.Child("dataSourceRef"))...)
	}
	if spec.DataSource != nil && spec.DataSourceRef != nil &&
		(spec.DataSource.Kind != spec.DataSourceRef.Kind || spec.DataSource.Name != spec.DataSourceRef.Name) {
		errs = append(errs, field.Invalid(path, path.Child("dataSource").String(), "must match dataSourceRef"))
	}
	return errs
}

func claimSource(group *string, kind, name string, path *field.Path) field.ErrorList {
	errs := required(name, path.Child("name"))
	errs = append(errs, required(kind, path.Child("kind"))...)
	switch {
	case group == nil || *group == "":
		if kind != "PersistentVolumeClaim" {
			errs = append(errs, field.Invalid(path, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
		}
	default:
		errs = append(errs, check.DNSSubdomain(*group, path.Child("apiGroup"))...)
	}
	return errs
}
