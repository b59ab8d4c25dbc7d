package resourcequota

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apiserver/pkg/admission"
	quota "k8s.io/apiserver/pkg/quota/v1"
	helper "k8s.io/component-helpers/resource"
	"k8s.io/utils/clock"
)

const countPods = corev1.ResourceName("count/pods")

var podNames = sets.New(countPods, corev1.ResourcePods,
	corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage,
	corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsEphemeralStorage,
	corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage)

// stated are the limits under which every container must say how much it wants.
var stated = sets.New(corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory,
	corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory)

// pods measures pods: their number and what they request and may use until they have ended.
func pods(now clock.PassiveClock) *measure {
	return &measure{
		resource: corev1.Resource("pods"),
		names: func(name corev1.ResourceName) bool {
			return podNames.Has(name) || isHugePages(strings.TrimPrefix(string(name), corev1.DefaultResourceRequestsPrefix)) ||
				strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) && !native(string(name))
		},
		usage: func(obj runtime.Object) (corev1.ResourceList, error) {
			pod, ok := obj.(*corev1.Pod)
			if !ok {
				return nil, fmt.Errorf("expect *v1.Pod, got %T", obj)
			}
			out := corev1.ResourceList{countPods: one()}
			if over(pod, now) {
				return out, nil
			}
			opts := helper.PodResourcesOptions{UseStatusResources: true}
			return quota.Add(out, podUsage(helper.PodRequests(pod, opts), helper.PodLimits(pod, opts))), nil
		},
		scope: podScope,
		handles: func(a admission.Attributes) bool {
			return a.GetSubresource() == "" && a.GetOperation() == admission.Create || a.GetSubresource() == "resize" && a.GetOperation() == admission.Update
		},
		constraints: podConstraints,
	}
}

// over says that the pod uses nothing any more: it has ended, or should have.
func over(pod *corev1.Pod, now clock.PassiveClock) bool {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return true
	}
	return pod.DeletionTimestamp != nil && pod.DeletionGracePeriodSeconds != nil &&
		now.Since(pod.DeletionTimestamp.Time).Seconds() > float64(*pod.DeletionGracePeriodSeconds)
}

func isHugePages(name string) bool { return strings.HasPrefix(name, corev1.ResourceHugePagesPrefix) }

// native says that the resource is Kubernetes' own.
func native(name string) bool {
	return !strings.Contains(name, "/") || strings.Contains(name, corev1.ResourceDefaultNamespacePrefix)
}

func extended(name string) bool {
	return !native(name) && !strings.HasPrefix(name, corev1.DefaultResourceRequestsPrefix) &&
		len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+name)) == 0
}

// podUsage names requests and limits as quotas do.
func podUsage(requests, limits corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{corev1.ResourcePods: one()}
	for name, q := range requests {
		asked := corev1.DefaultResourceRequestsPrefix + name
		switch {
		case name == corev1.ResourceCPU, name == corev1.ResourceMemory, name == corev1.ResourceEphemeralStorage, isHugePages(string(name)):
			out[name], out[asked] = q, q
		case extended(string(name)):
			out[asked] = q
		}
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if q, ok := limits[name]; ok {
			out["limits."+name] = q
		}
	}
	return out
}

// podConstraints names the containers that do not say what a quota limits. What the pod says as a
// whole holds for all of its containers.
func podConstraints(required []corev1.ResourceName, obj runtime.Object) error {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return fmt.Errorf("expect *v1.Pod, got %T", obj)
	}
	need := sets.New(required...).Intersection(stated)
	if r := pod.Spec.Resources; r != nil {
		need = need.Difference(sets.KeySet(podUsage(r.Requests, r.Limits)))
	}
	missing := make(map[corev1.ResourceName]sets.Set[string])
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			for name := range need.Difference(sets.KeySet(podUsage(list[i].Resources.Requests, list[i].Resources.Limits))) {
				if missing[name] == nil {
					missing[name] = sets.New[string]()
				}
				missing[name].Insert(list[i].Name)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		parts = append(parts, fmt.Sprintf("%s for: %s", name, strings.Join(sets.List(missing[name]), ",")))
	}
	return fmt.Errorf("must specify %s", strings.Join(parts, "; "))
}

func podScope(s corev1.ScopedResourceSelectorRequirement, obj runtime.Object) (bool, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return false, fmt.Errorf("expect *v1.Pod, got %T", obj)
	}
	switch s.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return terminating(pod), nil
	case corev1.ResourceQuotaScopeNotTerminating:
		return !terminating(pod), nil
	case corev1.ResourceQuotaScopeBestEffort:
		return bestEffort(pod), nil
	case corev1.ResourceQuotaScopeNotBestEffort:
		return !bestEffort(pod), nil
	case corev1.ResourceQuotaScopePriorityClass:
		if name := pod.Spec.PriorityClassName; name != "" {
			return selects(s, name)
		}
		return selects(s)
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return crossesNamespaces(pod), nil
	}
	return false, nil
}

func terminating(pod *corev1.Pod) bool {
	return pod.Spec.ActiveDeadlineSeconds != nil && *pod.Spec.ActiveDeadlineSeconds >= 0
}

// bestEffort says that nothing of the pod asks for or is limited in processor or memory.
func bestEffort(pod *corev1.Pod) bool {
	wants := func(r corev1.ResourceRequirements) bool {
		for _, list := range []corev1.ResourceList{r.Requests, r.Limits} {
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				if q, ok := list[name]; ok && q.Sign() > 0 {
					return true
				}
			}
		}
		return false
	}
	if r := pod.Spec.Resources; r != nil && wants(*r) {
		return false
	}
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if wants(list[i].Resources) {
				return false
			}
		}
	}
	return true
}

// crossesNamespaces says that the pod's affinity looks at pods of other namespaces.
func crossesNamespaces(pod *corev1.Pod) bool {
	a := pod.Spec.Affinity
	if a == nil {
		return false
	}
	crosses := func(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) bool {
		for _, p := range preferred {
			required = append(required[:len(required):len(required)], p.PodAffinityTerm)
		}
		return slices.ContainsFunc(required, func(t corev1.PodAffinityTerm) bool { return len(t.Namespaces) > 0 || t.NamespaceSelector != nil })
	}
	return a.PodAffinity != nil && crosses(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution) ||
		a.PodAntiAffinity != nil && crosses(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
}
