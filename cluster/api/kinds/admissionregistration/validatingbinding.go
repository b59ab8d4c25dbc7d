package admissionregistration

import (
	"context"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

type validatingBinding = admissionv1.ValidatingAdmissionPolicyBinding

// ValidatingAdmissionPolicyBinding describes admissionregistration.k8s.io/v1
// ValidatingAdmissionPolicyBinding.
func ValidatingAdmissionPolicyBinding() kind.Kind {
	return kind.Kind{
		GVK:        admissionv1.SchemeGroupVersion.WithKind("ValidatingAdmissionPolicyBinding"),
		Resource:   "validatingadmissionpolicybindings",
		Singular:   "validatingadmissionpolicybinding",
		Categories: []string{"api-extensions"},
		New:        func() kind.Object { return &validatingBinding{} },
		NewList:    func() runtime.Object { return &admissionv1.ValidatingAdmissionPolicyBindingList{} },

		NeedsResourceVersion: true,
		Default: func(obj kind.Object) {
			spec := &obj.(*validatingBinding).Spec
			defaultMatchResources(spec.MatchResources)
		},
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			spec := &obj.(*validatingBinding).Spec
			errs := validatePolicyName(spec.PolicyName, specPath.Child("policyName"))
			errs = append(errs, validateParamRef(spec.ParamRef, specPath.Child("paramRef"))...)
			// Kubernetes misspells this path; clients see what they see there.
			errs = append(errs, validateMatchResources(spec.MatchResources, specPath.Child("matchResources"))...)
			return append(errs, validateActions(spec.ValidationActions, specPath.Child("validationActions"))...)
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*validatingBinding).Spec, old.(*validatingBinding).Spec)
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("PolicyName", "PolicyName indicates the policy definition which the policy binding binded to"),
			table.Col("ParamRef", "ParamRef indicates the param resource which sets the configuration param"),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			b := obj.(*validatingBinding)
			return []any{b.Name, b.Spec.PolicyName, refOf(b.Spec.ParamRef), table.Since(b.CreationTimestamp)}
		},
	}
}

var validationActions = sets.New(admissionv1.Deny, admissionv1.Warn, admissionv1.Audit)

func validateActions(list []admissionv1.ValidationAction, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[admissionv1.ValidationAction]()
	for i, action := range list {
		errs = append(errs, check.OneOfOrBad(action, validationActions, at.Index(i))...)
		if seen.Has(action) {
			errs = append(errs, field.Duplicate(at.Index(i), action))
		}
		seen.Insert(action)
	}
	if seen.HasAll(admissionv1.Deny, admissionv1.Warn) {
		errs = append(errs, field.Invalid(at, list, "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)"))
	}
	if len(list) == 0 {
		errs = append(errs, field.Required(at, "at least one validation action is required"))
	}
	return errs
}
