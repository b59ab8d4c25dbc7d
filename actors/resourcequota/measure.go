package resourcequota

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apiserver/pkg/admission"
	quota "k8s.io/apiserver/pkg/quota/v1"
	"k8s.io/apiserver/pkg/quota/v1/generic"
)

// measure tells what objects of one resource use; it is a quota.Evaluator.
type measure struct {
	resource schema.GroupResource
	// names says which limits are about this resource.
	names func(corev1.ResourceName) bool
	// usage is what one object uses.
	usage func(obj runtime.Object) (corev1.ResourceList, error)
	// scope says whether an object is in a scope; nil means that the resource knows none.
	scope generic.MatchesScopeFunc
	// handles says whether a request may change what is used.
	handles func(a admission.Attributes) bool
	// constraints says what an object must state to be counted; nil means nothing.
	constraints func(required []corev1.ResourceName, obj runtime.Object) error
}

func (m *measure) Constraints(required []corev1.ResourceName, item runtime.Object) error {
	if m.constraints == nil {
		return nil
	}
	return m.constraints(required, item)
}

func (m *measure) GroupResource() schema.GroupResource                    { return m.resource }
func (m *measure) Handles(a admission.Attributes) bool                    { return m.handles(a) }
func (m *measure) Usage(item runtime.Object) (corev1.ResourceList, error) { return m.usage(item) }

func (m *measure) Matches(q *corev1.ResourceQuota, item runtime.Object) (bool, error) {
	return generic.Matches(q, item, m.MatchingResources, m.inScope)
}

func (m *measure) inScope(s corev1.ScopedResourceSelectorRequirement, item runtime.Object) (bool, error) {
	if m.scope == nil {
		return false, nil
	}
	return m.scope(s, item)
}

func (m *measure) MatchingScopes(item runtime.Object, scopes []corev1.ScopedResourceSelectorRequirement) ([]corev1.ScopedResourceSelectorRequirement, error) {
	out := []corev1.ScopedResourceSelectorRequirement{}
	for _, s := range scopes {
		ok, err := m.inScope(s, item)
		if err != nil {
			return out, fmt.Errorf("error on matching scope %v: %w", s, err)
		}
		if ok {
			out = append(out, s)
		}
	}
	return out, nil
}

// UncoveredQuotaScopes matters only to configurations that limit by default, which there are none of.
func (m *measure) UncoveredQuotaScopes([]corev1.ScopedResourceSelectorRequirement, []corev1.ScopedResourceSelectorRequirement) ([]corev1.ScopedResourceSelectorRequirement, error) {
	return nil, nil
}

func (m *measure) MatchingResources(input []corev1.ResourceName) []corev1.ResourceName {
	out := []corev1.ResourceName{}
	for _, name := range input {
		if m.names(name) {
			out = append(out, name)
		}
	}
	return out
}

// UsageStats is not asked for: [Books] sums up, since it knows what is about to be stored.
func (m *measure) UsageStats(quota.UsageStatsOptions) (quota.UsageStats, error) {
	return quota.UsageStats{}, fmt.Errorf("sum up %s: use Books", m.resource)
}

func one() resource.Quantity { return *resource.NewQuantity(1, resource.DecimalSI) }

// countPrefix begins the limits that count objects of any resource.
const countPrefix = "count/"

// aliases are older names of some counts.
var aliases = map[schema.GroupResource]corev1.ResourceName{
	corev1.Resource("configmaps"):             corev1.ResourceConfigMaps,
	corev1.Resource("resourcequotas"):         corev1.ResourceQuotas,
	corev1.Resource("replicationcontrollers"): corev1.ResourceReplicationControllers,
	corev1.Resource("secrets"):                corev1.ResourceSecrets,
}

// countedBy returns the resource whose objects a limit counts.
func countedBy(name corev1.ResourceName) (schema.GroupResource, bool) {
	for res, alias := range aliases {
		if name == alias {
			return res, true
		}
	}
	if rest, ok := strings.CutPrefix(string(name), countPrefix); ok {
		return schema.ParseGroupResource(rest), true
	}
	return schema.GroupResource{}, false
}

// counting measures resources that are only counted.
func counting(res schema.GroupResource) *measure {
	names := map[corev1.ResourceName]bool{generic.ObjectCountQuotaResourceNameFor(res): true}
	if alias, ok := aliases[res]; ok {
		names[alias] = true
	}
	return &measure{
		resource: res,
		names:    func(name corev1.ResourceName) bool { return names[name] },
		usage: func(runtime.Object) (corev1.ResourceList, error) {
			out := make(corev1.ResourceList, len(names))
			for name := range names {
				out[name] = one()
			}
			return out, nil
		},
		handles: func(a admission.Attributes) bool {
			return a.GetSubresource() == "" && a.GetOperation() == admission.Create
		},
	}
}

// selects says whether a scope selector takes a value; "" stands for none.
func selects(s corev1.ScopedResourceSelectorRequirement, values ...string) (bool, error) {
	op, ok := map[corev1.ScopeSelectorOperator]selection.Operator{
		corev1.ScopeSelectorOpIn: selection.In, corev1.ScopeSelectorOpNotIn: selection.NotIn,
		corev1.ScopeSelectorOpExists: selection.Exists, corev1.ScopeSelectorOpDoesNotExist: selection.DoesNotExist,
	}[s.Operator]
	if !ok {
		return false, fmt.Errorf("%q is not a valid scope selector operator", s.Operator)
	}
	r, err := labels.NewRequirement(string(s.ScopeName), op, s.Values)
	if err != nil {
		return false, fmt.Errorf("failed to parse and convert selector: %w", err)
	}
	if len(values) == 0 {
		return r.Matches(labels.Set{}), nil
	}
	for _, v := range values {
		if r.Matches(labels.Set{string(s.ScopeName): v}) {
			return true, nil
		}
	}
	return false, nil
}

var _ quota.Evaluator = (*measure)(nil)
