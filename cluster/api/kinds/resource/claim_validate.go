package resource

import (
	"fmt"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

var (
	allocationModes     = sets.New(resourcev1.DeviceAllocationModeAll, resourcev1.DeviceAllocationModeExactCount)
	tolerationOperators = sets.New(resourcev1.DeviceTolerationOpEqual, resourcev1.DeviceTolerationOpExists)
	taintEffects        = sets.New(resourcev1.DeviceTaintEffectNone, resourcev1.DeviceTaintEffectNoSchedule, resourcev1.DeviceTaintEffectNoExecute)
)

// validateClaim checks what devices are asked for.
func validateClaim(d *resourcev1.DeviceClaim, path *field.Path) field.ErrorList {
	names := requestNames(d)
	errs := setOf(d.Requests, resourcev1.DeviceRequestsMaxSize, path.Child("requests"),
		func(r *resourcev1.DeviceRequest) string { return r.Name },
		func(r *resourcev1.DeviceRequest, at *field.Path) field.ErrorList {
			return validateRequest(r, at)
		})
	errs = append(errs, eachOf(d.Constraints, resourcev1.DeviceConstraintsMaxSize, path.Child("constraints"),
		func(c *resourcev1.DeviceConstraint, at *field.Path) field.ErrorList {
			return validateConstraint(c, at, names)
		})...)
	return append(errs, eachOf(d.Config, resourcev1.DeviceConfigMaxSize, path.Child("config"),
		func(c *resourcev1.DeviceClaimConfiguration, at *field.Path) field.ErrorList {
			return append(validateRequestRefs(c.Requests, at.Child("requests"), names), validateConfiguration(&c.DeviceConfiguration, at, false)...)
		})...)
}

// requestNames are the names by which a claim speaks of its requests, "request" and "request/alternative".
func requestNames(d *resourcev1.DeviceClaim) sets.Set[string] {
	names := sets.New[string]()
	for i := range d.Requests {
		names.Insert(d.Requests[i].Name)
		for j := range d.Requests[i].FirstAvailable {
			names.Insert(d.Requests[i].Name + "/" + d.Requests[i].FirstAvailable[j].Name)
		}
	}
	return names
}

func validateRequest(r *resourcev1.DeviceRequest, path *field.Path) field.ErrorList {
	errs := check.DNSLabel(r.Name, path.Child("name"))
	switch one := "exactly one of `exactly` or `firstAvailable` is required"; {
	case r.Exactly == nil && len(r.FirstAvailable) == 0:
		errs = append(errs, field.Required(path, one))
	case r.Exactly != nil && len(r.FirstAvailable) > 0:
		errs = append(errs, field.Invalid(path, nil, one+", but multiple fields are set"))
	case r.Exactly != nil:
		errs = append(errs, validateExact(r.Exactly, path.Child("exactly"))...)
	default:
		errs = append(errs, setOf(r.FirstAvailable, resourcev1.FirstAvailableDeviceRequestMaxSize, path.Child("firstAvailable"),
			func(s *resourcev1.DeviceSubRequest) string { return s.Name },
			func(s *resourcev1.DeviceSubRequest, at *field.Path) field.ErrorList {
				return append(check.DNSLabel(s.Name, at.Child("name")), validateExact(&resourcev1.ExactDeviceRequest{
					DeviceClassName: s.DeviceClassName, Selectors: s.Selectors, AllocationMode: s.AllocationMode, Count: s.Count,
					Tolerations: s.Tolerations, Capacity: s.Capacity,
				}, at)...)
			})...)
	}
	return errs
}

func validateExact(r *resourcev1.ExactDeviceRequest, path *field.Path) field.ErrorList {
	errs := required(r.DeviceClassName, path.Child("deviceClassName"), validation.IsDNS1123Subdomain)
	errs = append(errs, validateSelectors(r.Selectors, path.Child("selectors"), false)...)
	switch at := path.Child("count"); r.AllocationMode {
	case resourcev1.DeviceAllocationModeAll:
		if r.Count != 0 {
			errs = append(errs, field.Invalid(at, r.Count, fmt.Sprintf("must not be specified when allocationMode is '%s'", r.AllocationMode)))
		}
	case resourcev1.DeviceAllocationModeExactCount:
		if r.Count <= 0 {
			errs = append(errs, field.Invalid(at, r.Count, "must be greater than zero"))
		}
	default:
		errs = append(errs, field.NotSupported(path.Child("allocationMode"), r.AllocationMode, sets.List(allocationModes)))
	}
	errs = append(errs, eachOf(r.Tolerations, resourcev1.DeviceTolerationsMaxLength, path.Child("tolerations"), validateToleration)...)
	if r.Capacity != nil {
		for name, amount := range r.Capacity.Requests {
			at := path.Child("capacity", "requests").Key(string(name))
			errs = append(errs, validateQualifiedName(string(name), at, false)...)
			errs = append(errs, check.NonNegativeQuantity(amount, at)...)
		}
	}
	return errs
}

func validateToleration(t *resourcev1.DeviceToleration, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if t.Key != "" {
		errs = append(errs, check.QualifiedName(t.Key, path.Child("key"))...)
	}
	switch t.Operator {
	case resourcev1.DeviceTolerationOpExists:
		if t.Value != "" {
			errs = append(errs, field.Invalid(path.Child("value"), t.Value, "must be empty for operator `Exists`"))
		}
	case resourcev1.DeviceTolerationOpEqual:
		errs = append(errs, check.LabelValue(t.Value, path.Child("value"))...)
	case "":
		errs = append(errs, field.Required(path.Child("operator"), ""))
	default:
		errs = append(errs, field.NotSupported(path.Child("operator"), t.Operator, sets.List(tolerationOperators)))
	}
	if t.Effect != "" {
		errs = append(errs, check.OneOfOrBad(t.Effect, taintEffects, path.Child("effect"))...)
	}
	return errs
}

func validateConstraint(c *resourcev1.DeviceConstraint, path *field.Path, names sets.Set[string]) field.ErrorList {
	errs := validateRequestRefs(c.Requests, path.Child("requests"), names)
	switch {
	case c.MatchAttribute != nil:
		errs = append(errs, validateQualifiedName(string(*c.MatchAttribute), path.Child("matchAttribute"), true)...)
	case c.DistinctAttribute != nil:
		errs = append(errs, validateQualifiedName(string(*c.DistinctAttribute), path.Child("distinctAttribute"), true)...)
	default:
		errs = append(errs, field.Required(path, `exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set`))
	}
	return errs
}

func validateRequestRefs(refs []string, path *field.Path, names sets.Set[string]) field.ErrorList {
	return setOf(refs, resourcev1.DeviceRequestsMaxSize, path, func(ref *string) string { return *ref },
		func(ref *string, at *field.Path) field.ErrorList { return validateRequestRef(*ref, at, names) })
}

func validateRequestRef(ref string, path *field.Path, names sets.Set[string]) field.ErrorList {
	const want = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
	parts := strings.Split(ref, "/")
	if len(parts) > 2 {
		return field.ErrorList{field.Invalid(path, ref, want)}
	}
	var errs field.ErrorList
	for _, part := range parts {
		errs = append(errs, check.DNSLabel(part, path)...)
	}
	if !names.Has(ref) {
		errs = append(errs, field.Invalid(path, ref, want))
	}
	return errs
}
