package podspec

import (
	corev1 "k8s.io/api/core/v1"
	helper "k8s.io/component-helpers/resource"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

// requestPodLimits completes the requests of a pod that sets limits as a whole: from what its
// containers request together, else from the limit.
func requestPodLimits(pod *corev1.Pod) {
	r := pod.Spec.Resources
	if r == nil || len(r.Limits) == 0 {
		return
	}
	requests := r.Requests
	if requests == nil {
		requests = make(corev1.ResourceList)
	}
	for name, q := range helper.AggregateContainerRequests(pod, helper.PodResourcesOptions{}) {
		if _, ok := requests[name]; !ok && helper.IsSupportedPodLevelResource(name) && check.MayOvercommit(name) {
			requests[name] = q.DeepCopy()
		}
	}
	for name, q := range r.Limits {
		if _, ok := requests[name]; !ok && helper.IsSupportedPodLevelResource(name) {
			requests[name] = q.DeepCopy()
		}
	}
	if len(requests) > 0 {
		r.Requests = requests
	}
}
