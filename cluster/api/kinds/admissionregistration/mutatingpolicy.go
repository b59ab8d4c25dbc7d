package admissionregistration

import (
	"context"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

type mutatingPolicy = admissionv1.MutatingAdmissionPolicy

// MutatingAdmissionPolicy describes admissionregistration.k8s.io/v1 MutatingAdmissionPolicy.
func MutatingAdmissionPolicy() kind.Kind {
	return kind.Kind{
		GVK:        admissionv1.SchemeGroupVersion.WithKind("MutatingAdmissionPolicy"),
		Resource:   "mutatingadmissionpolicies",
		Singular:   "mutatingadmissionpolicy",
		Categories: []string{"api-extensions"},
		New:        func() kind.Object { return &mutatingPolicy{} },
		NewList:    func() runtime.Object { return &admissionv1.MutatingAdmissionPolicyList{} },

		NeedsResourceVersion: true,
		Default: func(obj kind.Object) {
			spec := &obj.(*mutatingPolicy).Spec
			set(&spec.FailurePolicy, admissionv1.Fail)
			defaultMatchResources(spec.MatchConstraints)
		},
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateMutatingPolicy(&obj.(*mutatingPolicy).Spec, nil)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			return validateMutatingPolicy(&obj.(*mutatingPolicy).Spec, mutatingExpressions(&old.(*mutatingPolicy).Spec))
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*mutatingPolicy).Spec, old.(*mutatingPolicy).Spec)
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Int("Mutations", "Mutation indicates the number of mutations rules defined in this configuration"),
			table.Col("ParamKind", "ParamKind specifies the kind of resources used to parameterize this policy"),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			p := obj.(*mutatingPolicy)
			return []any{p.Name, int64(len(p.Spec.Mutations)), kindOf(p.Spec.ParamKind), table.Since(p.CreationTimestamp)}
		},
	}
}

// mutable are the operations that have an object to change.
var mutable = sets.New(admissionv1.OperationAll, admissionv1.Create, admissionv1.Update, admissionv1.Connect)

var patchTypes = sets.New(admissionv1.PatchTypeApplyConfiguration, admissionv1.PatchTypeJSONPatch)

func validateMutatingPolicy(spec *admissionv1.MutatingAdmissionPolicySpec, before []string) field.ErrorList {
	if errs := validateSize(mutatingExpressions(spec), before, specPath); errs != nil {
		return errs
	}
	errs := required(spec.FailurePolicy, failurePolicies, specPath.Child("failurePolicy"))
	errs = append(errs, validateParamKind(spec.ParamKind, specPath.Child("paramKind"))...)
	errs = append(errs, validateConstraints(spec.MatchConstraints, specPath.Child("matchConstraints"))...)
	errs = append(errs, validateMutable(spec.MatchConstraints, specPath.Child("matchConstraints"))...)
	e, err := newExpressions(len(spec.Variables) > 0, spec.ParamKind != nil, before)
	if err != nil {
		return append(errs, internal(specPath, err)...)
	}
	errs = append(errs, e.conditions(spec.MatchConditions, specPath.Child("matchConditions"))...)
	errs = append(errs, e.variables(spec.Variables, specPath.Child("variables"))...)
	if len(spec.Mutations) == 0 {
		errs = append(errs, field.Required(specPath.Child("mutations"), "mutations must contain at least one item"))
	}
	for i := range spec.Mutations {
		errs = append(errs, e.mutation(&spec.Mutations[i], specPath.Child("mutations").Index(i))...)
	}
	return append(errs, check.OneOf(spec.ReinvocationPolicy, reinvocations, specPath.Child("reinvocationPolicy"))...)
}

func validateMutable(m *admissionv1.MatchResources, at *field.Path) field.ErrorList {
	if m == nil {
		return nil
	}
	var errs field.ErrorList
	for _, r := range m.ResourceRules {
		for _, op := range r.Operations {
			errs = append(errs, check.OneOfOrBad(op, mutable, at.Child("resourceRules", "operations"))...)
		}
	}
	return errs
}

func (e *expressions) mutation(m *admissionv1.Mutation, at *field.Path) field.ErrorList {
	const must, mustNot = "must be specified when patchType is ", "must not be specified when patchType is "
	apply, json := at.Child("applyConfiguration"), at.Child("jsonPatch")
	var errs field.ErrorList
	switch m.PatchType {
	case admissionv1.PatchTypeApplyConfiguration:
		if m.ApplyConfiguration == nil {
			errs = append(errs, field.Required(apply, must+"ApplyConfiguration"))
		} else {
			errs = append(errs, e.patch(&patch.ApplyConfigurationCondition{Expression: m.ApplyConfiguration.Expression}, apply)...)
		}
		if m.JSONPatch != nil {
			errs = append(errs, field.Invalid(json, "{jsonPatch}", mustNot+"ApplyConfiguration"))
		}
	case admissionv1.PatchTypeJSONPatch:
		if m.JSONPatch == nil {
			errs = append(errs, field.Required(json, must+"JSONPatch"))
		} else {
			errs = append(errs, e.patch(&patch.JSONPatchCondition{Expression: m.JSONPatch.Expression}, json)...)
		}
		if m.ApplyConfiguration != nil {
			errs = append(errs, field.Invalid(apply, "{applyConfiguration}", mustNot+"JSONPatch"))
		}
	default:
		errs = append(errs, check.OneOf(m.PatchType, patchTypes, at.Child("patchType"))...)
	}
	return errs
}

func (e *expressions) patch(x plugincel.ExpressionAccessor, at *field.Path) field.ErrorList {
	if strings.TrimSpace(x.GetExpression()) == "" {
		return field.ErrorList{field.Required(at.Child("expression"), "")}
	}
	return e.check(x, true, true, at.Child("expression"))
}

func mutatingExpressions(spec *admissionv1.MutatingAdmissionPolicySpec) []string {
	out := conditionExpressions(spec.MatchConditions)
	for _, v := range spec.Variables {
		out = append(out, v.Expression)
	}
	for _, m := range spec.Mutations {
		if m.ApplyConfiguration != nil {
			out = append(out, m.ApplyConfiguration.Expression)
		}
		if m.JSONPatch != nil {
			out = append(out, m.JSONPatch.Expression)
		}
	}
	return out
}
