package resource

import (
	"fmt"
	"strings"

	"github.com/blang/semver/v4"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
)

func validateSlice(spec *resourcev1.ResourceSliceSpec) field.ErrorList {
	errs := validateDriver(spec.Driver, specPath.Child("driver"))
	pool := specPath.Child("pool")
	errs = append(errs, validatePool(spec.Pool.Name, pool.Child("name"))...)
	if spec.Pool.ResourceSliceCount <= 0 {
		errs = append(errs, field.Invalid(pool.Child("resourceSliceCount"), spec.Pool.ResourceSliceCount, "must be greater than zero"))
	}
	if spec.Pool.Generation < 0 {
		errs = append(errs, field.Invalid(pool.Child("generation"), spec.Pool.Generation, "must be greater than or equal to zero"))
	}
	set, bad := validateNodes(spec.NodeName, spec.NodeSelector, spec.AllNodes, specPath)
	errs = append(errs, bad...)
	if spec.PerDeviceNodeSelection != nil {
		set, errs = onlyTrue(*spec.PerDeviceNodeSelection, "perDeviceNodeSelection", specPath, set, errs)
	}
	const one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
	switch {
	case len(set) == 0:
		errs = append(errs, field.Required(specPath, one))
	case len(set) > 1:
		errs = append(errs, field.Invalid(specPath, "{"+strings.Join(set, ", ")+"}", one+", but multiple fields are set"))
	}
	if len(spec.SharedCounters) > 0 && len(spec.Devices) > 0 {
		errs = append(errs, field.Invalid(specPath, "{`devices`, `sharedCounters`}", "only one of `sharedCounters` or `devices` is allowed"))
	}
	limit := resourcev1.ResourceSliceMaxDevices
	for i := range spec.Devices {
		if len(spec.Devices[i].Taints)+len(spec.Devices[i].ConsumesCounters) > 0 {
			limit = resourcev1.ResourceSliceMaxDevicesWithAdvancedFeatures
		}
	}
	perDevice := ptr.Deref(spec.PerDeviceNodeSelection, false)
	errs = append(errs, setOf(spec.Devices, limit, specPath.Child("devices"),
		func(d *resourcev1.Device) string { return d.Name },
		func(d *resourcev1.Device, at *field.Path) field.ErrorList { return validateDevice(d, at, perDevice) })...)
	return append(errs, setOf(spec.SharedCounters, resourcev1.ResourceSliceMaxCounterSets, specPath.Child("sharedCounters"),
		func(s *resourcev1.CounterSet) string { return s.Name },
		func(s *resourcev1.CounterSet, at *field.Path) field.ErrorList {
			return append(required(s.Name, at.Child("name"), validation.IsDNS1123Label), validateCounters(s.Counters, resourcev1.ResourceSliceMaxCountersPerCounterSet, at.Child("counters"))...)
		})...)
}

func onlyTrue(v bool, child string, path *field.Path, set []string, errs field.ErrorList) ([]string, field.ErrorList) {
	if v {
		return append(set, "`"+child+"`"), errs
	}
	return set, append(errs, field.Invalid(path.Child(child), v, "must be either unset or set to true"))
}

// validateNodes checks where devices can be reached from; set are the fields that say so.
func validateNodes(name *string, sel *corev1.NodeSelector, all *bool, path *field.Path) (set []string, errs field.ErrorList) {
	if name != nil {
		if *name == "" {
			errs = append(errs, field.Invalid(path.Child("nodeName"), *name, "must be either unset or set to a non-empty string"))
		} else {
			set = append(set, "`nodeName`")
			errs = append(errs, check.DNSSubdomain(*name, path.Child("nodeName"))...)
		}
	}
	if sel != nil {
		set = append(set, "`nodeSelector`")
		at := path.Child("nodeSelector")
		errs = append(errs, podspec.ValidateNodeSelector(sel, at)...)
		if len(sel.NodeSelectorTerms) != 1 {
			errs = append(errs, field.Invalid(at.Child("nodeSelectorTerms"), sel.NodeSelectorTerms, "must have exactly one node selector term"))
		}
	}
	if all != nil {
		set, errs = onlyTrue(*all, "allNodes", path, set, errs)
	}
	return set, errs
}

