package storage

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// StorageClass describes storage.k8s.io/v1 StorageClass.
func StorageClass() kind.Kind {
	doc := storagev1.StorageClass{}.SwaggerDoc()
	return kind.Kind{
		GVK:        storagev1.SchemeGroupVersion.WithKind("StorageClass"),
		Resource:   "storageclasses",
		Singular:   "storageclass",
		ShortNames: []string{"sc"},
		New:        func() kind.Object { return &storagev1.StorageClass{} },
		NewList:    func() runtime.Object { return &storagev1.StorageClassList{} },

		Default: func(obj kind.Object) {
			c := obj.(*storagev1.StorageClass)
			if c.ReclaimPolicy == nil {
				c.ReclaimPolicy = ptr.To(corev1.PersistentVolumeReclaimDelete)
			}
			if c.VolumeBindingMode == nil {
				c.VolumeBindingMode = ptr.To(storagev1.VolumeBindingImmediate)
			}
		},
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateStorageClass(obj.(*storagev1.StorageClass))
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			return validateStorageClassUpdate(obj.(*storagev1.StorageClass), old.(*storagev1.StorageClass))
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Provisioner", doc["provisioner"]),
			table.Col("ReclaimPolicy", doc["reclaimPolicy"]),
			table.Col("VolumeBindingMode", doc["volumeBindingMode"]),
			table.Col("AllowVolumeExpansion", doc["allowVolumeExpansion"]),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			c := obj.(*storagev1.StorageClass)
			name := c.Name
			if c.Annotations[DefaultAnnotation] == "true" || c.Annotations[betaDefaultAnnotation] == "true" {
				name += " (default)"
			}
			return []any{name, c.Provisioner, string(ptr.Deref(c.ReclaimPolicy, "")), string(ptr.Deref(c.VolumeBindingMode, "")),
				ptr.Deref(c.AllowVolumeExpansion, false), table.Since(c.CreationTimestamp)}
		},
	}
}

// DefaultAnnotation is "true" on the class of claims that name none.
const (
	DefaultAnnotation     = "storageclass.kubernetes.io/is-default-class"
	betaDefaultAnnotation = "storageclass.beta.kubernetes.io/is-default-class"
)

const (
	maxParameters     = 512
	maxParameterBytes = 256 * 1024
)

var (
	reclaimPolicies = sets.New(corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain)
	bindingModes    = sets.New(storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer)
)

func validateStorageClass(c *storagev1.StorageClass) field.ErrorList {
	errs := validateProvisioner(c.Provisioner, field.NewPath("provisioner"))
	errs = append(errs, validateParameters(c.Parameters, true, field.NewPath("parameters"))...)
	if p := c.ReclaimPolicy; p != nil && *p != "" {
		errs = append(errs, check.OneOfOrBad(*p, reclaimPolicies, field.NewPath("reclaimPolicy"))...)
	}
	if mode := field.NewPath("volumeBindingMode"); c.VolumeBindingMode == nil {
		errs = append(errs, field.Required(mode, ""))
	} else {
		errs = append(errs, check.OneOfOrBad(*c.VolumeBindingMode, bindingModes, mode)...)
	}
	return append(errs, validateTopologies(c.AllowedTopologies, field.NewPath("allowedTopologies"))...)
}

func validateProvisioner(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, name)}
	}
	return check.QualifiedName(strings.ToLower(name), path)
}

func validateParameters(params map[string]string, mayBeEmpty bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(params) > maxParameters {
		errs = append(errs, field.TooLong(path, "Provisioner Parameters exceeded max allowed", maxParameters))
		return errs
	}
	size := 0
	for key, value := range params {
		if key == "" {
			errs = append(errs, field.Invalid(path, key, "field can not be empty."))
		}
		size += len(key) + len(value)
	}
	if size > maxParameterBytes {
		errs = append(errs, field.TooLong(path, "", maxParameterBytes))
	}
	if !mayBeEmpty && len(params) == 0 {
		errs = append(errs, field.Required(path, "must contain at least one key/value pair"))
	}
	return errs
}

// validateTopologies checks where volumes of a class may be made; two terms that say the same are
// one too many.
func validateTopologies(terms []corev1.TopologySelectorTerm, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, term := range terms {
		keys := sets.New[string]()
		for j, req := range term.MatchLabelExpressions {
			at := path.Index(i).Child("matchLabelExpressions").Index(j)
			if len(req.Values) == 0 {
				errs = append(errs, field.Required(at.Child("values"), ""))
			}
			values := sets.New[string]()
			for n, value := range req.Values {
				if values.Has(value) {
					errs = append(errs, field.Duplicate(at.Child("values").Index(n), value))
				}
				values.Insert(value)
			}
			errs = append(errs, metavalidation.ValidateLabelName(req.Key, at.Child("key"))...)
			if keys.Has(req.Key) {
				errs = append(errs, field.Duplicate(at.Child("key"), req.Key))
			}
			keys.Insert(req.Key)
		}
		if len(term.MatchLabelExpressions) == 0 { // it is as good as one that is not there
			errs = append(errs, field.Duplicate(path.Index(i).Child("matchLabelExpressions"), ""))
		}
		for _, before := range terms[:i] {
			if apiequality.Semantic.DeepEqual(before, term) {
				errs = append(errs, field.Duplicate(path.Index(i).Child("matchLabelExpressions"), ""))
				break
			}
		}
	}
	return errs
}

func validateStorageClassUpdate(c, old *storagev1.StorageClass) field.ErrorList {
	errs := validateStorageClass(c)
	errs = append(errs, apivalidation.ValidateImmutableField(c.Parameters, old.Parameters, field.NewPath("parameters"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(c.Provisioner, old.Provisioner, field.NewPath("provisioner"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(c.ReclaimPolicy, old.ReclaimPolicy, field.NewPath("reclaimPolicy"))...)
	return append(errs, apivalidation.ValidateImmutableField(c.VolumeBindingMode, old.VolumeBindingMode, field.NewPath("volumeBindingMode"))...)
}
