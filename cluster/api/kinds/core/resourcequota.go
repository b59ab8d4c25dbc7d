package core

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// ResourceQuota describes v1 ResourceQuota.
func ResourceQuota() kind.Kind {
	return kind.Kind{
		GVK:        corev1.SchemeGroupVersion.WithKind("ResourceQuota"),
		Resource:   "resourcequotas",
		Singular:   "resourcequota",
		ShortNames: []string{"quota"},
		Namespaced: true,
		New:        func() kind.Object { return &corev1.ResourceQuota{} },
		NewList:    func() runtime.Object { return &corev1.ResourceQuotaList{} },

		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateQuota(&obj.(*corev1.ResourceQuota).Spec)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			q, was := obj.(*corev1.ResourceQuota), old.(*corev1.ResourceQuota)
			errs := validateQuota(&q.Spec)
			if !sets.New(q.Spec.Scopes...).Equal(sets.New(was.Spec.Scopes...)) {
				errs = append(errs, field.Invalid(specPath.Child("scopes"), q.Spec.Scopes, "field is immutable"))
			}
			return errs
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			obj.(*corev1.ResourceQuota).Status = corev1.ResourceQuotaStatus{}
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			obj.(*corev1.ResourceQuota).Status = old.(*corev1.ResourceQuota).Status
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				obj.(*corev1.ResourceQuota).Spec = old.(*corev1.ResourceQuota).Spec
			},
			Validate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
				s := &obj.(*corev1.ResourceQuota).Status
				return append(quotaAmounts(s.Hard, field.NewPath("status", "hard")), quotaAmounts(s.Used, field.NewPath("status", "used"))...)
			},
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Request", "Request represents a minimum amount of cpu/memory that a container may consume."),
			table.Col("Limit", "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node."),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			q := obj.(*corev1.ResourceQuota)
			requests, limits := quotaCells(q)
			return []any{q.Name, requests, limits, table.Since(q.CreationTimestamp)}
		},
	}
}

func quotaCells(q *corev1.ResourceQuota) (requests, limits string) {
	var r, l []string
	for _, name := range slices.Sorted(maps.Keys(q.Status.Hard)) {
		hard, used := q.Status.Hard[name], q.Status.Used[name]
		cell := fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String())
		if strings.HasPrefix(string(name), "limits") {
			l = append(l, cell)
		} else {
			r = append(r, cell)
		}
	}
	return strings.Join(r, ", "), strings.Join(l, ", ")
}

var quotaScopes = sets.New(corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating,
	corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopePriorityClass,
	corev1.ResourceQuotaScopeCrossNamespacePodAffinity, corev1.ResourceQuotaScopeVolumeAttributesClass)

var (
	// podAmounts are what pods use up, and claimAmounts what claims do, of the standard resources
	// that a quota with scopes may limit.
	podAmounts = sets.New(corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory,
		corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory)
	claimAmounts = sets.New(corev1.ResourcePersistentVolumeClaims, corev1.ResourceRequestsStorage)
)

// scopeCounts says whether a scope may narrow a quota on a standard resource. Pods of the best effort
// ask for nothing, so only their number can be limited.
func scopeCounts(scope corev1.ResourceQuotaScope, name corev1.ResourceName) bool {
	switch scope {
	case corev1.ResourceQuotaScopeBestEffort:
		return name == corev1.ResourcePods
	case corev1.ResourceQuotaScopeVolumeAttributesClass:
		return claimAmounts.Has(name)
	}
	return podAmounts.Has(name)
}

func validateQuota(spec *corev1.ResourceQuotaSpec) field.ErrorList {
	errs := quotaAmounts(spec.Hard, specPath.Child("hard"))
	at := specPath.Child("scopes")
	for _, scope := range spec.Scopes {
		if !quotaScopes.Has(scope) {
			errs = append(errs, field.Invalid(at, spec.Scopes, "unsupported scope"))
		}
		errs = append(errs, scopeMismatches(scope, spec, spec.Scopes, at)...)
	}
	errs = append(errs, scopeConflicts(spec.Scopes, spec, at)...)
	if spec.ScopeSelector == nil {
		return errs
	}
	// In Kubernetes, too, the index is missing from these paths.
	at = specPath.Child("scopeSelector", "matchExpressions")
	var named []corev1.ResourceQuotaScope
	for _, req := range spec.ScopeSelector.MatchExpressions {
		named = append(named, req.ScopeName)
		if !quotaScopes.Has(req.ScopeName) {
			errs = append(errs, field.Invalid(at.Child("scopeName"), req.ScopeName, "unsupported scope"))
		}
		errs = append(errs, scopeMismatches(req.ScopeName, spec, spec.ScopeSelector, at)...)
		errs = append(errs, validateScopeRequirement(&req, at)...)
	}
	return append(errs, scopeConflicts(named, spec, at)...)
}

func validateScopeRequirement(req *corev1.ScopedResourceSelectorRequirement, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch req.ScopeName {
	case corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopeTerminating,
		corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		if req.Operator != corev1.ScopeSelectorOpExists {
			errs = append(errs, field.Invalid(at.Child("operator"), req.Operator, "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, "+
				"ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"))
		}
	}
	switch req.Operator {
	case corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn:
		if len(req.Values) == 0 {
			errs = append(errs, field.Required(at.Child("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"))
		}
	case corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist:
		if len(req.Values) != 0 {
			errs = append(errs, field.Invalid(at.Child("values"), req.Values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"))
		}
	default:
		errs = append(errs, field.Invalid(at.Child("operator"), req.Operator, "not a valid selector operator"))
	}
	return errs
}

// scopeMismatches finds the standard resources that a scope says nothing about.
func scopeMismatches(scope corev1.ResourceQuotaScope, spec *corev1.ResourceQuotaSpec, value any, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(spec.Hard)) {
		if check.IsStandardQuotaResource(name) && !scopeCounts(scope, name) {
			errs = append(errs, field.Invalid(at, value, "unsupported scope applied to resource"))
		}
	}
	return errs
}

// scopeConflicts finds scopes that no pod is in together.
func scopeConflicts(scopes []corev1.ResourceQuotaScope, spec *corev1.ResourceQuotaSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, pair := range [][2]corev1.ResourceQuotaScope{
		{corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort},
		{corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating},
	} {
		if slices.Contains(scopes, pair[0]) && slices.Contains(scopes, pair[1]) {
			errs = append(errs, field.Invalid(at, spec.Scopes, "conflicting scopes"))
		}
	}
	return errs
}

// quotaAmounts checks the names and amounts of a quota.
func quotaAmounts(list corev1.ResourceList, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(list)) {
		at := path.Key(string(name))
		errs = append(errs, check.ResourceName(name, at)...)
		if !strings.Contains(string(name), "/") && !check.IsStandardQuotaResource(name) {
			errs = append(errs, field.Invalid(at, name, "must be a standard resource for quota"))
		}
		errs = append(errs, check.ResourceQuantity(name, list[name], at)...)
	}
	return errs
}