func validateDevice(d *resourcev1.Device, path *field.Path, perDevice bool) field.ErrorList {
	errs := check.DNSLabel(d.Name, path.Child("name"))
	if n := len(d.Attributes) + len(d.Capacity); n > resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice {
		errs = append(errs, field.Invalid(path, n, fmt.Sprintf("the total number of attributes and capacities must not exceed %d", resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice)))
	}
	for name, a := range d.Attributes {
		at := path.Child("attributes").Key(string(name))
		errs = append(errs, validateQualifiedName(string(name), at, false)...)
		errs = append(errs, validateAttribute(&a, at)...)
	}
	for name, c := range d.Capacity {
		at := path.Child("capacity").Key(string(name))
		errs = append(errs, validateQualifiedName(string(name), at, false)...)
		if c.RequestPolicy != nil && !ptr.Deref(d.AllowMultipleAllocations, false) {
			errs = append(errs, field.Forbidden(at.Child("requestPolicy"), "allowMultipleAllocations must be true"))
		} else if c.RequestPolicy != nil {
			errs = append(errs, validatePolicy(&c, at.Child("requestPolicy"))...)
		}
	}
	errs = append(errs, eachOf(d.Taints, resourcev1.DeviceTaintsMaxLength, path.Child("taints"), validateTaint)...)
	set, bad := validateNodes(d.NodeName, d.NodeSelector, d.AllNodes, path)
	errs = append(errs, bad...)
	switch {
	case perDevice && len(set) == 0:
		errs = append(errs, field.Required(path, "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"))
	case perDevice && len(set) > 1:
		errs = append(errs, field.Invalid(path, "{"+strings.Join(set, ", ")+"}", "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"))
	case !perDevice:
		for _, name := range set {
			errs = append(errs, field.Invalid(path.Child(strings.Trim(name, "`")), nil, name+" can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec"))
		}
	}
	errs = append(errs, setOf(d.ConsumesCounters, resourcev1.ResourceSliceMaxDeviceCounterConsumptionsPerDevice, path.Child("consumesCounters"),
		func(c *resourcev1.DeviceCounterConsumption) string { return c.CounterSet },
		func(c *resourcev1.DeviceCounterConsumption, at *field.Path) field.ErrorList {
			return append(required(c.CounterSet, at.Child("counterSet"), validation.IsDNS1123Label),
				validateCounters(c.Counters, resourcev1.ResourceSliceMaxCountersPerDeviceCounterConsumption, at.Child("counters"))...)
		})...)
	return append(errs, validateBindings(d.BindingConditions, d.BindingFailureConditions, path)...)
}

func validateBindings(binding, failure []string, path *field.Path) field.ErrorList {
	one := func(name *string, at *field.Path) field.ErrorList { return check.QualifiedName(*name, at) }
	errs := eachOf(binding, resourcev1.BindingConditionsMaxSize, path.Child("bindingConditions"), one)
	errs = append(errs, eachOf(failure, resourcev1.BindingFailureConditionsMaxSize, path.Child("bindingFailureConditions"), one)...)
	switch {
	case len(binding) == 0 && len(failure) > 0:
		errs = append(errs, field.Invalid(path.Child("bindingConditions"), binding, "bindingConditions are required to use bindingFailureConditions"))
	case len(binding) > 0 && len(failure) == 0:
		errs = append(errs, field.Invalid(path.Child("bindingFailureConditions"), failure, "bindingFailureConditions are required to use bindingConditions"))
	}
	return errs
}

func validateCounters(counters map[string]resourcev1.Counter, limit int, path *field.Path) field.ErrorList {
	if len(counters) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if len(counters) > limit {
		errs = append(errs, field.TooMany(path, len(counters), limit))
	}
	for name := range counters {
		errs = append(errs, check.DNSLabel(name, path.Key(name))...)
	}
	return errs
}

// validateAttribute wants one value of one type.
func validateAttribute(a *resourcev1.DeviceAttribute, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	n := 0
	for _, set := range []bool{
		a.IntValue != nil, a.BoolValue != nil, a.StringValue != nil, a.VersionValue != nil,
		a.IntValues != nil, a.BoolValues != nil, a.StringValues != nil, a.VersionValues != nil,
	} {
		if set {
			n++
		}
	}
	switch {
	case n == 0:
		errs = append(errs, field.Invalid(path, "", "exactly one value must be specified"))
	case n > 1:
		errs = append(errs, field.Invalid(path, *a, "exactly one value must be specified"))
	}
	text := func(v string, at *field.Path) {
		if len(v) > resourcev1.DeviceAttributeMaxValueLength {
			errs = append(errs, field.TooLong(at, v, resourcev1.DeviceAttributeMaxValueLength))
		}
	}
	version := func(v string, at *field.Path) {
		if _, err := semver.Parse(v); err != nil {
			errs = append(errs, field.Invalid(at, v, "must be a string compatible with semver.org spec 2.0.0"))
		}
		text(v, at)
	}
	if a.StringValue != nil {
		text(*a.StringValue, path.Child("string"))
	}
	if a.VersionValue != nil {
		version(*a.VersionValue, path.Child("version"))
	}
	for i, v := range a.StringValues {
		text(v, path.Child("strings").Index(i))
	}
	for i, v := range a.VersionValues {
		version(v, path.Child("versions").Index(i))
	}
	return errs
}

