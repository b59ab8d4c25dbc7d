package core

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
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

var conditionStatuses = sets.New(corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown)

func validatePodStatus(pod, old *corev1.Pod) field.ErrorList {
	path := field.NewPath("status")
	s, was := &pod.Status, &old.Status
	errs := validatePodConditions(s.Conditions, path.Child("conditions"))
	if s.NominatedNodeName != "" {
		errs = append(errs, check.DNSSubdomain(s.NominatedNodeName, path.Child("nominatedNodeName"))...)
	}
	if was.QOSClass != "" && s.QOSClass != was.QOSClass {
		errs = append(errs, field.Invalid(path.Child("qosClass"), s.QOSClass, "field is immutable"))
	}
	if !restartsAll(&pod.Spec) {
		errs = append(errs, stateTransitions(s.ContainerStatuses, was.ContainerStatuses, pod.Spec.Containers, pod.Spec.RestartPolicy, path.Child("containerStatuses"))...)
		errs = append(errs, stateTransitions(s.InitContainerStatuses, was.InitContainerStatuses, pod.Spec.InitContainers, pod.Spec.RestartPolicy, path.Child("initContainerStatuses"))...)
	}
	errs = append(errs, stateTransitions(s.EphemeralContainerStatuses, was.EphemeralContainerStatuses, nil, corev1.RestartPolicyNever, path.Child("ephemeralContainerStatuses"))...)
	if len(s.PodIPs) > 0 {
		ips := make([]string, len(s.PodIPs))
		for i := range s.PodIPs {
			ips[i] = s.PodIPs[i].IP
		}
		errs = append(errs, validateIPs(ips, path.Child("podIPs"))...)
	}
	if len(s.HostIPs) > 0 {
		ips := make([]string, len(s.HostIPs))
		for i := range s.HostIPs {
			ips[i] = s.HostIPs[i].IP
		}
		if s.HostIP != ips[0] {
			errs = append(errs, field.Invalid(path.Child("hostIPs"), s.HostIPs, "must be equal to `hostIP`"))
		}
		errs = append(errs, validateIPs(ips, path.Child("hostIPs"))...)
	}
	return errs
}

func validatePodConditions(conditions []corev1.PodCondition, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, c := range conditions {
		if c.Status != "" {
			errs = append(errs, check.OneOfOrBad(c.Status, conditionStatuses, path.Index(i).Child("status"))...)
		}
	}
	return errs
}

// stateTransitions refuses to bring a container back to life that its restart policy has done with.
func stateTransitions(now, was []corev1.ContainerStatus, specs []corev1.Container, pod corev1.RestartPolicy, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, before := range was {
		if before.State.Terminated == nil || mayRestart(before, specs, pod) {
			continue
		}
		for i := range now {
			if now[i].Name == before.Name && now[i].State.Terminated == nil {
				errs = append(errs, field.Forbidden(path.Index(i).Child("state"), "may not be transitioned to non-terminated state"))
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

// validateIPs checks the addresses of a pod or of its node: at most one of each family.
func validateIPs(ips []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	v4, v6 := 0, 0
	seen := sets.New[string]()
	for i, ip := range ips {
		errs = append(errs, validation.IsValidIPForLegacyField(path.Index(i), ip, true, nil)...)
		if seen.Has(ip) {
			errs = append(errs, field.Duplicate(path.Index(i), ip))
		}
		seen.Insert(ip)
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
