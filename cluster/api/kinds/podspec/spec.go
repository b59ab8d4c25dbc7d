package podspec

import (
	"fmt"
	"math"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

// Options tell the rules where a spec stands.
type Options struct {
	// Pod is true for the spec of a Pod, false for a template, which may leave a few things to
	// the pods made from it.
	Pod bool
	// OldImageNames accepts image names with spaces around them, which an older object may hold.
	OldImageNames bool
}

var (
	restartPolicies    = sets.New(corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)
	preemptionPolicies = sets.New(corev1.PreemptLowerPriority, corev1.PreemptNever)
	osNames            = sets.New(corev1.Linux, corev1.Windows)
)

// ValidateTemplate checks a pod template.
func ValidateTemplate(t *corev1.PodTemplateSpec, path *field.Path, opts Options) field.ErrorList {
	errs := metavalidation.ValidateLabels(t.Labels, path.Child("labels"))
	errs = append(errs, apivalidation.ValidateAnnotations(t.Annotations, path.Child("annotations"))...)
	errs = append(errs, ValidateAnnotations(t.Annotations, &t.Spec, path.Child("annotations"))...)
	errs = append(errs, Validate(&t.Spec, &t.ObjectMeta, path.Child("spec"), opts)...)
	errs = append(errs, ValidateProfiles(t.Annotations, &t.Spec, path.Child("spec"))...)
	if len(t.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(path.Child("spec", "ephemeralContainers"), "ephemeral containers not allowed in pod template"))
	}
	return errs
}

