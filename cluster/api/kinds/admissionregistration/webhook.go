package admissionregistration

import (
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	webhookutil "k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

// sideEffects are those that a hook may have: none that a dry run could not avoid.
var sideEffects = sets.New(admissionv1.SideEffectClassNone, admissionv1.SideEffectClassNoneOnDryRun)

// reviewVersions are the versions of AdmissionReview that the server speaks.
var reviewVersions = []string{"v1", "v1beta1"}

const maxTimeout = 30

// validateHooks checks the hooks of a configuration. Hooks that mutate come as the other kind, with
// which they share all but the reinvocation policy.
func validateHooks(hooks []admissionv1.ValidatingWebhook, before []string) field.ErrorList {
	if errs := validateSize(hookExpressions(hooks), before, field.NewPath("webhooks")); errs != nil {
		return errs
	}
	var errs field.ErrorList
	e, err := newExpressions(false, false, before)
	if err != nil {
		return internal(field.NewPath("webhooks"), err)
	}
	names := sets.New[string]()
	for i := range hooks {
		h, at := &hooks[i], field.NewPath("webhooks").Index(i)
		errs = append(errs, validateHook(h, e, at)...)
		errs = append(errs, validateReviewVersions(h.AdmissionReviewVersions, at.Child("admissionReviewVersions"))...)
		if h.Name != "" && names.Has(h.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), h.Name))
		}
		names.Insert(h.Name)
	}
	return errs
}

func validateHook(h *admissionv1.ValidatingWebhook, e *expressions, at *field.Path) field.ErrorList {
	errs := validation.IsFullyQualifiedName(at.Child("name"), h.Name)
	for i := range h.Rules {
		errs = append(errs, validateRule(&h.Rules[i], at.Child("rules").Index(i))...)
	}
	errs = append(errs, check.OptionalOneOf(h.FailurePolicy, failurePolicies, at.Child("failurePolicy"))...)
	errs = append(errs, check.OptionalOneOf(h.MatchPolicy, matchPolicies, at.Child("matchPolicy"))...)
	if h.SideEffects == nil {
		errs = append(errs, field.Required(at.Child("sideEffects"), "must specify one of None, NoneOnDryRun"))
	}
	errs = append(errs, check.OptionalOneOf(h.SideEffects, sideEffects, at.Child("sideEffects"))...)
	if t := h.TimeoutSeconds; t != nil && (*t < 1 || *t > maxTimeout) {
		errs = append(errs, field.Invalid(at.Child("timeoutSeconds"), *t, "the timeout value must be between 1 and 30 seconds"))
	}
	opts := metavalidation.LabelSelectorValidationOptions{}
	errs = append(errs, metavalidation.ValidateLabelSelector(h.NamespaceSelector, opts, at.Child("namespaceSelector"))...)
	errs = append(errs, metavalidation.ValidateLabelSelector(h.ObjectSelector, opts, at.Child("objectSelector"))...)
	errs = append(errs, validateClient(&h.ClientConfig, at.Child("clientConfig"))...)
	return append(errs, e.conditions(h.MatchConditions, at.Child("matchConditions"))...)
}

func validateClient(c *admissionv1.WebhookClientConfig, at *field.Path) field.ErrorList {
	switch {
	case (c.URL == nil) == (c.Service == nil):
		return field.ErrorList{field.Required(at, "exactly one of url or service is required")}
	case c.URL != nil:
		return webhookutil.ValidateWebhookURL(at.Child("url"), *c.URL, true)
	}
	s := c.Service
	return webhookutil.ValidateWebhookService(at.Child("service"), s.Namespace, s.Name, s.Path, ptr.Deref(s.Port, 0))
}

func validateReviewVersions(list []string, at *field.Path) field.ErrorList {
	known := strings.Join(reviewVersions, ", ")
	if len(list) == 0 {
		return field.ErrorList{field.Required(at, "must specify one of "+known)}
	}
	var errs field.ErrorList
	seen, good := sets.New[string](), false
	for i, v := range list {
		if seen.Has(v) {
			errs = append(errs, field.Invalid(at.Index(i), v, "duplicate version"))
			continue
		}
		seen.Insert(v)
		errs = append(errs, check.Invalid(v, validation.IsDNS1035Label(v), at.Index(i))...)
		good = good || slices.Contains(reviewVersions, v)
	}
	if !good {
		errs = append(errs, field.Invalid(at, list, fmt.Sprintf("must include at least one of %v", known)))
	}
	return errs
}

// hookExpressions are the expressions that hooks have.
func hookExpressions(hooks []admissionv1.ValidatingWebhook) []string {
	var out []string
	for i := range hooks {
		out = append(out, conditionExpressions(hooks[i].MatchConditions)...)
	}
	return out
}

func conditionExpressions(list []admissionv1.MatchCondition) []string {
	var out []string
	for _, c := range list {
		out = append(out, c.Expression)
		if trimmed := strings.TrimSpace(c.Expression); trimmed != c.Expression {
			out = append(out, trimmed)
		}
	}
	return out
}

// defaultHook fills in what both sorts of hooks share.
func defaultHook(failure **admissionv1.FailurePolicyType, match **admissionv1.MatchPolicyType, timeout **int32,
	namespaces, objects **metav1.LabelSelector, rules []admissionv1.RuleWithOperations, c *admissionv1.WebhookClientConfig) {
	set(failure, admissionv1.Fail)
	set(match, admissionv1.Equivalent)
	set(timeout, defaultTimeout)
	set(namespaces, metav1.LabelSelector{})
	set(objects, metav1.LabelSelector{})
	for i := range rules {
		defaultRule(&rules[i].Rule)
	}
	defaultClient(c)
}
