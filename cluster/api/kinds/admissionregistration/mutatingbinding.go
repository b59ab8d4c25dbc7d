package admissionregistration

import (
	"context"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

type mutatingBinding = admissionv1.MutatingAdmissionPolicyBinding

// MutatingAdmissionPolicyBinding describes admissionregistration.k8s.io/v1
// MutatingAdmissionPolicyBinding.
func MutatingAdmissionPolicyBinding() kind.Kind {
	return kind.Kind{
		GVK:        admissionv1.SchemeGroupVersion.WithKind("MutatingAdmissionPolicyBinding"),
		Resource:   "mutatingadmissionpolicybindings",
		Singular:   "mutatingadmissionpolicybinding",
		Categories: []string{"api-extensions"},
		New:        func() kind.Object { return &mutatingBinding{} },
		NewList:    func() runtime.Object { return &admissionv1.MutatingAdmissionPolicyBindingList{} },

		NeedsResourceVersion: true,
		Default: func(obj kind.Object) {
			spec := &obj.(*mutatingBinding).Spec
			defaultMatchResources(spec.MatchResources)
		},
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			spec := &obj.(*mutatingBinding).Spec
			errs := validatePolicyName(spec.PolicyName, specPath.Child("policyName"))
			errs = append(errs, validateParamRef(spec.ParamRef, specPath.Child("paramRef"))...)
			errs = append(errs, validateMatchResources(spec.MatchResources, specPath.Child("matchResources"))...)
			return append(errs, validateMutable(spec.MatchResources, specPath.Child("matchResources"))...)
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*mutatingBinding).Spec, old.(*mutatingBinding).Spec)
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("PolicyName", "PolicyName indicates the policy definition which the policy binding binded to"),
			table.Col("ParamRef", "ParamRef indicates the param resource which sets the configuration param"),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			b := obj.(*mutatingBinding)
			return []any{b.Name, b.Spec.PolicyName, mutatingRef(b.Spec.ParamRef), table.Since(b.CreationTimestamp)}
		},
	}
}

// mutatingRef is [refOf], but shows what selects parameters that have no name.
func mutatingRef(ref *admissionv1.ParamRef) string {
	if ref == nil || ref.Name != "" {
		return refOf(ref)
	}
	if ref.Selector == nil {
		return "<unset>"
	}
	return ref.Selector.String()
}
