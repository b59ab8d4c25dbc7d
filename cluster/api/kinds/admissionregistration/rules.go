package admissionregistration

import (
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

const wildcard = "*"

var (
	failurePolicies = sets.New(admissionv1.Ignore, admissionv1.Fail)
	matchPolicies   = sets.New(admissionv1.Exact, admissionv1.Equivalent)
	scopes          = sets.New(admissionv1.ClusterScope, admissionv1.NamespacedScope, admissionv1.AllScopes)
	operations      = sets.New(admissionv1.OperationAll, admissionv1.Create, admissionv1.Update, admissionv1.Delete, admissionv1.Connect)
	reinvocations   = sets.New(admissionv1.NeverReinvocationPolicy, admissionv1.IfNeededReinvocationPolicy)
	notFoundActions = sets.New(admissionv1.DenyAction, admissionv1.AllowAction)
)

// alone refuses a list that has "*" among others.
func alone[T ~string](list []T, what string, at *field.Path) field.ErrorList {
	if len(list) > 1 && slices.Contains(list, wildcard) {
		return field.ErrorList{field.Invalid(at, list, "if '*' is present, must not specify other "+what)}
	}
	return nil
}

func needed[T ~string](list []T, at *field.Path) field.ErrorList {
	if len(list) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	return nil
}

func validateRule(r *admissionv1.RuleWithOperations, at *field.Path) field.ErrorList {
	errs := needed(r.Operations, at.Child("operations"))
	errs = append(errs, alone(r.Operations, "operations", at.Child("operations"))...)
	for i, op := range r.Operations {
		errs = append(errs, check.OneOfOrBad(op, operations, at.Child("operations").Index(i))...)
	}
	errs = append(errs, needed(r.APIGroups, at.Child("apiGroups"))...)
	errs = append(errs, alone(r.APIGroups, "API groups", at.Child("apiGroups"))...)
	errs = append(errs, needed(r.APIVersions, at.Child("apiVersions"))...)
	errs = append(errs, alone(r.APIVersions, "API versions", at.Child("apiVersions"))...)
	for i, v := range r.APIVersions {
		if v == "" {
			errs = append(errs, field.Required(at.Child("apiVersions").Index(i), ""))
		}
	}
	errs = append(errs, validateResources(r.Resources, at.Child("resources"))...)
	return append(errs, check.OptionalOneOf(r.Scope, scopes, at.Child("scope"))...)
}

// validateResources checks entries such as "pods", "pods/status", "pods/*", "*/scale", "*" and
// "*/*": none may be within another that came before.
func validateResources(list []string, at *field.Path) field.ErrorList {
	errs := needed(list, at)
	wholes, subs := sets.New[string](), sets.New[string]()
	plain := false
	for i, entry := range list {
		at := at.Index(i)
		if entry == "" {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		resource, sub, ok := strings.Cut(entry, "/")
		if !ok {
			plain = entry != wildcard
			continue
		}
		if wholes.Has(resource) {
			errs = append(errs, field.Invalid(at, entry, fmt.Sprintf("if '%s/*' is present, must not specify %s", resource, entry)))
		}
		if subs.Has(sub) {
			errs = append(errs, field.Invalid(at, entry, fmt.Sprintf("if '*/%s' is present, must not specify %s", sub, entry)))
		}
		if sub == wildcard {
			wholes.Insert(resource)
		}
		if resource == wildcard {
			subs.Insert(sub)
		}
	}
	if len(list) > 1 && slices.Contains(list, "*/*") {
		errs = append(errs, field.Invalid(at, list, "if '*/*' is present, must not specify other resources"))
	}
	if plain && slices.Contains(list, wildcard) {
		errs = append(errs, field.Invalid(at, list, "if '*' is present, must not specify other resources without subresources"))
	}
	return errs
}

func validateMatchResources(m *admissionv1.MatchResources, at *field.Path) field.ErrorList {
	if m == nil {
		return nil
	}
	var errs field.ErrorList
	if m.MatchPolicy == nil {
		errs = append(errs, field.Required(at.Child("matchPolicy"), ""))
	}
	errs = append(errs, check.OptionalOneOf(m.MatchPolicy, matchPolicies, at.Child("matchPolicy"))...)
	if m.NamespaceSelector == nil {
		errs = append(errs, field.Required(at.Child("namespaceSelector"), ""))
	}
	if m.ObjectSelector == nil {
		errs = append(errs, field.Required(at.Child("objectSelector"), ""))
	}
	opts := metavalidation.LabelSelectorValidationOptions{}
	errs = append(errs, metavalidation.ValidateLabelSelector(m.NamespaceSelector, opts, at.Child("namespaceSelector"))...)
	errs = append(errs, metavalidation.ValidateLabelSelector(m.ObjectSelector, opts, at.Child("objectSelector"))...)
	errs = append(errs, validateNamedRules(m.ResourceRules, at.Child("resourceRules"))...)
	return append(errs, validateNamedRules(m.ExcludeResourceRules, at.Child("excludeResourceRules"))...)
}

func validateNamedRules(rules []admissionv1.NamedRuleWithOperations, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range rules {
		at, seen := at.Index(i), sets.New[string]()
		for n, name := range rules[i].ResourceNames {
			at := at.Child("resourceNames").Index(n)
			errs = append(errs, check.Invalid(name, path.ValidatePathSegmentName(name, false), at)...)
			if seen.Has(name) {
				errs = append(errs, field.Duplicate(at, name))
			}
			seen.Insert(name)
		}
		errs = append(errs, validateRule(&rules[i].RuleWithOperations, at)...)
	}
	return errs
}

// validateConstraints checks what a policy is about. At least one rule must say of what types its
// expressions are.
func validateConstraints(m *admissionv1.MatchResources, at *field.Path) field.ErrorList {
	if m == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	errs := validateMatchResources(m, at)
	if len(m.ResourceRules) == 0 {
		errs = append(errs, field.Required(at.Child("resourceRules"), ""))
	}
	return errs
}

func validateParamKind(k *admissionv1.ParamKind, at *field.Path) field.ErrorList {
	if k == nil {
		return nil
	}
	var errs field.ErrorList
	group, version, grouped := strings.Cut(k.APIVersion, "/")
	if !grouped {
		group, version = "", k.APIVersion
	}
	switch apiVersion := at.Child("apiVersion"); {
	case k.APIVersion == "":
		errs = append(errs, field.Required(apiVersion, ""))
	case strings.Contains(version, "/"):
		errs = append(errs, field.Invalid(apiVersion, k.APIVersion, "unexpected GroupVersion string: "+k.APIVersion))
	default:
		if group != "" {
			if msgs := validation.IsDNS1123Subdomain(group); len(msgs) > 0 {
				errs = append(errs, field.Invalid(apiVersion, group, strings.Join(msgs, ",")))
			}
		}
		if version == "" {
			errs = append(errs, field.Invalid(apiVersion, k.APIVersion, "version must be specified"))
		} else if msgs := validation.IsDNS1035Label(version); len(msgs) > 0 {
			errs = append(errs, field.Invalid(apiVersion, version, strings.Join(msgs, ",")))
		}
	}
	if k.Kind == "" {
		errs = append(errs, field.Required(at.Child("kind"), ""))
	} else if msgs := validation.IsDNS1035Label(strings.ToLower(k.Kind)); len(msgs) > 0 {
		errs = append(errs, field.Invalid(at.Child("kind"), k.Kind, "may have mixed case, but should otherwise match: "+strings.Join(msgs, ",")))
	}
	return errs
}

func validatePolicyName(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return check.Invalid(name, apivalidation.NameIsDNSSubdomain(name, false), at)
}

func validateParamRef(r *admissionv1.ParamRef, at *field.Path) field.ErrorList {
	if r == nil {
		return nil
	}
	const exclusive = "name and selector are mutually exclusive"
	var errs field.ErrorList
	if r.Name != "" {
		errs = append(errs, check.Invalid(r.Name, path.ValidatePathSegmentName(r.Name, false), at.Child("name"))...)
	}
	errs = append(errs, metavalidation.ValidateLabelSelector(r.Selector, metavalidation.LabelSelectorValidationOptions{}, at.Child("selector"))...)
	switch {
	case r.Name != "" && r.Selector != nil:
		errs = append(errs, field.Forbidden(at.Child("name"), exclusive), field.Forbidden(at.Child("selector"), exclusive))
	case r.Name == "" && r.Selector == nil:
		errs = append(errs, field.Required(at, "one of name or selector must be specified"))
	}
	action := at.Child("parameterNotFoundAction")
	if r.ParameterNotFoundAction == nil || *r.ParameterNotFoundAction == "" {
		return append(errs, field.Required(action, ""))
	}
	return append(errs, check.OneOfOrBad(*r.ParameterNotFoundAction, notFoundActions, action)...)
}

// required is a value that defaults fill in, yet a client may have set to nothing.
func required[T ~string](v *T, valid sets.Set[T], at *field.Path) field.ErrorList {
	if v == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	return check.OneOfOrBad(*v, valid, at)
}

// kindOf is the cell that says what kind the parameters of a policy are of.
func kindOf(k *admissionv1.ParamKind) string {
	if k == nil {
		return "<unset>"
	}
	return k.APIVersion + "/" + k.Kind
}

// refOf is the cell that says what parameters a binding uses.
func refOf(r *admissionv1.ParamRef) string {
	switch {
	case r == nil:
		return "<unset>"
	case r.Selector != nil:
		return r.Namespace + "/*"
	case r.Namespace != "":
		return r.Namespace + "/" + r.Name
	}
	return r.Name
}
