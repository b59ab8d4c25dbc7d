package rbac

import (
	"context"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// Role describes rbac.authorization.k8s.io/v1 Role.
func Role() kind.Kind {
	return kind.Kind{
		GVK:                 rbacv1.SchemeGroupVersion.WithKind("Role"),
		Resource:            "roles",
		Singular:            "role",
		Namespaced:          true,
		New:                 func() kind.Object { return &rbacv1.Role{} },
		NewList:             func() runtime.Object { return &rbacv1.RoleList{} },
		ValidateName:        path.ValidatePathSegmentName,
		AllowCreateOnUpdate: true,
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateRules(obj.(*rbacv1.Role).Rules, true)
		},
		Columns: roleColumns(),
		Row:     roleRow,
	}
}

// ClusterRole describes rbac.authorization.k8s.io/v1 ClusterRole.
func ClusterRole() kind.Kind {
	return kind.Kind{
		GVK:                 rbacv1.SchemeGroupVersion.WithKind("ClusterRole"),
		Resource:            "clusterroles",
		Singular:            "clusterrole",
		New:                 func() kind.Object { return &rbacv1.ClusterRole{} },
		NewList:             func() runtime.Object { return &rbacv1.ClusterRoleList{} },
		ValidateName:        path.ValidatePathSegmentName,
		AllowCreateOnUpdate: true,
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			role := obj.(*rbacv1.ClusterRole)
			return append(validateRules(role.Rules, false), validateAggregation(role.AggregationRule)...)
		},
		Columns: roleColumns(),
		Row:     roleRow,
	}
}

func roleColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		table.Name(),
		{Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]},
	}
}

func roleRow(obj kind.Object) []any {
	return []any{obj.GetName(), obj.GetCreationTimestamp().UTC().Format(time.RFC3339)}
}

func validateRules(rules []rbacv1.PolicyRule, namespaced bool) field.ErrorList {
	var errs field.ErrorList
	for i := range rules {
		errs = append(errs, validateRule(&rules[i], namespaced, field.NewPath("rules").Index(i))...)
	}
	return errs
}

func validateRule(rule *rbacv1.PolicyRule, namespaced bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(rule.Verbs) == 0 {
		errs = append(errs, field.Required(at.Child("verbs"), "verbs must contain at least one value"))
	}
	if len(rule.NonResourceURLs) > 0 {
		if namespaced {
			errs = append(errs, field.Invalid(at.Child("nonResourceURLs"), rule.NonResourceURLs, "namespaced rules cannot apply to non-resource URLs"))
		}
		if len(rule.APIGroups) > 0 || len(rule.Resources) > 0 || len(rule.ResourceNames) > 0 {
			errs = append(errs, field.Invalid(at.Child("nonResourceURLs"), rule.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs"))
		}
		return errs
	}
	if len(rule.APIGroups) == 0 {
		errs = append(errs, field.Required(at.Child("apiGroups"), "resource rules must supply at least one api group"))
	}
	if len(rule.Resources) == 0 {
		errs = append(errs, field.Required(at.Child("resources"), "resource rules must supply at least one resource"))
	}
	return errs
}

func validateAggregation(rule *rbacv1.AggregationRule) field.ErrorList {
	if rule == nil {
		return nil
	}
	at := field.NewPath("aggregationRule", "clusterRoleSelectors")
	if len(rule.ClusterRoleSelectors) == 0 {
		return field.ErrorList{field.Required(at, "at least one clusterRoleSelector required if aggregationRule is non-nil")}
	}
	var errs field.ErrorList
	for i := range rule.ClusterRoleSelectors {
		errs = append(errs, metavalidation.ValidateLabelSelector(&rule.ClusterRoleSelectors[i],
			metavalidation.LabelSelectorValidationOptions{}, at.Index(i))...)
	}
	return errs
}
