package core

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
)

// preparePodStatus keeps everything that does not belong to the status. A pod's class of service
// is settled when it is made.
func preparePodStatus(pod, old *corev1.Pod) {
	pod.Spec = old.Spec
	pod.DeletionTimestamp = old.DeletionTimestamp
	pod.DeletionGracePeriodSeconds = old.DeletionGracePeriodSeconds
	pod.OwnerReferences = old.OwnerReferences
	if pod.Status.QOSClass == "" {
		pod.Status.QOSClass = old.Status.QOSClass
	}
	syncPodIPs(&pod.Status)
}

func validatePodStatus(pod, old *corev1.Pod) field.ErrorList {
	path := field.NewPath("status")
	s, was := &pod.Status, &old.Status
	errs := podspec.ValidateAnnotationUpdate(pod.Annotations, old.Annotations, annotationsPath)
	errs = append(errs, validatePodConditions(s.Conditions, path.Child("conditions"))...)
	if at := path.Child("nominatedNodeName"); s.NominatedNodeName != "" && s.NominatedNodeName != was.NominatedNodeName {
		errs = append(errs, check.DNSSubdomain(s.NominatedNodeName, at)...)
		if old.Spec.NodeName != "" {
			errs = append(errs, field.Forbidden(at, "may not be set on pods that are already bound to a node"))
		}
	}
	if s.ObservedGeneration < 0 {
		errs = append(errs, field.Invalid(path.Child("observedGeneration"), s.ObservedGeneration, notNegative))
	}
	if was.QOSClass != "" && s.QOSClass != was.QOSClass {
		errs = append(errs, field.Invalid(path.Child("qosClass"), s.QOSClass, "field is immutable"))
	}
	if !restartsAll(&pod.Spec) {
		errs = append(errs, stateTransitions(s.ContainerStatuses, was.ContainerStatuses, pod.Spec.Containers, pod.Spec.RestartPolicy, path.Child("containerStatuses"))...)
		errs = append(errs, stateTransitions(s.InitContainerStatuses, was.InitContainerStatuses, pod.Spec.InitContainers, pod.Spec.RestartPolicy, path.Child("initContainerStatuses"))...)
	}
	errs = append(errs, stateTransitions(s.EphemeralContainerStatuses, was.EphemeralContainerStatuses, nil, corev1.RestartPolicyNever, path.Child("ephemeralContainerStatuses"))...)
	errs = append(errs, validateClaimStatuses(s.ResourceClaimStatuses, pod.Spec.ResourceClaims, path.Child("resourceClaimStatuses"))...)
	errs = append(errs, validateIPs(podIPs(s), podIPs(was), path.Child("podIPs"))...)
	now := hostIPs(s)
	if len(now) > 0 && s.HostIP != now[0] {
		errs = append(errs, field.Invalid(path.Child("hostIPs").Index(0).Child("ip"), now[0], "must be equal to `hostIP`"))
	}
	errs = append(errs, validateIPs(now, hostIPs(was), path.Child("hostIPs"))...)
	return append(errs, validateContainerUsers(s, pod.Spec.OS, path)...)
}

const notNegative = "must be a non-negative integer"

func podIPs(s *corev1.PodStatus) []string {
	ips := make([]string, len(s.PodIPs))
	for i := range s.PodIPs {
		ips[i] = s.PodIPs[i].IP
	}
	return ips
}

func hostIPs(s *corev1.PodStatus) []string {
	ips := make([]string, len(s.HostIPs))
	for i := range s.HostIPs {
		ips[i] = s.HostIPs[i].IP
	}
	return ips
}

// systemConditions are those whose type has never had to be a qualified name.
var systemConditions = sets.New(corev1.PodScheduled, corev1.PodReady, corev1.PodInitialized)

func validatePodConditions(conditions []corev1.PodCondition, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, c := range conditions {
		path := path.Index(i)
		if c.ObservedGeneration < 0 {
			errs = append(errs, field.Invalid(path.Child("observedGeneration"), c.ObservedGeneration, notNegative))
		}
		if !systemConditions.Has(c.Type) {
			errs = append(errs, check.QualifiedName(string(c.Type), path.Child("Type"))...)
		}
	}
	return errs
}

