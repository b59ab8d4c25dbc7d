package resource

import (
	"context"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// ResourceClaim describes resource.k8s.io/v1 ResourceClaim.
func ResourceClaim() kind.Kind {
	return kind.Kind{
		GVK:        resourcev1.SchemeGroupVersion.WithKind("ResourceClaim"),
		Resource:   "resourceclaims",
		Singular:   "resourceclaim",
		Namespaced: true,
		New:        func() kind.Object { return &resourcev1.ResourceClaim{} },
		NewList:    func() runtime.Object { return &resourcev1.ResourceClaimList{} },

		Default: func(obj kind.Object) {
			c := obj.(*resourcev1.ResourceClaim)
			defaultClaim(&c.Spec.Devices)
			if c.Status.Allocation != nil {
				for i := range c.Status.Allocation.Devices.Results {
					defaultTolerations(c.Status.Allocation.Devices.Results[i].Tolerations)
				}
			}
		},
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateClaim(&obj.(*resourcev1.ResourceClaim).Spec.Devices, specPath.Child("devices"))
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			return apivalidation.ValidateImmutableField(obj.(*resourcev1.ResourceClaim).Spec, old.(*resourcev1.ResourceClaim).Spec, specPath)
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			obj.(*resourcev1.ResourceClaim).Status = resourcev1.ResourceClaimStatus{}
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			obj.(*resourcev1.ResourceClaim).Status = old.(*resourcev1.ResourceClaim).Status
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				c, was := obj.(*resourcev1.ResourceClaim), old.(*resourcev1.ResourceClaim)
				c.Spec = was.Spec
				metav1.ResetObjectMetaForStatus(c, was)
				dropDeallocated(&c.Status, &was.Status)
			},
			Validate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
				return validateClaimStatus(obj.(*resourcev1.ResourceClaim), old.(*resourcev1.ResourceClaim))
			},
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("State", "A summary of the current state (allocated, pending, reserved, etc.)."),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			c := obj.(*resourcev1.ResourceClaim)
			return []any{c.Name, claimState(c), table.Since(c.CreationTimestamp)}
		},
	}
}

// dropDeallocated forgets what drivers have said of devices that the claim no longer has.
func dropDeallocated(s, old *resourcev1.ResourceClaimStatus) {
	type device struct{ driver, pool, name string }
	gone := make(map[device]bool)
	each := func(a *resourcev1.AllocationResult, value bool) {
		if a == nil {
			return
		}
		for _, r := range a.Devices.Results {
			gone[device{r.Driver, r.Pool, r.Device}] = value
		}
	}
	each(old.Allocation, true)
	each(s.Allocation, false)
	var kept []resourcev1.AllocatedDeviceStatus
	for _, d := range s.Devices {
		if !gone[device{d.Driver, d.Pool, d.Device}] {
			kept = append(kept, d)
		}
	}
	s.Devices = kept
}

func claimState(c *resourcev1.ResourceClaim) string {
	var states []string
	if c.DeletionTimestamp != nil {
		states = append(states, "deleted")
	}
	switch {
	case c.Status.Allocation != nil:
		states = append(states, "allocated")
		if len(c.Status.ReservedFor) > 0 {
			states = append(states, "reserved")
		}
	case c.DeletionTimestamp == nil:
		states = append(states, "pending")
	}
	return strings.Join(states, ",")
}

// defaultClaim asks for one device where a request says neither how many nor all.
func defaultClaim(d *resourcev1.DeviceClaim) {
	mode := func(mode *resourcev1.DeviceAllocationMode, count *int64) {
		if *mode == "" {
			*mode = resourcev1.DeviceAllocationModeExactCount
		}
		if *mode == resourcev1.DeviceAllocationModeExactCount && *count == 0 {
			*count = 1
		}
	}
	for i := range d.Requests {
		r := &d.Requests[i]
		if r.Exactly != nil {
			mode(&r.Exactly.AllocationMode, &r.Exactly.Count)
			defaultTolerations(r.Exactly.Tolerations)
		}
		for j := range r.FirstAvailable {
			mode(&r.FirstAvailable[j].AllocationMode, &r.FirstAvailable[j].Count)
			defaultTolerations(r.FirstAvailable[j].Tolerations)
		}
	}
}

func defaultTolerations(list []resourcev1.DeviceToleration) {
	for i := range list {
		if list[i].Operator == "" {
			list[i].Operator = resourcev1.DeviceTolerationOpEqual
		}
	}
}
