package admissionregistration

import (
	"context"
	"fmt"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/client-go/util/jsonpath"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

type validatingPolicy = admissionv1.ValidatingAdmissionPolicy

var (
	specPath   = field.NewPath("spec")
	statusPath = field.NewPath("status")
)

// ValidatingAdmissionPolicy describes admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy.
func ValidatingAdmissionPolicy() kind.Kind {
	return kind.Kind{
		GVK:        admissionv1.SchemeGroupVersion.WithKind("ValidatingAdmissionPolicy"),
		Resource:   "validatingadmissionpolicies",
		Singular:   "validatingadmissionpolicy",
		Categories: []string{"api-extensions"},
		New:        func() kind.Object { return &validatingPolicy{} },
		NewList:    func() runtime.Object { return &admissionv1.ValidatingAdmissionPolicyList{} },

		NeedsResourceVersion: true,
		Default: func(obj kind.Object) {
			spec := &obj.(*validatingPolicy).Spec
			set(&spec.FailurePolicy, admissionv1.Fail)
			defaultMatchResources(spec.MatchConstraints)
		},
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateValidatingPolicy(obj.(*validatingPolicy), nil)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			return validateValidatingPolicy(obj.(*validatingPolicy), validatingExpressions(&old.(*validatingPolicy).Spec))
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			obj.(*validatingPolicy).Status = admissionv1.ValidatingAdmissionPolicyStatus{}
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			obj.(*validatingPolicy).Status = old.(*validatingPolicy).Status
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*validatingPolicy).Spec, old.(*validatingPolicy).Spec)
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				obj.(*validatingPolicy).Spec = old.(*validatingPolicy).Spec
			},
			Validate: func(_ context.Context, obj, _ kind.Object) field.ErrorList {
				return validatePolicyStatus(&obj.(*validatingPolicy).Status)
			},
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Int("Validations", "Validations indicates the number of validation rules defined in this configuration"),
			table.Col("ParamKind", "ParamKind specifies the kind of resources used to parameterize this policy"),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			p := obj.(*validatingPolicy)
			return []any{p.Name, int64(len(p.Spec.Validations)), kindOf(p.Spec.ParamKind), table.Since(p.CreationTimestamp)}
		},
	}
}

const (
	maxAuditAnnotations = 20
	// maxAnnotationExpression is in bytes. What an expression yields may be twice as long.
	maxAnnotationExpression = 5 << 10
)

var reasons = sets.New(metav1.StatusReasonForbidden, metav1.StatusReasonInvalid, metav1.StatusReasonRequestEntityTooLarge)

func validateValidatingPolicy(p *validatingPolicy, before []string) field.ErrorList {
	spec := &p.Spec
	if errs := validateSize(validatingExpressions(spec), before, specPath); errs != nil {
		return errs
	}
	errs := required(spec.FailurePolicy, failurePolicies, specPath.Child("failurePolicy"))
	errs = append(errs, validateParamKind(spec.ParamKind, specPath.Child("paramKind"))...)
	errs = append(errs, validateConstraints(spec.MatchConstraints, specPath.Child("matchConstraints"))...)
	e, err := newExpressions(len(spec.Variables) > 0, spec.ParamKind != nil, before)
	if err != nil {
		return append(errs, internal(specPath, err)...)
	}
	errs = append(errs, e.conditions(spec.MatchConditions, specPath.Child("matchConditions"))...)
	errs = append(errs, e.variables(spec.Variables, specPath.Child("variables"))...)
	if len(spec.Validations) == 0 && len(spec.AuditAnnotations) == 0 {
		const need = "validations or auditAnnotations must contain at least one item"
		return append(errs, field.Required(specPath.Child("validations"), need), field.Required(specPath.Child("auditAnnotations"), need))
	}
	for i := range spec.Validations {
		errs = append(errs, e.validation(&spec.Validations[i], specPath.Child("validations").Index(i))...)
	}
	return append(errs, e.annotations(p, specPath.Child("auditAnnotations"))...)
}

