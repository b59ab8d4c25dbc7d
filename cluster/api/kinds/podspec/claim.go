package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

var (
	claimModes  = sets.New(corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod)
	volumeModes = sets.New(corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)
)

// ephemeral checks a volume whose claim is made and deleted together with the pod.
func (v *validator) ephemeral(name string, s *corev1.EphemeralVolumeSource, path, volume *field.Path) field.ErrorList {
	if s.VolumeClaimTemplate == nil {
		return field.ErrorList{field.Required(path.Child("volumeClaimTemplate"), "")}
	}
	t, path := s.VolumeClaimTemplate, path.Child("volumeClaimTemplate")
	errs := metavalidation.ValidateLabels(t.Labels, path.Child("metadata", "labels"))
	if rest := (metav1.ObjectMeta{Labels: t.Labels, Annotations: t.Annotations}); !apiequality.Semantic.DeepEqual(rest, t.ObjectMeta) {
		errs = append(errs, otherMetadata(&t.ObjectMeta, path.Child("metadata"))...)
	}
	errs = append(errs, apivalidation.ValidateAnnotations(t.Annotations, path.Child("metadata", "annotations"))...)
	errs = append(errs, ValidateClaim(&t.Spec, path.Child("spec"))...)
	// The claim is called after the pod and the volume; a pod without a name yet cannot be checked.
	if v.opts.Pod && v.meta != nil && v.meta.Name != "" && name != "" {
		claim := v.meta.Name + "-" + name
		for _, msg := range validation.IsDNS1123Subdomain(claim) {
			errs = append(errs, field.Invalid(volume.Child("name"), name, fmt.Sprintf("PVC name %q: %v", claim, msg)))
		}
	}
	return errs
}

// otherMetadata refuses metadata that a claim made from a template has of its own.
func otherMetadata(m *metav1.ObjectMeta, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct {
		child string
		set   bool
	}{
		{"name", m.Name != ""}, {"generateName", m.GenerateName != ""}, {"namespace", m.Namespace != ""}, {"uid", m.UID != ""},
		{"resourceVersion", m.ResourceVersion != ""}, {"generation", m.Generation != 0}, {"creationTimestamp", !m.CreationTimestamp.IsZero()},
		{"deletionTimestamp", m.DeletionTimestamp != nil}, {"deletionGracePeriodSeconds", m.DeletionGracePeriodSeconds != nil},
		{"ownerReferences", m.OwnerReferences != nil}, {"finalizers", m.Finalizers != nil}, {"managedFields", m.ManagedFields != nil},
	} {
		if f.set {
			errs = append(errs, field.Forbidden(path.Child(f.child), "cannot be set"))
		}
	}
	return errs
}

// ValidateClaim checks the spec of a claim, or of a template for one.
func ValidateClaim(spec *corev1.PersistentVolumeClaimSpec, path *field.Path) field.ErrorList {
	errs := ValidateAccessModes(spec.AccessModes, "at least 1 access mode is required", path.Child("accessModes"))
	errs = append(errs, metavalidation.ValidateLabelSelector(spec.Selector, metavalidation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	storage, ok := spec.Resources.Requests[corev1.ResourceStorage]
	at := path.Child("resources").Key(string(corev1.ResourceStorage))
	if !ok {
		errs = append(errs, field.Required(at, ""))
	} else if storage.Sign() <= 0 {
		errs = append(errs, field.Invalid(at, storage.String(), "must be greater than zero"))
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
		if d.Namespace != nil && *d.Namespace != "" {
			errs = append(errs, check.DNSLabel(*d.Namespace, path.Child("dataSourceRef", "namespace"))...)
		}
	}
	if spec.DataSource != nil && spec.DataSourceRef != nil {
		errs = append(errs, claimSources(spec.DataSource, spec.DataSourceRef, path)...)
	}
	if class := spec.VolumeAttributesClassName; class != nil && *class != "" {
		errs = append(errs, check.DNSSubdomain(*class, path.Child("volumeAttributesClassName"))...)
	}
	return errs
}

// claimSources checks that the older of the two fields for a source says the same as the newer. In
// another namespace only the newer one can be.
func claimSources(d *corev1.TypedLocalObjectReference, ref *corev1.TypedObjectReference, path *field.Path) field.ErrorList {
	at := path.Child("dataSource")
	switch {
	case ref.Namespace != nil && *ref.Namespace != "":
		return field.ErrorList{field.Invalid(path, at.String(), "may not be specified when dataSourceRef.namespace is specified")}
	case !ptr.Equal(d.APIGroup, ref.APIGroup) || d.Kind != ref.Kind || d.Name != ref.Name:
		return field.ErrorList{field.Invalid(path, at.String(), "must match dataSourceRef")}
	}
	return nil
}

// ValidateAccessModes checks how often a volume may be mounted; missing explains that none is given.
func ValidateAccessModes(modes []corev1.PersistentVolumeAccessMode, missing string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(modes) == 0 {
		errs = append(errs, field.Required(path, missing))
	}
	pod, other := false, false
	for _, mode := range modes {
		errs = append(errs, check.OneOfOrBad(mode, claimModes, path)...)
		if mode == corev1.ReadWriteOncePod {
			pod = true
		} else {
			other = other || claimModes.Has(mode)
		}
	}
	if pod && other {
		errs = append(errs, field.Forbidden(path, "may not use ReadWriteOncePod with other access modes"))
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
