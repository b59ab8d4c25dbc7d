package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	helper "k8s.io/component-helpers/resource"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

// containerResources are the names without a domain that a container may ask for.
var containerResources = sets.New(corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage)

// ContainerResourceName checks the name of a resource that a container may ask for.
func ContainerResourceName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	errs := check.ResourceName(name, path)
	if !strings.Contains(string(name), "/") {
		if !containerResources.Has(name) && !check.IsHugePages(name) {
			errs = append(errs, field.Invalid(path, name, "must be a standard resource for containers"))
		}
	} else if !check.IsNativeResource(name) && !check.IsExtendedResource(name) {
		errs = append(errs, field.Invalid(path, name, "doesn't follow extended resource name standard"))
	}
	return errs
}

// resources checks what one container asks for.
func (v *validator) resources(r *corev1.ResourceRequirements, path *field.Path) field.ErrorList {
	if len(r.Limits) == 0 && len(r.Requests) == 0 && len(r.Claims) == 0 {
		return nil
	}
	return append(requirements(r, ContainerResourceName, path), v.claimsOf(r, path)...)
}

// requirements checks limits and requests, each by itself and against each other.
func requirements(r *corev1.ResourceRequirements, name func(corev1.ResourceName, *field.Path) field.ErrorList, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	limits, requests := path.Child("limits"), path.Child("requests")
	pages, basic := false, false
	one := func(res corev1.ResourceName, list corev1.ResourceList, path *field.Path) {
		q, path := list[res], path.Key(string(res))
		errs = append(errs, name(res, path)...)
		errs = append(errs, check.ResourceQuantity(res, q, path)...)
		if check.IsHugePages(res) {
			pages = true
			errs = append(errs, hugePagesAmount(res, list, path)...)
		}
		basic = basic || res == corev1.ResourceCPU || res == corev1.ResourceMemory
	}
	for res := range r.Limits {
		one(res, r.Limits, limits)
	}
	for res, q := range r.Requests {
		one(res, r.Requests, requests)
		limit, limited := r.Limits[res]
		switch {
		case !limited:
			if !check.MayOvercommit(res) {
				errs = append(errs, field.Required(limits, "Limit must be set for non overcommitable resources"))
			}
		case q.Cmp(limit) != 0 && !check.MayOvercommit(res):
			errs = append(errs, field.Invalid(requests, q.String(), fmt.Sprintf("must be equal to %s limit of %s", res, limit.String())))
		case q.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(requests, q.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", res, limit.String())))
		}
	}
	if pages && !basic {
		errs = append(errs, field.Forbidden(path, "HugePages require cpu or memory"))
	}
	return errs
}

// hugePagesAmount checks that an amount is a whole number of pages.
func hugePagesAmount(name corev1.ResourceName, list corev1.ResourceList, path *field.Path) field.ErrorList {
	size, err := hugePageSize(name)
	q := list[name]
	if err != nil {
		return field.ErrorList{field.Invalid(path, q.String(), err.Error())}
	}
	if q.Value()%size != 0 {
		return field.ErrorList{field.Invalid(path, q.String(), fmt.Sprintf("%s is not positive integer multiple of %s", q.String(), name))}
	}
	return nil
}

// podResources checks what the pod asks for as a whole.
func (v *validator) podResources(path *field.Path) field.ErrorList {
	r := v.spec.Resources
	if r == nil {
		return nil
	}
	if v.spec.OS != nil && v.spec.OS.Name == corev1.Windows {
		return field.ErrorList{field.Forbidden(path, "may not be set for a windows pod")}
	}
	var errs field.ErrorList
	if r.Claims != nil {
		errs = append(errs, field.Forbidden(path.Child("claims"), "claims may not be set for Resources at pod-level"))
	}
	errs = append(errs, requirements(r, podResourceName, path)...)
	// The pod's requests must cover what its containers request together.
	for name, sum := range helper.AggregateContainerRequests(&corev1.Pod{Spec: *v.spec}, helper.PodResourcesOptions{}) {
		if q, ok := r.Requests[name]; ok && q.Cmp(sum) < 0 {
			errs = append(errs, field.Invalid(path.Child("requests").Key(string(name)), q.String(), fmt.Sprintf("must be greater than or equal to aggregate container requests of %s", sum.String())))
		}
	}
	// Huge pages cannot be promised twice, so the pod's limit must cover all of its containers' too.
	for name, sum := range helper.AggregateContainerLimits(&corev1.Pod{Spec: *v.spec}, helper.PodResourcesOptions{}) {
		if q, ok := r.Limits[name]; ok && check.IsHugePages(name) && q.Cmp(sum) < 0 {
			errs = append(errs, field.Invalid(path.Child("limits").Key(string(name)), q.String(), fmt.Sprintf("must be greater than or equal to aggregate container limits of %s", sum.String())))
		}
	}
	for i := range v.spec.Containers {
		for name, q := range v.spec.Containers[i].Resources.Limits {
			if limit, ok := r.Limits[name]; ok && q.Cmp(limit) > 0 {
				// In Kubernetes, too, this path begins at the pod's resources.
				errs = append(errs, field.Invalid(path.Child("containers").Index(i).Key(string(name)).Child("limits"), q.String(), fmt.Sprintf("must be less than or equal to pod limits of %s", limit.String())))
			}
		}
	}
	return errs
}

func podResourceName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	errs := check.ResourceName(name, path)
	if !helper.IsSupportedPodLevelResource(name) {
		errs = append(errs, field.NotSupported(path, name, sets.List(helper.SupportedPodLevelResources())))
	}
	return errs
}

