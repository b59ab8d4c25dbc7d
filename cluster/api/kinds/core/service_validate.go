package core

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

var (
	serviceTypes         = sets.New(corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName)
	affinities           = sets.New(corev1.ServiceAffinityNone, corev1.ServiceAffinityClientIP)
	externalPolicies     = sets.New(corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)
	internalPolicies     = sets.New(corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)
	trafficDistributions = sets.New(corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode)
	ipFamilies           = sets.New(corev1.IPv4Protocol, corev1.IPv6Protocol)
	ipFamilyPolicies     = sets.New(corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack)
	ipModes              = sets.New(corev1.LoadBalancerIPModeVIP, corev1.LoadBalancerIPModeProxy)
	protocols            = sets.New(corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
)

// nodeAgentPort is the port the agent of a node has in Kubernetes; a load balancer must not lead there.
const nodeAgentPort = 10250

const onlyLoadBalancer = "may only be used when `type` is 'LoadBalancer'"

func validateService(s, old *corev1.Service) field.ErrorList {
	spec := &s.Spec
	var errs field.ErrorList
	if len(spec.Ports) == 0 && !headless(s) && spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, field.Required(specPath.Child("ports"), ""))
	}
	errs = append(errs, check.OneOf(spec.Type, serviceTypes, specPath.Child("type"))...)
	errs = append(errs, validateServiceType(s)...)
	errs = append(errs, validateServicePorts(s)...)
	if spec.Selector != nil {
		errs = append(errs, metavalidation.ValidateLabels(spec.Selector, specPath.Child("selector"))...)
	}
	errs = append(errs, check.OneOf(spec.SessionAffinity, affinities, specPath.Child("sessionAffinity"))...)
	errs = append(errs, validateAffinityConfig(s)...)
	errs = append(errs, validateClusterIPs(s)...)
	var oldExternal []string
	if old != nil {
		oldExternal = old.Spec.ExternalIPs
	}
	for i, ip := range spec.ExternalIPs {
		at := specPath.Child("externalIPs").Index(i)
		if bad := validation.IsValidIPForLegacyField(at, ip, true, oldExternal); len(bad) > 0 {
			errs = append(errs, bad...)
		} else {
			errs = append(errs, check.NonSpecialIP(ip, at)...)
		}
	}
	errs = append(errs, validateTraffic(s)...)
	errs = append(errs, validateLoadBalancer(s, old)...)
	return append(errs, validateServiceAnnotations(s, old)...)
}

// validateServiceAnnotations checks the annotations that were fields of services before there were
// fields for them.
func validateServiceAnnotations(s, old *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("metadata", "annotations")
	hints, hasHints := s.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	if mode, ok := s.Annotations[corev1.AnnotationTopologyMode]; ok && hasHints && mode != hints {
		errs = append(errs, field.Invalid(at.Key(corev1.AnnotationTopologyMode), mode,
			fmt.Sprintf("must match annotations[%s] when both are specified", corev1.DeprecatedAnnotationTopologyAwareHints)))
	}
	ranges, ok := s.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey]
	if !ok || len(s.Spec.LoadBalancerSourceRanges) > 0 {
		return errs
	}
	at = at.Key(corev1.AnnotationLoadBalancerSourceRangesKey)
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		errs = append(errs, field.Forbidden(at, onlyLoadBalancer))
	}
	if ranges = strings.TrimSpace(ranges); ranges == "" || old != nil && strings.TrimSpace(old.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey]) == ranges {
		return errs
	}
	for cidr := range strings.SplitSeq(ranges, ",") {
		errs = append(errs, validation.IsValidCIDRForLegacyField(at, strings.TrimSpace(cidr), true, nil)...)
	}
	return errs
}

func validateServiceType(s *corev1.Service) field.ErrorList {
	spec := &s.Spec
	var errs field.ErrorList
	switch spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		for i, port := range spec.Ports {
			if port.Port == nodeAgentPort {
				errs = append(errs, field.Invalid(specPath.Child("ports").Index(i), port.Port,
					fmt.Sprintf("may not expose port %v externally since it is used by kubelet", nodeAgentPort)))
			}
		}
		fallthrough
	case corev1.ServiceTypeNodePort:
		if headless(s) {
			errs = append(errs, field.Invalid(specPath.Child("clusterIPs").Index(0), corev1.ClusterIPNone, fmt.Sprintf("may not be set to 'None' for %s services", spec.Type)))
		}
	case corev1.ServiceTypeExternalName:
		const not = "may not be set for ExternalName services"
		if len(spec.ClusterIPs) > 0 || spec.ClusterIP != "" {
			errs = append(errs, field.Forbidden(specPath.Child("clusterIPs"), not))
		}
		if len(spec.IPFamilies) > 0 {
			errs = append(errs, field.Forbidden(specPath.Child("ipFamilies"), not))
		}
		if spec.IPFamilyPolicy != nil {
			errs = append(errs, field.Forbidden(specPath.Child("ipFamilyPolicy"), not))
		}
		// A trailing dot makes the name an absolute one.
		if name := strings.TrimSuffix(spec.ExternalName, "."); name == "" {
			errs = append(errs, field.Required(specPath.Child("externalName"), ""))
		} else {
			errs = append(errs, check.DNSSubdomain(name, specPath.Child("externalName"))...)
		}
	}
	return errs
}

