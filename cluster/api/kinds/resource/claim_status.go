package resource

import (
	"fmt"
	"net"
	"strings"

	"github.com/google/uuid"
	resourcev1 "k8s.io/api/resource/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
)

var configSources = sets.New(resourcev1.AllocationConfigSourceClaim, resourcev1.AllocationConfigSourceClass)

func validateClaimStatus(c, old *resourcev1.ResourceClaim) field.ErrorList {
	path := field.NewPath("status")
	s, was := &c.Status, &old.Status
	names := requestNames(&c.Spec.Devices)
	reserved := path.Child("reservedFor")
	errs := setOf(s.ReservedFor, resourcev1.ResourceClaimReservedForMaxSize, reserved,
		func(r *resourcev1.ResourceClaimConsumerReference) types.UID { return r.UID }, validateConsumer)
	if len(s.ReservedFor) > 0 {
		if s.Allocation == nil {
			errs = append(errs, field.Forbidden(reserved, "may not be specified when `allocated` is not set"))
		} else if c.DeletionTimestamp != nil && !sets.New(was.ReservedFor...).IsSuperset(sets.New(s.ReservedFor...)) {
			errs = append(errs, field.Forbidden(reserved, "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"))
		}
	}
	switch {
	case s.Allocation != nil && was.Allocation != nil:
		errs = append(errs, apivalidation.ValidateImmutableField(s.Allocation, was.Allocation, path.Child("allocation"))...)
	case s.Allocation != nil:
		errs = append(errs, validateAllocation(s.Allocation, path.Child("allocation"), names)...)
	}
	type device struct{ driver, pool, device, share string }
	allocated := make(map[device]bool)
	if s.Allocation != nil {
		for _, r := range s.Allocation.Devices.Results {
			allocated[device{r.Driver, r.Pool, r.Device, string(ptr.Deref(r.ShareID, ""))}] = true
		}
	}
	keyOf := func(d *resourcev1.AllocatedDeviceStatus) device {
		return device{d.Driver, d.Pool, d.Device, ptr.Deref(d.ShareID, "")}
	}
	return append(errs, setOf(s.Devices, -1, path.Child("devices"), keyOf,
		func(d *resourcev1.AllocatedDeviceStatus, at *field.Path) field.ErrorList {
			errs := validateDeviceStatus(d, at)
			if !allocated[keyOf(d)] {
				errs = append(errs, field.Invalid(at, strings.Join([]string{d.Driver, d.Pool, d.Device}, "/"), "must be an allocated device in the claim"))
			}
			return errs
		})...)
}

func validateUID(uid string, path *field.Path) field.ErrorList {
	if err := uuid.Validate(uid); err != nil {
		return field.ErrorList{field.Invalid(path, uid, fmt.Sprintf("error validating uid: %v", err))}
	}
	if len(uid) != 36 || uid != strings.ToLower(uid) {
		return field.ErrorList{field.Invalid(path, uid, "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters")}
	}
	return nil
}

func validateConsumer(r *resourcev1.ResourceClaimConsumerReference, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, part := range []struct{ child, value string }{{"resource", r.Resource}, {"name", r.Name}, {"uid", string(r.UID)}} {
		if part.value == "" {
			errs = append(errs, field.Required(path.Child(part.child), ""))
		}
	}
	return errs
}

func validateAllocation(a *resourcev1.AllocationResult, path *field.Path, names sets.Set[string]) field.ErrorList {
	errs := eachOf(a.Devices.Results, resourcev1.AllocationResultsMaxSize, path.Child("devices", "results"),
		func(r *resourcev1.DeviceRequestAllocationResult, at *field.Path) field.ErrorList {
			errs := validateRequestRef(r.Request, at.Child("request"), names)
			errs = append(errs, validateDriver(r.Driver, at.Child("driver"))...)
			errs = append(errs, validatePool(r.Pool, at.Child("pool"))...)
			errs = append(errs, check.DNSLabel(r.Device, at.Child("device"))...)
			errs = append(errs, validateBindings(r.BindingConditions, r.BindingFailureConditions, at)...)
			if r.ShareID != nil {
				errs = append(errs, validateUID(string(*r.ShareID), at.Child("shareID"))...)
			}
			return append(errs, eachOf(r.Tolerations, resourcev1.DeviceTolerationsMaxLength, at.Child("tolerations"), validateToleration)...)
		})
	errs = append(errs, eachOf(a.Devices.Config, 2*resourcev1.DeviceConfigMaxSize, path.Child("devices", "config"),
		func(c *resourcev1.DeviceAllocationConfiguration, at *field.Path) field.ErrorList {
			errs := check.OneOf(c.Source, configSources, at.Child("source"))
			errs = append(errs, validateRequestRefs(c.Requests, at.Child("requests"), names)...)
			return append(errs, validateConfiguration(&c.DeviceConfiguration, at, false)...)
		})...)
	if a.NodeSelector != nil {
		errs = append(errs, podspec.ValidateNodeSelector(a.NodeSelector, path.Child("nodeSelector"))...)
	}
	return errs
}

func validateDeviceStatus(d *resourcev1.AllocatedDeviceStatus, path *field.Path) field.ErrorList {
	errs := validateDriver(d.Driver, path.Child("driver"))
	errs = append(errs, validatePool(d.Pool, path.Child("pool"))...)
	errs = append(errs, check.DNSLabel(d.Device, path.Child("device"))...)
	if len(d.Conditions) > resourcev1.AllocatedDeviceStatusMaxConditions {
		errs = append(errs, field.TooMany(path.Child("conditions"), len(d.Conditions), resourcev1.AllocatedDeviceStatusMaxConditions))
	}
	errs = append(errs, metav1validation.ValidateConditions(d.Conditions, path.Child("conditions"))...)
	if d.Data != nil && len(d.Data.Raw) > 0 {
		errs = append(errs, validateRaw(d.Data, path.Child("data"), false, resourcev1.AllocatedDeviceStatusDataMaxLength)...)
	}
	if n := d.NetworkData; n != nil {
		errs = append(errs, validateNetwork(n, path.Child("networkData"))...)
	}
	return errs
}

func validateNetwork(n *resourcev1.NetworkDeviceData, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(n.InterfaceName) > resourcev1.NetworkDeviceDataInterfaceNameMaxLength {
		errs = append(errs, field.TooLong(path.Child("interfaceName"), "", resourcev1.NetworkDeviceDataInterfaceNameMaxLength))
	}
	if len(n.HardwareAddress) > resourcev1.NetworkDeviceDataHardwareAddressMaxLength {
		errs = append(errs, field.TooLong(path.Child("hardwareAddress"), "", resourcev1.NetworkDeviceDataHardwareAddressMaxLength))
	}
	return append(errs, setOf(n.IPs, resourcev1.NetworkDeviceDataMaxIPs, path.Child("ips"), func(ip *string) string { return *ip },
		func(ip *string, at *field.Path) field.ErrorList {
			addr, network, err := net.ParseCIDR(*ip)
			if err != nil {
				return field.ErrorList{field.Invalid(at, *ip, "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)")}
			}
			if canonical := (&net.IPNet{IP: addr, Mask: network.Mask}).String(); canonical != *ip {
				return field.ErrorList{field.Invalid(at, *ip, "must be in canonical form ("+canonical+")")}
			}
			return nil
		})...)
}
