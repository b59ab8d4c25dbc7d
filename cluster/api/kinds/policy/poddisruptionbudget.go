package policy

import (
	"context"

	policyv1 "k8s.io/api/policy/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// PodDisruptionBudget describes policy/v1 PodDisruptionBudget.
func PodDisruptionBudget() kind.Kind {
	return kind.Kind{
		GVK:          policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"),
		Resource:     "poddisruptionbudgets",
		Singular:     "poddisruptionbudget",
		ShortNames:   []string{"pdb"},
		Namespaced:   true,
		ValidateName: path.ValidatePathSegmentName,
		New:          func() kind.Object { return &policyv1.PodDisruptionBudget{} },
		NewList:      func() runtime.Object { return &policyv1.PodDisruptionBudgetList{} },

		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateBudget(&obj.(*policyv1.PodDisruptionBudget).Spec)
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			obj.(*policyv1.PodDisruptionBudget).Status = policyv1.PodDisruptionBudgetStatus{}
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			obj.(*policyv1.PodDisruptionBudget).Status = old.(*policyv1.PodDisruptionBudget).Status
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*policyv1.PodDisruptionBudget).Spec, old.(*policyv1.PodDisruptionBudget).Spec)
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				obj.(*policyv1.PodDisruptionBudget).Spec = old.(*policyv1.PodDisruptionBudget).Spec
			},
			Validate: func(_ context.Context, obj, _ kind.Object) field.ErrorList {
				return validateBudgetStatus(&obj.(*policyv1.PodDisruptionBudget).Status)
			},
		},

		NeedsResourceVersion: true,
		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Min Available", "The minimum number of pods that must be available."),
			table.Col("Max Unavailable", "The maximum number of pods that may be unavailable."),
			table.Int("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time."),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			b := obj.(*policyv1.PodDisruptionBudget)
			return []any{b.Name, amount(b.Spec.MinAvailable), amount(b.Spec.MaxUnavailable), int64(b.Status.DisruptionsAllowed), table.Since(b.CreationTimestamp)}
		},
	}
}

func amount(v *intstr.IntOrString) string {
	if v == nil {
		return "N/A"
	}
	return v.String()
}

var evictionPolicies = sets.New(policyv1.IfHealthyBudget, policyv1.AlwaysAllow)

func validateBudget(spec *policyv1.PodDisruptionBudgetSpec) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec")
	if spec.MinAvailable != nil && spec.MaxUnavailable != nil {
		errs = append(errs, field.Invalid(path, *spec, "minAvailable and maxUnavailable cannot be both set"))
	}
	for _, bound := range []struct {
		child string
		value *intstr.IntOrString
	}{{"minAvailable", spec.MinAvailable}, {"maxUnavailable", spec.MaxUnavailable}} {
		if bound.value != nil {
			errs = append(errs, check.NonNegativeIntOrPercent(*bound.value, path.Child(bound.child))...)
			errs = append(errs, check.AtMost100Percent(*bound.value, path.Child(bound.child))...)
		}
	}
	errs = append(errs, metavalidation.ValidateLabelSelector(spec.Selector, metavalidation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	return append(errs, check.OptionalOneOf(spec.UnhealthyPodEvictionPolicy, evictionPolicies, path.Child("unhealthyPodEvictionPolicy"))...)
}

func validateBudgetStatus(s *policyv1.PodDisruptionBudgetStatus) field.ErrorList {
	path := field.NewPath("status")
	errs := metavalidation.ValidateConditions(s.Conditions, path.Child("conditions"))
	errs = append(errs, check.NonNegative(s.DisruptionsAllowed, path.Child("disruptionsAllowed"))...)
	errs = append(errs, check.NonNegative(s.CurrentHealthy, path.Child("currentHealthy"))...)
	errs = append(errs, check.NonNegative(s.DesiredHealthy, path.Child("desiredHealthy"))...)
	return append(errs, check.NonNegative(s.ExpectedPods, path.Child("expectedPods"))...)
}
