package resourcequota

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/quota/v1/generic"
)

// deviceClaims measures claims of devices: their number, and the devices they ask for by class.
func deviceClaims() *measure {
	res := resourcev1.Resource("resourceclaims")
	count := generic.ObjectCountQuotaResourceNameFor(res)
	return &measure{
		resource: res,
		names: func(name corev1.ResourceName) bool {
			return name == count || strings.HasSuffix(string(name), corev1.ResourceClaimsPerClass)
		},
		usage: func(obj runtime.Object) (corev1.ResourceList, error) {
			claim, ok := obj.(*resourcev1.ResourceClaim)
			if !ok {
				return nil, fmt.Errorf("expect *v1.ResourceClaim, got %T", obj)
			}
			out := corev1.ResourceList{count: one()}
			for name, n := range devicesOf(claim) {
				out[name] = *resource.NewQuantity(n, resource.DecimalSI)
			}
			return out, nil
		},
		handles: func(a admission.Attributes) bool {
			return a.GetSubresource() == "" && (a.GetOperation() == admission.Create || a.GetOperation() == admission.Update)
		},
	}
}

// devicesOf is how many devices of each class a claim may get. Of alternatives it is the worst for each
// class; who wants all devices there are may get as many as one claim can have.
func devicesOf(claim *resourcev1.ResourceClaim) map[corev1.ResourceName]int64 {
	out := make(map[corev1.ResourceName]int64)
	for i := range claim.Spec.Devices.Requests {
		r := &claim.Spec.Devices.Requests[i]
		if r.Exactly != nil {
			out[devicesIn(r.Exactly.DeviceClassName)] += devices(r.Exactly.AllocationMode, r.Exactly.Count)
		}
		most := make(map[corev1.ResourceName]int64)
		for j := range r.FirstAvailable {
			sub := &r.FirstAvailable[j]
			name := devicesIn(sub.DeviceClassName)
			most[name] = max(most[name], devices(sub.AllocationMode, sub.Count))
		}
		for name, n := range most {
			out[name] += n
		}
	}
	return out
}

func devicesIn(class string) corev1.ResourceName {
	return corev1.ResourceName(class + corev1.ResourceClaimsPerClass)
}

func devices(mode resourcev1.DeviceAllocationMode, count int64) int64 {
	if mode == resourcev1.DeviceAllocationModeAll {
		return resourcev1.AllocationResultsMaxSize
	}
	return count
}
