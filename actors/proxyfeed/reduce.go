package proxyfeed

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/troupe-run/troupe/proto/proxypb"
)

// defaultAffinity is Kubernetes' default time-out of session affinity, in seconds.
const defaultAffinity = 10800

// reduceService returns what proxies need of a service.
func reduceService(svc *corev1.Service) *proxypb.Service {
	out := &proxypb.Service{
		Name:            &proxypb.Name{Namespace: svc.Namespace, Name: svc.Name},
		PublishNotReady: svc.Spec.PublishNotReadyAddresses,
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		out.ExternalName = svc.Spec.ExternalName
		return out
	}
	out.Headless = svc.Spec.ClusterIP == corev1.ClusterIPNone
	if !out.Headless {
		out.ClusterIps = clusterIPs(svc)
	}
	out.ExternalIps = append(out.ExternalIps, svc.Spec.ExternalIPs...)
	for _, in := range svc.Status.LoadBalancer.Ingress {
		// A balancer that delivers to node ports itself (ipMode Proxy) must not be short-cut.
		if in.IP != "" && (in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP) {
			out.ExternalIps = append(out.ExternalIps, in.IP)
		}
	}
	for _, p := range svc.Spec.Ports {
		out.Ports = append(out.Ports, &proxypb.Port{Name: p.Name, Protocol: protocol(&p.Protocol), Port: p.Port, NodePort: p.NodePort})
	}
	if svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		out.AffinitySeconds = defaultAffinity
		if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			out.AffinitySeconds = *c.ClientIP.TimeoutSeconds
		}
	}
	out.InternalLocal = svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	out.ExternalLocal = svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	return out
}

func clusterIPs(svc *corev1.Service) []string {
	if len(svc.Spec.ClusterIPs) > 0 {
		return svc.Spec.ClusterIPs
	}
	if svc.Spec.ClusterIP != "" {
		return []string{svc.Spec.ClusterIP}
	}
	return nil
}

// reduceSlice returns what proxies need of an endpoint slice; nil when it belongs to no service
// or holds names instead of addresses.
func reduceSlice(s *discoveryv1.EndpointSlice) *proxypb.Slice {
	service := s.Labels[discoveryv1.LabelServiceName]
	if service == "" || s.AddressType == discoveryv1.AddressTypeFQDN {
		return nil
	}
	out := &proxypb.Slice{Name: &proxypb.Name{Namespace: s.Namespace, Name: s.Name}, Service: service}
	for _, p := range s.Ports {
		if p.Port == nil {
			continue
		}
		port := &proxypb.Port{Protocol: protocol(p.Protocol), Port: *p.Port}
		if p.Name != nil {
			port.Name = *p.Name
		}
		out.Ports = append(out.Ports, port)
	}
	for _, e := range s.Endpoints {
		// Unknown conditions count as ready, and serving follows ready, as the API says.
		ready := value(e.Conditions.Ready, true)
		ep := &proxypb.Endpoint{
			Addresses:   e.Addresses,
			Hostname:    value(e.Hostname, ""),
			Node:        value(e.NodeName, ""),
			Ready:       ready,
			Serving:     value(e.Conditions.Serving, ready),
			Terminating: value(e.Conditions.Terminating, false),
		}
		out.Endpoints = append(out.Endpoints, ep)
	}
	return out
}

func protocol(p *corev1.Protocol) string {
	if p == nil || *p == "" {
		return string(corev1.ProtocolTCP)
	}
	return string(*p)
}

func value[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
