package resource

import (
	"context"

	resourcev1 "k8s.io/api/resource/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
)

// ResourceClaimTemplate describes resource.k8s.io/v1 ResourceClaimTemplate.
func ResourceClaimTemplate() kind.Kind {
	return kind.Kind{
		GVK:        resourcev1.SchemeGroupVersion.WithKind("ResourceClaimTemplate"),
		Resource:   "resourceclaimtemplates",
		Singular:   "resourceclaimtemplate",
		Namespaced: true,
		New:        func() kind.Object { return &resourcev1.ResourceClaimTemplate{} },
		NewList:    func() runtime.Object { return &resourcev1.ResourceClaimTemplateList{} },

		Default: func(obj kind.Object) { defaultClaim(&obj.(*resourcev1.ResourceClaimTemplate).Spec.Spec.Devices) },
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateTemplate(&obj.(*resourcev1.ResourceClaimTemplate).Spec)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			spec := &obj.(*resourcev1.ResourceClaimTemplate).Spec
			return append(validateTemplate(spec), apivalidation.ValidateImmutableField(*spec, old.(*resourcev1.ResourceClaimTemplate).Spec, specPath)...)
		},

		Columns: nameAndAge,
		Row:     nameAndAgeRow,
	}
}

func validateTemplate(spec *resourcev1.ResourceClaimTemplateSpec) field.ErrorList {
	at := specPath.Child("metadata")
	errs := metav1validation.ValidateLabels(spec.Labels, at.Child("labels"))
	errs = append(errs, apivalidation.ValidateAnnotations(spec.Annotations, at.Child("annotations"))...)
	return append(errs, validateClaim(&spec.Spec.Devices, specPath.Child("spec", "devices"))...)
}