func validateServicePorts(s *corev1.Service) field.ErrorList {
	type id struct {
		protocol corev1.Protocol
		port     int32
	}
	var errs field.ErrorList
	names, ports, nodePorts := sets.New[string](), sets.New[id](), sets.New[id]()
	for i := range s.Spec.Ports {
		port, at := &s.Spec.Ports[i], specPath.Child("ports").Index(i)
		switch {
		case port.Name == "":
			if len(s.Spec.Ports) > 1 {
				errs = append(errs, field.Required(at.Child("name"), ""))
			}
		default:
			errs = append(errs, check.DNSLabel(port.Name, at.Child("name"))...)
			if names.Has(port.Name) {
				errs = append(errs, field.Duplicate(at.Child("name"), port.Name))
			}
			names.Insert(port.Name)
		}
		errs = append(errs, check.Port(port.Port, at.Child("port"))...)
		errs = append(errs, check.OneOf(port.Protocol, protocols, at.Child("protocol"))...)
		errs = append(errs, check.PortNumOrName(port.TargetPort, at.Child("targetPort"))...)
		if port.AppProtocol != nil {
			errs = append(errs, check.QualifiedName(*port.AppProtocol, at.Child("appProtocol"))...)
		}
		if port.NodePort != 0 {
			if s.Spec.Type == corev1.ServiceTypeClusterIP {
				errs = append(errs, field.Forbidden(at.Child("nodePort"), "may not be used when `type` is 'ClusterIP'"))
			}
			if nodePorts.Has(id{port.Protocol, port.NodePort}) {
				errs = append(errs, field.Duplicate(at.Child("nodePort"), port.NodePort))
			}
			nodePorts.Insert(id{port.Protocol, port.NodePort})
		}
		if ports.Has(id{port.Protocol, port.Port}) {
			errs = append(errs, field.Duplicate(at, corev1.ServicePort{Protocol: port.Protocol, Port: port.Port}))
		}
		ports.Insert(id{port.Protocol, port.Port})
	}
	return errs
}

func validateAffinityConfig(s *corev1.Service) field.ErrorList {
	at, c := specPath.Child("sessionAffinityConfig"), s.Spec.SessionAffinityConfig
	switch s.Spec.SessionAffinity {
	case corev1.ServiceAffinityNone:
		if c != nil {
			return field.ErrorList{field.Forbidden(at, fmt.Sprintf("must not be set when session affinity is %s", corev1.ServiceAffinityNone))}
		}
	case corev1.ServiceAffinityClientIP:
		const when = "when session affinity type is ClientIP"
		switch {
		case c == nil:
			return field.ErrorList{field.Required(at, when)}
		case c.ClientIP == nil:
			return field.ErrorList{field.Required(at.Child("clientIP"), when)}
		case c.ClientIP.TimeoutSeconds == nil:
			return field.ErrorList{field.Required(at.Child("clientIP", "timeoutSeconds"), when)}
		}
		const day = 24 * 60 * 60
		if n := *c.ClientIP.TimeoutSeconds; n <= 0 || n > day {
			return field.ErrorList{field.Invalid(at.Child("clientIP", "timeoutSeconds"), n, fmt.Sprintf("must be greater than 0 and less than %d", day))}
		}
	}
	return nil
}