func validateTaint(t *resourcev1.DeviceTaint, path *field.Path) field.ErrorList {
	errs := check.QualifiedName(t.Key, path.Child("key"))
	errs = append(errs, check.LabelValue(t.Value, path.Child("value"))...)
	return append(errs, check.OneOf(t.Effect, taintEffects, path.Child("effect"))...)
}

// validatePolicy checks which shares of a capacity may be asked for.
func validatePolicy(c *resourcev1.DeviceCapacity, path *field.Path) field.ErrorList {
	const maxValues = 10
	p := c.RequestPolicy
	var errs field.ErrorList
	if len(p.ValidValues) > 0 && p.ValidRange != nil {
		errs = append(errs, field.Forbidden(path, "exactly one policy can be specified, cannot specify `validValues` and `validRange` at the same time"))
	}
	if p.Default == nil && (len(p.ValidValues) > 0 || p.ValidRange != nil) {
		errs = append(errs, field.Required(path.Child("default"), "required when a policy is specified"))
	}
	if p.Default != nil && p.Default.Cmp(c.Value) > 0 {
		errs = append(errs, field.Invalid(path.Child("default"), p.Default.String(), fmt.Sprintf("default is larger than capacity value: %s", c.Value.String())))
	}
	if len(p.ValidValues) > maxValues {
		errs = append(errs, field.TooMany(path.Child("validValues"), len(p.ValidValues), maxValues))
	}
	found := false
	for i, v := range p.ValidValues {
		at := path.Child("validValues").Index(i)
		if v.Cmp(c.Value) > 0 {
			errs = append(errs, field.Invalid(at, v.String(), fmt.Sprintf("option is larger than capacity value: %s", c.Value.String())))
		}
		if i > 0 && v.Cmp(p.ValidValues[i-1]) <= 0 {
			errs = append(errs, field.Invalid(at, v.String(), "must be sorted in ascending order"))
		}
		found = found || p.Default != nil && v.Cmp(*p.Default) == 0
	}
	if len(p.ValidValues) > 0 && p.Default != nil && !found {
		errs = append(errs, field.Invalid(path.Child("default"), p.Default.String(), "default value is not in validValues"))
	}
	if r := p.ValidRange; r != nil {
		errs = append(errs, validateRange(r, c, path)...)
	}
	return errs
}

func validateRange(r *resourcev1.CapacityRequestPolicyRange, c *resourcev1.DeviceCapacity, path *field.Path) field.ErrorList {
	at := path.Child("validRange")
	if r.Min == nil {
		return field.ErrorList{field.Required(at.Child("min"), "required")}
	}
	errs := check.NonNegativeQuantity(*r.Min, at.Child("min"))
	if r.Min.Cmp(c.Value) > 0 {
		errs = append(errs, field.Invalid(at.Child("min"), r.Min.String(), fmt.Sprintf("min is larger than capacity value: %s", c.Value.String())))
	}
	if d := c.RequestPolicy.Default; d != nil && d.Cmp(*r.Min) < 0 {
		errs = append(errs, field.Invalid(path.Child("default"), d.String(), fmt.Sprintf("default is less than min: %s", r.Min.String())))
	}
	if r.Max != nil {
		if r.Max.Cmp(c.Value) > 0 {
			errs = append(errs, field.Invalid(at.Child("max"), r.Max.String(), fmt.Sprintf("max is larger than capacity value: %s", c.Value.String())))
		}
		if r.Min.Cmp(*r.Max) > 0 {
			errs = append(errs, field.Invalid(at.Child("min"), r.Min.String(), fmt.Sprintf("min is larger than max: %s", r.Max.String())))
		}
		if d := c.RequestPolicy.Default; d != nil && d.Cmp(*r.Max) > 0 {
			errs = append(errs, field.Invalid(path.Child("default"), d.String(), fmt.Sprintf("default is more than max: %s", r.Max.String())))
		}
	}
	return errs
}
