package flowcontrol

import (
	"context"
	"fmt"
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

type flowSchema = flowcontrolv1.FlowSchema

var specPath = field.NewPath("spec")

// defaultPrecedence is that of schemas that state none.
const defaultPrecedence = 1000

// FlowSchema describes flowcontrol.apiserver.k8s.io/v1 FlowSchema.
func FlowSchema() kind.Kind {
	return kind.Kind{
		GVK:      flowcontrolv1.SchemeGroupVersion.WithKind("FlowSchema"),
		Resource: "flowschemas",
		Singular: "flowschema",
		New:      func() kind.Object { return &flowSchema{} },
		NewList:  func() runtime.Object { return &flowcontrolv1.FlowSchemaList{} },

		Default: func(obj kind.Object) {
			if spec := &obj.(*flowSchema).Spec; spec.MatchingPrecedence == 0 {
				spec.MatchingPrecedence = defaultPrecedence
			}
		},
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateSchema(obj.(*flowSchema))
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			obj.(*flowSchema).Status = flowcontrolv1.FlowSchemaStatus{}
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			obj.(*flowSchema).Status = old.(*flowSchema).Status
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*flowSchema).Spec, old.(*flowSchema).Spec)
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				obj.(*flowSchema).Spec = old.(*flowSchema).Spec
			},
			Validate: func(_ context.Context, obj, _ kind.Object) field.ErrorList {
				return validateConditions(obj.(*flowSchema).Status.Conditions, func(c flowcontrolv1.FlowSchemaCondition) string { return string(c.Type) })
			},
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("PriorityLevel", flowcontrolv1.PriorityLevelConfigurationReference{}.SwaggerDoc()["name"]),
			table.Col("MatchingPrecedence", flowcontrolv1.FlowSchemaSpec{}.SwaggerDoc()["matchingPrecedence"]),
			table.Col("DistinguisherMethod", flowcontrolv1.FlowSchemaSpec{}.SwaggerDoc()["distinguisherMethod"]),
			table.Age(),
			table.Col("MissingPL", "references a broken or non-existent PriorityLevelConfiguration"),
		},
		Row: func(obj kind.Object) []any {
			s := obj.(*flowSchema)
			method := table.None
			if m := s.Spec.DistinguisherMethod; m != nil {
				method = string(m.Type)
			}
			missing := "?"
			for _, c := range s.Status.Conditions {
				if c.Type == flowcontrolv1.FlowSchemaConditionDangling {
					missing = string(c.Status)
				}
			}
			return []any{s.Name, s.Spec.PriorityLevelConfiguration.Name, int64(s.Spec.MatchingPrecedence), method, table.Since(s.CreationTimestamp), missing}
		},
	}
}

const all = "*"

var (
	distinguishers = sets.New(flowcontrolv1.FlowDistinguisherMethodByNamespaceType, flowcontrolv1.FlowDistinguisherMethodByUserType)
	subjectKinds   = sets.New(flowcontrolv1.SubjectKindServiceAccount, flowcontrolv1.SubjectKindGroup, flowcontrolv1.SubjectKindUser)
	verbs          = sets.New("get", "list", "create", "update", "delete", "deletecollection", "patch", "watch", "proxy")
)