// validateClusterIPs checks addresses, their families and the policy about them against each other.
func validateClusterIPs(s *corev1.Service) field.ErrorList {
	spec := &s.Spec
	if spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	var errs field.ErrorList
	at := specPath.Child("clusterIPs")
	seen := sets.New[corev1.IPFamily]()
	for i, family := range spec.IPFamilies {
		at := specPath.Child("ipFamilies").Index(i)
		errs = append(errs, check.OneOfOrBad(family, ipFamilies, at)...)
		if seen.Has(family) {
			errs = append(errs, field.Duplicate(at, family))
		}
		seen.Insert(family)
	}
	errs = append(errs, check.OptionalOneOf(spec.IPFamilyPolicy, ipFamilyPolicies, specPath.Child("ipFamilyPolicy"))...)
	switch {
	case spec.ClusterIP == "" && len(spec.ClusterIPs) > 0:
		errs = append(errs, field.Invalid(at, spec.ClusterIPs, "must be empty when `clusterIP` is not specified"))
	case len(spec.ClusterIPs) > 0 && spec.ClusterIPs[0] != spec.ClusterIP:
		errs = append(errs, field.Invalid(at, spec.ClusterIPs, "first value must match `clusterIP`"))
	}
	if len(spec.ClusterIPs) > 2 {
		return append(errs, field.Invalid(at, spec.ClusterIPs, "may only hold up to 2 values"))
	}
	for i, ip := range spec.ClusterIPs {
		if ip == corev1.ClusterIPNone {
			if len(spec.ClusterIPs) > 1 {
				errs = append(errs, field.Invalid(at, spec.ClusterIPs, "'None' must be the first and only value"))
			}
			continue
		}
		if bad := validation.IsValidIPForLegacyField(at.Index(i), ip, true, nil); len(bad) > 0 {
			errs = append(errs, bad...)
			continue
		}
		if i < len(spec.IPFamilies) && ipFamilies.Has(spec.IPFamilies[i]) && familyOf(ip) != spec.IPFamilies[i] {
			errs = append(errs, field.Invalid(at.Index(i), ip, fmt.Sprintf("expected an %v value as indicated by `ipFamilies[%v]`", spec.IPFamilies[i], i)))
		}
	}
	if len(spec.ClusterIPs) == 2 && familyOf(spec.ClusterIPs[0]) == familyOf(spec.ClusterIPs[1]) {
		errs = append(errs, field.Invalid(at, spec.ClusterIPs, "may specify no more than one IP for each IP family"))
	}
	return errs
}

func familyOf(ip string) corev1.IPFamily {
	if addr, err := netip.ParseAddr(ip); err == nil && addr.Is6() && !addr.Is4In6() {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}

func validateTraffic(s *corev1.Service) field.ErrorList {
	spec := &s.Spec
	var errs field.ErrorList
	at := specPath.Child("externalTrafficPolicy")
	switch {
	case reachable(s):
		errs = append(errs, check.OneOf(spec.ExternalTrafficPolicy, externalPolicies, at)...)
	case spec.ExternalTrafficPolicy != "":
		errs = append(errs, field.Invalid(at, spec.ExternalTrafficPolicy, "may only be set for externally-accessible services"))
	}
	at = specPath.Child("healthCheckNodePort")
	if hasHealthCheck(s) {
		if spec.HealthCheckNodePort != 0 {
			errs = append(errs, check.Port(spec.HealthCheckNodePort, at)...)
		}
	} else if spec.HealthCheckNodePort != 0 {
		errs = append(errs, field.Invalid(at, spec.HealthCheckNodePort, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
	}
	if hasClusterIP(s) {
		if spec.InternalTrafficPolicy == nil {
			errs = append(errs, field.Required(specPath.Child("internalTrafficPolicy"), ""))
		}
		errs = append(errs, check.OptionalOneOf(spec.InternalTrafficPolicy, internalPolicies, specPath.Child("internalTrafficPolicy"))...)
	}
	return append(errs, check.OptionalOneOf(spec.TrafficDistribution, trafficDistributions, specPath.Child("trafficDistribution"))...)
}

func validateLoadBalancer(s, old *corev1.Service) field.ErrorList {
	spec := &s.Spec
	is := spec.Type == corev1.ServiceTypeLoadBalancer
	var errs field.ErrorList
	// In Kubernetes, too, this path is in upper case.
	at := specPath.Child("LoadBalancerSourceRanges")
	if len(spec.LoadBalancerSourceRanges) > 0 && !is {
		errs = append(errs, field.Forbidden(at, onlyLoadBalancer))
	}
	var oldRanges []string
	if old != nil {
		for _, cidr := range old.Spec.LoadBalancerSourceRanges {
			oldRanges = append(oldRanges, strings.TrimSpace(cidr))
		}
	}
	for i, cidr := range spec.LoadBalancerSourceRanges {
		// Spaces around a range have always been let through.
		errs = append(errs, validation.IsValidCIDRForLegacyField(at.Index(i), strings.TrimSpace(cidr), true, oldRanges)...)
	}
	if spec.AllocateLoadBalancerNodePorts != nil && !is {
		errs = append(errs, field.Forbidden(specPath.Child("allocateLoadBalancerNodePorts"), onlyLoadBalancer))
	}
	if spec.LoadBalancerClass != nil {
		at := specPath.Child("loadBalancerClass")
		if is {
			errs = append(errs, check.QualifiedName(*spec.LoadBalancerClass, at)...)
		} else {
			errs = append(errs, field.Forbidden(at, onlyLoadBalancer))
		}
	}
	return errs
}
