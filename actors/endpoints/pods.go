package endpoints

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

func ready(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// address returns the pod's IP of a family, "" when it has none (yet).
func address(pod *corev1.Pod, family discoveryv1.AddressType) string {
	ips := pod.Status.PodIPs
	if len(ips) == 0 && pod.Status.PodIP != "" {
		ips = []corev1.PodIP{{IP: pod.Status.PodIP}}
	}
	for _, ip := range ips {
		if familyOf(ip.IP) == family {
			return ip.IP
		}
	}
	return ""
}

// familyOf returns the family of an address, "" when it is none.
func familyOf(ip string) discoveryv1.AddressType {
	addr, err := netip.ParseAddr(ip)
	switch {
	case err != nil:
		return ""
	case addr.Unmap().Is4():
		return discoveryv1.AddressTypeIPv4
	}
	return discoveryv1.AddressTypeIPv6
}

// families returns a Service's address families, the primary one first.
func families(svc *corev1.Service) (out []discoveryv1.AddressType) {
	for _, f := range svc.Spec.IPFamilies {
		out = append(out, discoveryv1.AddressType(f))
	}
	if len(out) > 0 {
		return out
	}
	if f := familyOf(svc.Spec.ClusterIP); f != "" {
		return []discoveryv1.AddressType{f}
	}
	return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4}
}

// endpoint describes a pod in a slice.
func endpoint(svc *corev1.Service, pod *corev1.Pod, ip, zone string) discoveryv1.Endpoint {
	serving, terminating := ready(pod), pod.DeletionTimestamp != nil
	out := discoveryv1.Endpoint{
		Addresses: []string{ip},
		Conditions: discoveryv1.EndpointConditions{
			Ready:       ptr.To(svc.Spec.PublishNotReadyAddresses || serving && !terminating),
			Serving:     &serving,
			Terminating: &terminating,
		},
		TargetRef: reference(pod),
	}
	if pod.Spec.NodeName != "" {
		out.NodeName = ptr.To(pod.Spec.NodeName)
	}
	if zone != "" {
		out.Zone = &zone
	}
	if name := hostname(svc, pod); name != "" {
		out.Hostname = &name
	}
	return out
}

func reference(pod *corev1.Pod) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}

// hostname is the name under which a headless Service's DNS shows the pod.
func hostname(svc *corev1.Service, pod *corev1.Pod) string {
	if pod.Spec.Subdomain != svc.Name {
		return ""
	}
	return pod.Spec.Hostname
}

// port resolves a Service port on a pod: a number, or the name of one of its containers' ports.
func port(pod *corev1.Pod, p corev1.ServicePort) (int32, bool) {
	if p.TargetPort.Type == intstr.Int {
		if p.TargetPort.IntVal == 0 {
			return p.Port, true // the default that the API server fills in
		}
		return p.TargetPort.IntVal, true
	}
	for _, c := range pod.Spec.Containers {
		if n, ok := named(c.Ports, p); ok {
			return n, true
		}
	}
	for _, c := range pod.Spec.InitContainers {
		if ptr.Deref(c.RestartPolicy, "") != corev1.ContainerRestartPolicyAlways {
			continue
		}
		if n, ok := named(c.Ports, p); ok {
			return n, true
		}
	}
	return 0, false
}

func named(ports []corev1.ContainerPort, p corev1.ServicePort) (int32, bool) {
	for _, have := range ports {
		if have.Name == p.TargetPort.StrVal && protocol(have.Protocol) == protocol(p.Protocol) {
			return have.ContainerPort, true
		}
	}
	return 0, false
}

func protocol(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

// ports resolves a Service's ports on a pod; those that the pod does not name are left out.
func ports(svc *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	out := make([]discoveryv1.EndpointPort, 0, len(svc.Spec.Ports))
	for _, p := range svc.Spec.Ports {
		if n, ok := port(pod, p); ok {
			out = append(out, discoveryv1.EndpointPort{Name: ptr.To(p.Name), Port: &n, Protocol: ptr.To(protocol(p.Protocol)), AppProtocol: p.AppProtocol})
		}
	}
	return out
}