// Validate checks a defaulted pod spec. meta is the metadata of the pod or of the template.
func Validate(spec *corev1.PodSpec, meta *metav1.ObjectMeta, path *field.Path, opts Options) field.ErrorList {
	v := newValidator(spec, meta, opts)
	errs := v.volumes(path.Child("volumes"))
	errs = append(errs, v.claims(path.Child("resourceClaims"))...)
	errs = append(errs, v.containers(path.Child("containers"))...)
	errs = append(errs, v.initContainers(path.Child("initContainers"))...)
	errs = append(errs, v.ephemeralContainers(path.Child("ephemeralContainers"))...)
	errs = append(errs, v.podResources(path.Child("resources"))...)
	errs = append(errs, check.OneOf(spec.RestartPolicy, restartPolicies, path.Child("restartPolicy"))...)
	errs = append(errs, check.OneOf(spec.DNSPolicy, dnsPolicies, path.Child("dnsPolicy"))...)
	errs = append(errs, metavalidation.ValidateLabels(spec.NodeSelector, path.Child("nodeSelector"))...)
	errs = append(errs, v.hostPorts(path)...)
	errs = append(errs, v.podSecurity(path.Child("securityContext"))...)
	if share := spec.ShareProcessNamespace; spec.HostPID && share != nil && *share {
		errs = append(errs, field.Invalid(path.Child("shareProcessNamespace"), *share, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	errs = append(errs, v.names(path)...)
	errs = append(errs, validateAffinity(spec.Affinity, path.Child("affinity"))...)
	errs = append(errs, validateDNSConfig(spec.DNSConfig, spec.DNSPolicy, path.Child("dnsConfig"))...)
	errs = append(errs, validateGates(spec, path)...)
	errs = append(errs, validateSpread(spec.TopologySpreadConstraints, path.Child("topologySpreadConstraints"))...)
	errs = append(errs, ValidateTolerations(spec.Tolerations, path.Child("tolerations"))...)
	errs = append(errs, validateHostAliases(spec.HostAliases, path.Child("hostAliases"))...)
	errs = append(errs, v.hostUsers(path)...)
	errs = append(errs, v.os(path)...)

	if spec.TerminationGracePeriodSeconds == nil {
		errs = append(errs, field.Required(path.Child("terminationGracePeriodSeconds"), ""))
	}
	if n := spec.ActiveDeadlineSeconds; n != nil && (*n < 1 || *n > math.MaxInt32) {
		errs = append(errs, field.Invalid(path.Child("activeDeadlineSeconds"), *n, validation.InclusiveRangeError(1, math.MaxInt32)))
	}
	if p := spec.PreemptionPolicy; p != nil {
		errs = append(errs, check.OneOf(*p, preemptionPolicies, path.Child("preemptionPolicy"))...)
	}
	if opts.Pod && spec.ServiceAccountName == "" {
		errs = append(errs, v.tokensWithoutAccount(path.Child("volumes"))...)
	}
	return append(errs, ValidateOverhead(spec.Overhead, path.Child("overhead"))...)
}

// ValidateOverhead checks what a pod costs besides its containers; runtime classes say that.
func ValidateOverhead(overhead corev1.ResourceList, path *field.Path) field.ErrorList {
	if len(overhead) == 0 {
		return nil
	}
	return requirements(&corev1.ResourceRequirements{Limits: overhead}, ContainerResourceName, path)
}

// tokensWithoutAccount refuses tokens in a pod that has no account to have them of.
func (v *validator) tokensWithoutAccount(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range v.spec.Volumes {
		p := v.spec.Volumes[i].Projected
		if p == nil {
			continue
		}
		for s := range p.Sources {
			if p.Sources[s].ServiceAccountToken != nil {
				errs = append(errs, field.Forbidden(path.Index(i).Child("projected", "sources").Index(s).Child("serviceAccountToken"), "must not be specified when serviceAccountName is not set"))
			}
		}
	}
	return errs
}

// validator carries what rules on one part of a spec have to know of the others.
type validator struct {
	spec *corev1.PodSpec
	meta *metav1.ObjectMeta
	opts Options
	// volumeByName holds the volumes without errors; mounts may refer to them.
	volumeByName map[string]*corev1.Volume
	claimNames   sets.Set[string]
}

func newValidator(spec *corev1.PodSpec, meta *metav1.ObjectMeta, opts Options) *validator {
	return &validator{
		spec: spec, meta: meta, opts: opts,
		volumeByName: make(map[string]*corev1.Volume, len(spec.Volumes)),
		claimNames:   sets.New[string](),
	}
}

// grace is the pod's termination grace period, 0 while it is missing.
func (v *validator) grace() int64 {
	if v.spec.TerminationGracePeriodSeconds == nil {
		return 0
	}
	return *v.spec.TerminationGracePeriodSeconds
}

// ownUsers says that the pod has users of its own, apart from the node's.
func (v *validator) ownUsers() bool {
	return v.spec.HostUsers != nil && !*v.spec.HostUsers
}

// names checks what refers to other objects by name and how the pod itself is called.
func (v *validator) names(path *field.Path) field.ErrorList {
	spec := v.spec
	var errs field.ErrorList
	for _, subdomain := range []struct{ child, value string }{
		{"serviceAccountName", spec.ServiceAccountName},
		{"nodeName", spec.NodeName},
		{"priorityClassName", spec.PriorityClassName},
	} {
		if subdomain.value != "" {
			errs = append(errs, check.DNSSubdomain(subdomain.value, path.Child(subdomain.child))...)
		}
	}
	if spec.RuntimeClassName != nil {
		errs = append(errs, check.DNSSubdomain(*spec.RuntimeClassName, path.Child("runtimeClassName"))...)
	}
	if spec.Hostname != "" {
		errs = append(errs, check.DNSLabel(spec.Hostname, path.Child("hostname"))...)
	}
	if spec.Subdomain != "" {
		errs = append(errs, check.DNSLabel(spec.Subdomain, path.Child("subdomain"))...)
	}
	if spec.DeprecatedServiceAccount != spec.ServiceAccountName {
		errs = append(errs, field.Invalid(path.Child("deprecatedServiceAccount"), spec.DeprecatedServiceAccount, fmt.Sprintf("must be the same as serviceAccountName: %q", spec.ServiceAccountName)))
	}
	return append(errs, v.hostnameOverride(path)...)
}

// maxHostname is what a Linux kernel takes as a host name.
const maxHostname = 64

func (v *validator) hostnameOverride(path *field.Path) field.ErrorList {
	name := v.spec.HostnameOverride
	if name == nil {
		return nil
	}
	at := path.Child("hostnameOverride")
	errs := check.DNSSubdomain(*name, at)
	if len(*name) > maxHostname {
		errs = append(errs, field.TooLong(at, "", maxHostname))
	}
	if v.spec.HostNetwork {
		errs = append(errs, field.Forbidden(at, "may not be specified when hostNetwork is true"))
	}
	if v.spec.SetHostnameAsFQDN != nil && *v.spec.SetHostnameAsFQDN {
		errs = append(errs, field.Forbidden(at, "may not be specified when setHostnameAsFQDN is true"))
	}
	return errs
}

func validateGates(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, gate := range spec.ReadinessGates {
		errs = append(errs, check.QualifiedName(string(gate.ConditionType), path.Child("readinessGates").Index(i).Child("conditionType"))...)
	}
	seen := sets.New[string]()
	for i, gate := range spec.SchedulingGates {
		at := path.Child("schedulingGates").Index(i)
		errs = append(errs, check.QualifiedName(gate.Name, at)...)
		if seen.Has(gate.Name) {
			errs = append(errs, field.Duplicate(at, gate.Name))
		}
		seen.Insert(gate.Name)
	}
	return errs
}

// hostUsers checks that a pod with users of its own shares nothing else with the node.
func (v *validator) hostUsers(path *field.Path) field.ErrorList {
	if !v.ownUsers() {
		return nil
	}
	var errs field.ErrorList
	for _, shared := range []struct {
		child string
		set   bool
	}{{"hostNetwork", v.spec.HostNetwork}, {"HostPID", v.spec.HostPID}, {"HostIPC", v.spec.HostIPC}} {
		if shared.set {
			errs = append(errs, field.Forbidden(path.Child(shared.child), notOwnUsers))
		}
	}
	for _, list := range []struct {
		child string
		of    []corev1.Container
	}{{"initContainers", v.spec.InitContainers}, {"containers", v.spec.Containers}} {
		for i := range list.of {
			if len(list.of[i].VolumeDevices) > 0 {
				errs = append(errs, field.Forbidden(path.Child(list.child).Index(i).Child("volumeDevices"), notOwnUsers))
			}
		}
	}
	return errs
}

const notOwnUsers = "when `pod.Spec.HostUsers` is false"