func validateClaimStatuses(list []corev1.PodResourceClaimStatus, claims []corev1.PodResourceClaim, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, s := range list {
		path := path.Index(i)
		if !slices.ContainsFunc(claims, func(c corev1.PodResourceClaim) bool { return c.Name == s.Name }) {
			errs = append(errs, field.Invalid(path.Child("name"), s.Name, "must match the name of an entry in `spec.resourceClaims`"))
		}
		if seen.Has(s.Name) {
			errs = append(errs, field.Duplicate(path.Child("name"), s.Name))
		}
		seen.Insert(s.Name)
		if s.ResourceClaimName != nil {
			errs = append(errs, check.DNSSubdomain(*s.ResourceClaimName, path.Child("resourceClaimName"))...)
		}
	}
	return errs
}

// validateContainerUsers checks whom containers run as, as their runtime tells.
func validateContainerUsers(s *corev1.PodStatus, os *corev1.PodOS, status *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, list := range []struct {
		child string
		of    []corev1.ContainerStatus
	}{
		{"containerStatuses", s.ContainerStatuses}, {"initContainerStatuses", s.InitContainerStatuses}, {"ephemeralContainerStatuses", s.EphemeralContainerStatuses},
	} {
		for i := range list.of {
			if list.of[i].User == nil || list.of[i].User.Linux == nil {
				continue
			}
			user, path := list.of[i].User.Linux, status.Child(list.child).Index(i).Child("user", "linux")
			if os != nil && os.Name == corev1.Windows {
				errs = append(errs, field.Forbidden(path, "cannot be set for a windows pod"))
				continue
			}
			errs = append(errs, check.Invalid(user.UID, validation.IsValidUserID(user.UID), path.Child("uid"))...)
			errs = append(errs, check.Invalid(user.GID, validation.IsValidGroupID(user.GID), path.Child("gid"))...)
			for g, id := range user.SupplementalGroups {
				errs = append(errs, check.Invalid(id, validation.IsValidGroupID(id), path.Child("supplementalGroups").Index(g))...)
			}
		}
	}
	return errs
}

// stateTransitions refuses to bring a container back to life that its restart policy has done with.
func stateTransitions(now, was []corev1.ContainerStatus, specs []corev1.Container, pod corev1.RestartPolicy, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for at, before := range was {
		if before.State.Terminated == nil || mayRestart(before, specs, pod) {
			continue
		}
		for i := range now {
			if now[i].Name == before.Name && now[i].State.Terminated == nil {
				errs = append(errs, field.Forbidden(path.Index(at).Child("state"), "may not be transitioned to non-terminated state"))
			}
		}
	}
	return errs
}

// restartsAll says whether a container may bring all others back to life, by a rule.
func restartsAll(spec *corev1.PodSpec) bool {
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			if slices.ContainsFunc(list[i].RestartPolicyRules, func(r corev1.ContainerRestartRule) bool {
				return r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
			}) {
				return true
			}
		}
	}
	return false
}

func mayRestart(s corev1.ContainerStatus, specs []corev1.Container, pod corev1.RestartPolicy) bool {
	policy := pod
	for i := range specs {
		if specs[i].Name == s.Name && (specs[i].RestartPolicy != nil || len(specs[i].RestartPolicyRules) > 0) {
			if len(specs[i].RestartPolicyRules) > 0 {
				return true
			}
			policy = corev1.RestartPolicy(*specs[i].RestartPolicy)
		}
	}
	return policy == corev1.RestartPolicyAlways ||
		policy == corev1.RestartPolicyOnFailure && s.State.Terminated.ExitCode != 0
}

// validateIPs checks the addresses of a pod or of its node: at most one of each family. Those it had
// may stay, whatever they are.
func validateIPs(ips, was []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	v4, v6 := 0, 0
	for i, ip := range ips {
		errs = append(errs, validation.IsValidIPForLegacyField(path.Index(i), ip, true, was)...)
		if addr, err := netip.ParseAddr(ip); err == nil && addr.Is6() {
			v6++
		} else {
			v4++
		}
	}
	if v4 > 1 || v6 > 1 {
		errs = append(errs, field.Invalid(path, ips, "may specify no more than one IP for each IP family"))
	}
	return errs
}
