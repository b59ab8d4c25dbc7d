package resource

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// DeviceClass describes resource.k8s.io/v1 DeviceClass.
func DeviceClass() kind.Kind {
	return kind.Kind{
		GVK:          resourcev1.SchemeGroupVersion.WithKind("DeviceClass"),
		Resource:     "deviceclasses",
		Singular:     "deviceclass",
		ValidateName: check.LongName,
		New:          func() kind.Object { return &resourcev1.DeviceClass{} },
		NewList:      func() runtime.Object { return &resourcev1.DeviceClassList{} },

		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateClass(&obj.(*resourcev1.DeviceClass).Spec, nil)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			return validateClass(&obj.(*resourcev1.DeviceClass).Spec, &old.(*resourcev1.DeviceClass).Spec)
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*resourcev1.DeviceClass).Spec, old.(*resourcev1.DeviceClass).Spec)
		},

		Columns: nameAndAge,
		Row:     nameAndAgeRow,
	}
}

// nameAndAge is the table of kinds that show nothing else, and not when they were created as all others.
var nameAndAge = []metav1.TableColumnDefinition{table.Name(), table.Age()}

func nameAndAgeRow(obj kind.Object) []any {
	return []any{obj.GetName(), table.Since(obj.GetCreationTimestamp())}
}

// validateClass checks a class; what is as in old has been accepted before.
func validateClass(spec, old *resourcev1.DeviceClassSpec) field.ErrorList {
	errs := validateSelectors(spec.Selectors, specPath.Child("selectors"), old != nil && apiequality.Semantic.DeepEqual(spec.Selectors, old.Selectors))
	stored := old != nil && apiequality.Semantic.DeepEqual(spec.Config, old.Config)
	errs = append(errs, eachOf(spec.Config, resourcev1.DeviceConfigMaxSize, specPath.Child("config"),
		func(c *resourcev1.DeviceClassConfiguration, at *field.Path) field.ErrorList {
			return validateConfiguration(&c.DeviceConfiguration, at, stored)
		})...)
	if name := spec.ExtendedResourceName; name != nil {
		if !check.IsExtendedResource(corev1.ResourceName(*name)) {
			errs = append(errs, field.Invalid(specPath.Child("extendedResourceName"), *name, "must be a valid extended resource name"))
		}
	}
	return errs
}
