package core

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
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
			if !apiequality.Semantic.DeepEqual(q.Spec.ScopeSelector, was.Spec.ScopeSelector) {
				errs = append(errs, field.Invalid(specPath.Child("scopeSelector"), q.Spec.ScopeSelector, "field is immutable"))
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

// podAmounts are what pods use up. Only quotas on these may be narrowed to some pods by scopes;
// quotas for pods without any requests may count pods alone.
var podAmounts = sets.New(corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage,
	corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsEphemeralStorage,
	corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage)

var quotaScopes = sets.New(corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating,
	corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopePriorityClass,
	corev1.ResourceQuotaScopeCrossNamespacePodAffinity, corev1.ResourceQuotaScopeVolumeAttributesClass)

func scopeCounts(scope corev1.ResourceQuotaScope, name corev1.ResourceName) bool {
	switch scope {
	case corev1.ResourceQuotaScopeBestEffort:
		return name == corev1.ResourcePods || name == "count/pods"
	case corev1.ResourceQuotaScopeVolumeAttributesClass:
		return name == corev1.ResourcePersistentVolumeClaims || name == corev1.ResourceRequestsStorage || strings.HasPrefix(string(name), "count/persistentvolumeclaims")
	}
	return podAmounts.Has(name) || name == "count/pods" || !strings.Contains(string(name), "/") && check.IsHugePages(corev1.ResourceName(strings.TrimPrefix(string(name), "requests."))) ||
		check.IsExtendedResource(corev1.ResourceName(strings.TrimPrefix(string(name), "requests.")))
}

func validateQuota(spec *corev1.ResourceQuotaSpec) field.ErrorList {
	errs := quotaAmounts(spec.Hard, specPath.Child("hard"))
	at := specPath.Child("scopes")
	errs = append(errs, quotaScopeSet(spec.Scopes, spec, at)...)
	if spec.ScopeSelector == nil {
		return errs
	}
	at = specPath.Child("scopeSelector", "matchExpressions")
	var named []corev1.ResourceQuotaScope
	for i, req := range spec.ScopeSelector.MatchExpressions {
		at := at.Index(i)
		named = append(named, req.ScopeName)
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
		if req.ScopeName != corev1.ResourceQuotaScopePriorityClass && req.ScopeName != corev1.ResourceQuotaScopeVolumeAttributesClass && req.Operator != corev1.ScopeSelectorOpExists {
			errs = append(errs, field.Invalid(at.Child("operator"), req.Operator, fmt.Sprintf("must be 'Exist' when scope is any of %s, %s, %s, %s and %s",
				corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopeCrossNamespacePodAffinity)))
		}
	}
	return append(errs, quotaScopeSet(named, spec, specPath.Child("scopeSelector", "matchExpressions", "scopeName"))...)
}

// quotaScopeSet checks scopes by themselves, against what is limited, and against each other.
func quotaScopeSet(scopes []corev1.ResourceQuotaScope, spec *corev1.ResourceQuotaSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, scope := range scopes {
		if !quotaScopes.Has(scope) {
			errs = append(errs, field.Invalid(path, scopes, "unsupported scope"))
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(spec.Hard)) {
			if !scopeCounts(scope, name) {
				errs = append(errs, field.Invalid(path, scopes, "unsupported scope applied to resource"))
				break
			}
		}
	}
	for _, pair := range [][2]corev1.ResourceQuotaScope{
		{corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort},
		{corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating},
	} {
		if slices.Contains(scopes, pair[0]) && slices.Contains(scopes, pair[1]) {
			errs = append(errs, field.Invalid(path, scopes, "conflicting scopes"))
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
		errs = append(errs, check.ResourceQuantity(name, list[name], at)...)
	}
	return errs
}