func (e *expressions) validation(v *admissionv1.Validation, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if strings.TrimSpace(v.Expression) == "" {
		errs = append(errs, field.Required(at.Child("expression"), "expression is not specified"))
	} else {
		errs = append(errs, e.check(&validating.ValidationCondition{Expression: v.Expression}, true, false, at.Child("expression"))...)
	}
	switch {
	case v.MessageExpression == "":
	case strings.TrimSpace(v.MessageExpression) == "":
		errs = append(errs, field.Invalid(at.Child("messageExpression"), v.MessageExpression, "must be non-empty if specified"))
	default:
		x := &validating.MessageExpressionCondition{MessageExpression: v.MessageExpression}
		errs = append(errs, e.check(x, false, false, at.Child("messageExpression"))...)
	}
	message := strings.TrimSpace(v.Message)
	switch {
	case v.Message != "" && message == "":
		errs = append(errs, field.Invalid(at.Child("message"), v.Message, "message must be non-empty if specified"))
	case strings.ContainsAny(message, "\n\r"):
		errs = append(errs, field.Invalid(at.Child("message"), v.Message, "message must not contain line breaks"))
	}
	return append(errs, check.OptionalOneOf(v.Reason, reasons, at.Child("reason"))...)
}

func (e *expressions) annotations(p *validatingPolicy, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	list := p.Spec.AuditAnnotations
	if len(list) > maxAuditAnnotations {
		errs = append(errs, field.Invalid(path, list, fmt.Sprintf("must not have more than %d auditAnnotations", maxAuditAnnotations)))
		list = list[:maxAuditAnnotations]
	}
	seen := sets.New[string]()
	for i, a := range list {
		at := path.Index(i)
		if p.Name == "" {
			errs = append(errs, field.Invalid(at.Child("key"), a.Key, "requires metadata.name be non-empty"))
		} else {
			errs = append(errs, check.QualifiedName(p.Name+"/"+a.Key, at.Child("key"))...)
		}
		switch x := strings.TrimSpace(a.ValueExpression); {
		case x == "":
			errs = append(errs, field.Required(at.Child("valueExpression"), "valueExpression is not specified"))
		case len(x) > maxAnnotationExpression:
			errs = append(errs, field.Required(at.Child("valueExpression"), fmt.Sprintf("must not exceed %d bytes in length", maxAnnotationExpression)))
		default:
			errs = append(errs, e.check(&validating.AuditAnnotationCondition{ValueExpression: x}, true, false, at.Child("valueExpression"))...)
		}
		if seen.Has(a.Key) {
			errs = append(errs, field.Duplicate(at.Child("key"), a.Key))
		}
		seen.Insert(a.Key)
	}
	return errs
}

func validatingExpressions(spec *admissionv1.ValidatingAdmissionPolicySpec) []string {
	out := conditionExpressions(spec.MatchConditions)
	for _, v := range spec.Variables {
		out = append(out, v.Expression)
	}
	for _, v := range spec.Validations {
		out = append(out, v.Expression, v.MessageExpression)
	}
	for _, a := range spec.AuditAnnotations {
		out = append(out, strings.TrimSpace(a.ValueExpression))
	}
	return out
}

func validatePolicyStatus(s *admissionv1.ValidatingAdmissionPolicyStatus) field.ErrorList {
	var errs field.ErrorList
	if s.TypeChecking != nil {
		for i, w := range s.TypeChecking.ExpressionWarnings {
			at := statusPath.Child("typeChecking", "expressionWarnings").Index(i)
			if w.Warning == "" {
				errs = append(errs, field.Required(at.Child("warning"), ""))
			}
			ref := strings.TrimSpace(w.FieldRef)
			if ref == "" {
				errs = append(errs, field.Required(at.Child("fieldRef"), ""))
			} else if err := jsonpath.New("spec").Parse("{" + ref + "}"); err != nil {
				errs = append(errs, field.Invalid(at.Child("fieldRef"), ref, fmt.Sprintf("invalid JSONPath: %v", err)))
			}
		}
	}
	return append(errs, metavalidation.ValidateConditions(s.Conditions, statusPath.Child("conditions"))...)
}