func validateSchema(s *flowSchema) field.ErrorList {
	spec := &s.Spec
	var errs field.ErrorList
	at := specPath.Child("matchingPrecedence")
	if spec.MatchingPrecedence <= 0 {
		errs = append(errs, field.Invalid(at, spec.MatchingPrecedence, "must be a positive value"))
	}
	if spec.MatchingPrecedence > flowcontrolv1.FlowSchemaMaxMatchingPrecedence {
		errs = append(errs, field.Invalid(at, spec.MatchingPrecedence, fmt.Sprintf("must not be greater than %v", flowcontrolv1.FlowSchemaMaxMatchingPrecedence)))
	}
	if spec.MatchingPrecedence == 1 && s.Name != flowcontrolv1.FlowSchemaNameExempt {
		errs = append(errs, field.Invalid(at, spec.MatchingPrecedence, "only the schema named 'exempt' may have matchingPrecedence 1"))
	}
	if m := spec.DistinguisherMethod; m != nil {
		if !distinguishers.Has(m.Type) {
			errs = append(errs, field.NotSupported(specPath.Child("distinguisherMethod", "type"), *m, sets.List(distinguishers)))
		}
	}
	level := specPath.Child("priorityLevelConfiguration", "name")
	if name := spec.PriorityLevelConfiguration.Name; name == "" {
		errs = append(errs, field.Required(level, "must reference a priority level"))
	} else {
		errs = append(errs, check.Invalid(name, apivalidation.NameIsDNSSubdomain(name, false), level)...)
	}
	for i := range spec.Rules {
		errs = append(errs, validateRule(&spec.Rules[i], specPath.Child("rules").Index(i))...)
	}
	if fixed := mandatorySchema(s.Name); fixed != nil && !apiequality.Semantic.DeepEqual(s.Spec, fixed.Spec) {
		errs = append(errs, field.Invalid(specPath, s.Spec, fmt.Sprintf("spec of '%s' must equal the fixed value", s.Name)))
	}
	return errs
}

func validateRule(r *flowcontrolv1.PolicyRulesWithSubjects, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(r.Subjects) == 0 {
		errs = append(errs, field.Required(at.Child("subjects"), "subjects must contain at least one value"))
	}
	for i := range r.Subjects {
		errs = append(errs, validateSubject(&r.Subjects[i], at.Child("subjects").Index(i))...)
	}
	if len(r.ResourceRules) == 0 && len(r.NonResourceRules) == 0 {
		errs = append(errs, field.Required(at, "at least one of resourceRules and nonResourceRules has to be non-empty"))
	}
	for i := range r.ResourceRules {
		errs = append(errs, validateResourceRule(&r.ResourceRules[i], at.Child("resourceRules").Index(i))...)
	}
	for i := range r.NonResourceRules {
		errs = append(errs, validateNonResourceRule(&r.NonResourceRules[i], at.Child("nonResourceRules").Index(i))...)
	}
	return errs
}

func validateSubject(s *flowcontrolv1.Subject, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	foreign := func(set bool, child string, kind flowcontrolv1.SubjectKind) {
		if set && s.Kind != kind && subjectKinds.Has(s.Kind) {
			errs = append(errs, field.Forbidden(at.Child(child), fmt.Sprintf("%s is forbidden when subject kind is not '%s'", child, kind)))
		}
	}
	missing := func(child string) {
		errs = append(errs, field.Required(at.Child(child), fmt.Sprintf("%s is required when subject kind is '%s'", child, s.Kind)))
	}
	name := func(child, name string) {
		if name == "" {
			errs = append(errs, field.Required(at.Child(child, "name"), ""))
		}
	}
	switch s.Kind {
	case flowcontrolv1.SubjectKindServiceAccount:
		if s.ServiceAccount == nil {
			missing("serviceAccount")
		} else {
			errs = append(errs, validateAccount(s.ServiceAccount, at.Child("serviceAccount"))...)
		}
	case flowcontrolv1.SubjectKindUser:
		if s.User == nil {
			missing("user")
		} else {
			name("user", s.User.Name)
		}
	case flowcontrolv1.SubjectKindGroup:
		if s.Group == nil {
			missing("group")
		} else {
			name("group", s.Group.Name)
		}
	default:
		errs = append(errs, check.OneOfOrBad(s.Kind, subjectKinds, at.Child("kind"))...)
	}
	foreign(s.ServiceAccount != nil, "serviceAccount", flowcontrolv1.SubjectKindServiceAccount)
	foreign(s.User != nil, "user", flowcontrolv1.SubjectKindUser)
	foreign(s.Group != nil, "group", flowcontrolv1.SubjectKindGroup)
	return errs
}