var (
	resizable        = sets.New(corev1.ResourceCPU, corev1.ResourceMemory)
	resizeRestarting = sets.New(corev1.NotRequired, corev1.RestartContainer)
)

func (v *validator) resizePolicy(policies []corev1.ContainerResizePolicy, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[corev1.ResourceName]()
	for i, p := range policies {
		if seen.Has(p.ResourceName) {
			errs = append(errs, field.Duplicate(path.Index(i), p.ResourceName))
		}
		seen.Insert(p.ResourceName)
		errs = append(errs, check.OneOf(p.ResourceName, resizable, path)...)
		errs = append(errs, check.OneOf(p.RestartPolicy, resizeRestarting, path)...)
		if v.spec.RestartPolicy == corev1.RestartPolicyNever && p.RestartPolicy == corev1.RestartContainer {
			errs = append(errs, field.Invalid(path, p.RestartPolicy, "must be 'NotRequired' when `restartPolicy` is 'Never'"))
		}
	}
	return errs
}

// claims checks the pod's own list of device claims and remembers their names.
func (v *validator) claims(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, claim := range v.spec.ResourceClaims {
		path := path.Index(i)
		if v.meta != nil && v.opts.Pod {
			if _, static := v.meta.Annotations[corev1.MirrorPodAnnotationKey]; static {
				return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods do not support resource claims")}
			}
		}
		if claim.Name == "" {
			errs = append(errs, field.Required(path.Child("name"), ""))
		} else if v.claimNames.Has(claim.Name) {
			errs = append(errs, field.Duplicate(path.Child("name"), claim.Name))
		} else {
			errs = append(errs, check.DNSLabel(claim.Name, path.Child("name"))...)
			v.claimNames.Insert(claim.Name)
		}
		switch {
		case claim.ResourceClaimName != nil && claim.ResourceClaimTemplateName != nil:
			errs = append(errs, field.Invalid(path, claim, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"))
		case claim.ResourceClaimName == nil && claim.ResourceClaimTemplateName == nil:
			errs = append(errs, field.Invalid(path, claim, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"))
		}
		if claim.ResourceClaimName != nil {
			errs = append(errs, check.DNSSubdomain(*claim.ResourceClaimName, path.Child("resourceClaimName"))...)
		}
		if claim.ResourceClaimTemplateName != nil {
			errs = append(errs, check.DNSSubdomain(*claim.ResourceClaimTemplateName, path.Child("resourceClaimTemplateName"))...)
		}
	}
	return errs
}

// claimsOf checks the device claims one container uses: whole claims, or single requests of them.
func (v *validator) claimsOf(r *corev1.ResourceRequirements, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	whole, parts := sets.New[string](), make(map[string]sets.Set[string])
	for i, claim := range r.Claims {
		at := path.Child("claims").Index(i)
		if claim.Name == "" {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		switch {
		case whole.Has(claim.Name):
			errs = append(errs, field.Duplicate(at, claim.Name))
		case claim.Request == "":
			for range parts[claim.Name] {
				errs = append(errs, field.Duplicate(at, claim.Name))
			}
			whole.Insert(claim.Name)
		default:
			errs = append(errs, check.DNSLabel(claim.Request, at.Child("request"))...)
			if parts[claim.Name].Has(claim.Request) {
				errs = append(errs, field.Duplicate(at, claim.Name+"/"+claim.Request))
			}
			if parts[claim.Name] == nil {
				parts[claim.Name] = sets.New[string]()
			}
			parts[claim.Name].Insert(claim.Request)
		}
		if !v.claimNames.Has(claim.Name) {
			err := field.NotFound(at, claim.Name)
			err.Detail = "must be one of the names in pod.spec.resourceClaims which is empty"
			if len(v.claimNames) > 0 {
				err.Detail = "must be one of the names in pod.spec.resourceClaims: " + strings.Join(sets.List(v.claimNames), ", ")
			}
			errs = append(errs, err)
		}
	}
	return errs
}

// hugePageSize reads the size of a page off a resource's name, "hugepages-2Mi".
func hugePageSize(name corev1.ResourceName) (int64, error) {
	q, err := resource.ParseQuantity(strings.TrimPrefix(string(name), corev1.ResourceHugePagesPrefix))
	if err != nil {
		return 0, fmt.Errorf("page size of %s: %w", name, err)
	}
	if q.Value() <= 0 {
		return 0, fmt.Errorf("page size of %s must be positive", name)
	}
	return q.Value(), nil
}
