package core

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

func validateServiceUpdate(s, old *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	if s.Spec.Type != corev1.ServiceTypeExternalName && old.Spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, validateClusterIPChange(s, old)...)
		errs = append(errs, validateFamilyChange(s, old)...)
	}
	if hasHealthCheck(s) && hasHealthCheck(old) && s.Spec.HealthCheckNodePort != old.Spec.HealthCheckNodePort {
		errs = append(errs, field.Forbidden(specPath.Child("healthCheckNodePort"), "field is immutable"))
	}
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer && old.Spec.Type == corev1.ServiceTypeLoadBalancer {
		now, was := s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass
		if (now == nil) != (was == nil) || now != nil && *now != *was {
			errs = append(errs, field.Invalid(specPath.Child("loadBalancerClass"), now, onceSet))
		}
	}
	return append(errs, validateService(s, old)...)
}

const (
	onceSet = "may not change once set"
	// releasing is why a service that drops its second address has to say that it wants only one.
	releasing = "must be set to 'SingleStack' when releasing the secondary "
)

func singleStack(s *corev1.Service) bool {
	return s.Spec.IPFamilyPolicy != nil && *s.Spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack
}

// validateClusterIPChange lets a second address come and go; those that stay are what they were.
func validateClusterIPChange(s, old *corev1.Service) field.ErrorList {
	if headless(s) && headless(old) {
		return nil
	}
	at, now, was := specPath.Child("clusterIPs"), s.Spec.ClusterIPs, old.Spec.ClusterIPs
	if len(was) > 0 && len(now) == 0 {
		return field.ErrorList{field.Invalid(at.Index(0), now, "primary clusterIP can not be unset")}
	}
	var errs field.ErrorList
	for i := range min(len(now), len(was)) {
		if now[i] != was[i] {
			errs = append(errs, field.Invalid(at.Index(i), now, onceSet))
		}
	}
	if len(now) < len(was) && !singleStack(s) {
		errs = append(errs, field.Invalid(specPath.Child("ipFamilyPolicy"), s.Spec.IPFamilyPolicy, releasing+"clusterIP"))
	}
	return errs
}

// validateFamilyChange is the same for families. Headless services may change theirs.
func validateFamilyChange(s, old *corev1.Service) field.ErrorList {
	if headless(s) || headless(old) {
		return nil
	}
	at, now, was := specPath.Child("ipFamilies").Index(0), s.Spec.IPFamilies, old.Spec.IPFamilies
	if len(was) > 0 && len(now) == 0 {
		return field.ErrorList{field.Invalid(at, now, "primary ipFamily can not be unset")}
	}
	var errs field.ErrorList
	for i := range min(len(now), len(was)) {
		if now[i] != was[i] {
			errs = append(errs, field.Invalid(at, now, onceSet))
		}
	}
	if len(now) < len(was) && !singleStack(s) {
		errs = append(errs, field.Invalid(specPath.Child("ipFamilyPolicy"), s.Spec.IPFamilyPolicy, releasing+"ipFamily"))
	}
	return errs
}

func validateServiceStatus(s, old *corev1.Service) field.ErrorList {
	at := field.NewPath("status", "loadBalancer", "ingress")
	ingress := s.Status.LoadBalancer.Ingress
	if len(ingress) == 0 {
		return nil
	}
	var errs field.ErrorList
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return append(errs, field.Forbidden(at, "may only be used when `spec.type` is 'LoadBalancer'"))
	}
	var oldIPs []string
	for _, in := range old.Status.LoadBalancer.Ingress {
		oldIPs = append(oldIPs, in.IP)
	}
	for i, in := range ingress {
		at := at.Index(i)
		if in.IP != "" {
			errs = append(errs, validation.IsValidIPForLegacyField(at.Child("ip"), in.IP, true, oldIPs)...)
		}
		switch {
		case in.IP == "" && in.IPMode != nil:
			errs = append(errs, field.Forbidden(at.Child("ipMode"), "may not be specified when `ip` is not set"))
		case in.IP != "" && in.IPMode == nil:
			errs = append(errs, field.Required(at.Child("ipMode"), "must be specified when `ip` is set"))
		}
		errs = append(errs, check.OptionalOneOf(in.IPMode, ipModes, at.Child("ipMode"))...)
		if in.Hostname != "" {
			errs = append(errs, check.DNSSubdomain(in.Hostname, at.Child("hostname"))...)
			if _, err := netip.ParseAddr(in.Hostname); err == nil {
				errs = append(errs, field.Invalid(at.Child("hostname"), in.Hostname, "must be a DNS name, not an IP address"))
			}
		}
	}
	return errs
}