func validateAccount(s *flowcontrolv1.ServiceAccountSubject, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch s.Name {
	case "":
		errs = append(errs, field.Required(at.Child("name"), ""))
	case all:
	default:
		errs = append(errs, check.Invalid(s.Name, apivalidation.ValidateServiceAccountName(s.Name, false), at.Child("name"))...)
	}
	if s.Namespace == "" {
		return append(errs, field.Required(at.Child("namespace"), "must specify namespace for service account"))
	}
	return append(errs, check.Invalid(s.Namespace, apivalidation.ValidateNamespaceName(s.Namespace, false), at.Child("namespace"))...)
}

// validateList checks that a list has something, and that "*" is alone in it; done says that it is.
func validateList(list []string, missing, what string, at *field.Path) (errs field.ErrorList, done bool) {
	switch {
	case len(list) == 0:
		return field.ErrorList{field.Required(at, missing)}, true
	case !slices.Contains(list, all):
		return nil, false
	case len(list) > 1:
		return field.ErrorList{field.Invalid(at, list, "if '*' is present, must not specify other "+what)}, true
	}
	return nil, true
}

func validateVerbs(list []string, at *field.Path) field.ErrorList {
	errs, done := validateList(list, "verbs must contain at least one value", "verbs", at)
	if !done && !verbs.HasAll(list...) {
		errs = append(errs, field.NotSupported(at, list, sets.List(verbs)))
	}
	return errs
}

func validateResourceRule(r *flowcontrolv1.ResourcePolicyRule, at *field.Path) field.ErrorList {
	errs := validateVerbs(r.Verbs, at.Child("verbs"))
	groups, _ := validateList(r.APIGroups, "resource rules must supply at least one api group", "api groups", at.Child("apiGroups"))
	resources, _ := validateList(r.Resources, "resource rules must supply at least one resource", "resources", at.Child("resources"))
	errs = append(append(errs, groups...), resources...)
	if len(r.Namespaces) == 0 && r.ClusterScope {
		return errs
	}
	path := at.Child("namespaces")
	names, done := validateList(r.Namespaces, "resource rules that are not cluster scoped must supply at least one namespace", "namespaces", path)
	errs = append(errs, names...)
	if done {
		return errs
	}
	for i, ns := range r.Namespaces {
		for _, msg := range apivalidation.ValidateNamespaceName(ns, false) {
			errs = append(errs, field.Invalid(path.Index(i), ns, "each member of this list must be '*' or a DNS-1123 label; "+msg))
		}
	}
	return errs
}

func validateNonResourceRule(r *flowcontrolv1.NonResourcePolicyRule, at *field.Path) field.ErrorList {
	errs := validateVerbs(r.Verbs, at.Child("verbs"))
	path := at.Child("nonResourceURLs")
	urls, done := validateList(r.NonResourceURLs, "nonResourceURLs must contain at least one value", "non-resource URLs", path)
	errs = append(errs, urls...)
	if done {
		return errs
	}
	for i, url := range r.NonResourceURLs {
		if msg := badURL(url); msg != "" {
			errs = append(errs, field.Invalid(path.Index(i), url, msg))
		}
	}
	return errs
}

func badURL(url string) string {
	stars := strings.Count(url, all)
	switch {
	case url == "":
		return "must not be empty"
	case url == "/":
	case !strings.HasPrefix(url, "/"):
		return "must start with slash"
	case strings.Contains(url, " "):
		return "must not contain white-space"
	case strings.Contains(url, "//"):
		return "must not contain double slash"
	case stars > 1 || stars == 1 && !strings.HasSuffix(url, "/*"):
		return "wildcard can only do suffix matching"
	}
	return ""
}

// validateConditions checks the conditions of a status.
func validateConditions[C any](list []C, typeOf func(C) string) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, c := range list {
		at := field.NewPath("status", "conditions").Index(i).Child("type")
		t := typeOf(c)
		if seen.Has(t) {
			errs = append(errs, field.Duplicate(at, t))
		}
		seen.Insert(t)
		if t == "" {
			errs = append(errs, field.Required(at, "must not be empty"))
		}
	}
	return errs
}
