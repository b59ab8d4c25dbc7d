package core

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
)

// holding collects what one write takes from the allocators, to give it back when the write fails.
type holding struct {
	alloc kind.Allocators
	ips   []string
	ports []int32
}

func (h *holding) undo() {
	for _, ip := range h.ips {
		h.alloc.ReleaseIP(ip)
	}
	for _, port := range h.ports {
		h.alloc.ReleaseNodePort(port)
	}
}

func beginServiceCreate(ctx context.Context, obj kind.Object, deps any) (func(), error) {
	return beginService(ctx, obj.(*corev1.Service), nil, deps)
}

func beginServiceUpdate(ctx context.Context, obj, old kind.Object, deps any) (func(), error) {
	s, was := obj.(*corev1.Service), old.(*corev1.Service)
	followClusterIP(s, was)
	keepAllocated(s, was)
	dropUnused(s, was)
	return beginService(ctx, s, was, deps)
}

// beginService allocates what a service needs and old did not hold yet.
func beginService(ctx context.Context, s, old *corev1.Service, deps any) (func(), error) {
	alloc, ok := deps.(kind.Allocators)
	if !ok {
		return nil, apierrors.NewInternalError(fmt.Errorf("service %s/%s: the server has no allocators", s.Namespace, s.Name))
	}
	h := &holding{alloc: alloc}
	errs := h.addresses(ctx, s, old)
	if len(errs) == 0 {
		errs = h.nodePorts(ctx, s, old)
	}
	if len(errs) > 0 {
		h.undo()
		return nil, apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Service").GroupKind(), s.Name, errs)
	}
	return h.undo, nil
}

// addresses settles families and cluster IP.
func (h *holding) addresses(ctx context.Context, s, old *corev1.Service) field.ErrorList {
	spec := &s.Spec
	if !hasClusterIP(s) {
		return nil
	}
	if len(spec.ClusterIPs) == 0 && spec.ClusterIP != "" {
		spec.ClusterIPs = []string{spec.ClusterIP}
	}
	if errs := validateClusterIPs(s); len(errs) > 0 {
		return errs
	}
	if errs := h.families(s); len(errs) > 0 {
		return errs
	}
	if headless(s) || len(spec.ClusterIPs) > 1 {
		return nil // nothing to hand out, or refused by validation
	}
	if old != nil && hasClusterIP(old) && len(old.Spec.ClusterIPs) > 0 {
		return nil // held already; a change is refused by validation
	}
	if own, ok := h.alloc.Own(s.Namespace, s.Name); ok && (spec.ClusterIP == "" || spec.ClusterIP == own) {
		spec.ClusterIP, spec.ClusterIPs = own, []string{own}
		return nil
	}
	ip, err := h.alloc.AllocateIP(ctx, ServiceReference(s), spec.IPFamilies[0], spec.ClusterIP)
	if err != nil {
		asked := spec.ClusterIPs
		if asked == nil {
			asked = []string{}
		}
		return field.ErrorList{field.Invalid(specPath.Child("clusterIPs"), asked, fmt.Sprintf("failed to allocate IP %v: %v", spec.ClusterIP, err))}
	}
	h.ips = append(h.ips, ip)
	spec.ClusterIP, spec.ClusterIPs = ip, []string{ip}
	return nil
}

// ServiceReference names a service as the holder of an address.
func ServiceReference(s *corev1.Service) networkingv1.ParentReference {
	return networkingv1.ParentReference{Resource: "services", Namespace: s.Namespace, Name: s.Name}
}

// families fills in ipFamilies and ipFamilyPolicy. The cluster has one family; a headless service
// without selector, whose endpoints somebody else writes, may speak of both.
func (h *holding) families(s *corev1.Service) field.ErrorList {
	spec, own := &s.Spec, h.alloc.DefaultIPFamily()
	if headless(s) && len(spec.Selector) == 0 {
		if len(spec.IPFamilies) == 0 {
			spec.IPFamilies = []corev1.IPFamily{own}
		}
		if spec.IPFamilyPolicy == nil {
			spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack)
		}
		if len(spec.IPFamilies) == 1 && *spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack {
			other := corev1.IPv6Protocol
			if spec.IPFamilies[0] == corev1.IPv6Protocol {
				other = corev1.IPv4Protocol
			}
			spec.IPFamilies = append(spec.IPFamilies, other)
		}
		return nil
	}
	var errs field.ErrorList
	if spec.IPFamilyPolicy != nil && *spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack {
		errs = append(errs, field.Invalid(specPath.Child("ipFamilyPolicy"), *spec.IPFamilyPolicy, "this cluster is not configured for dual-stack services"))
	}
	for i, family := range spec.IPFamilies {
		if family != own {
			errs = append(errs, field.Invalid(specPath.Child("ipFamilies").Index(i), family, "not configured on this cluster"))
		}
	}
	if spec.IPFamilyPolicy == nil {
		spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicySingleStack)
	}
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = []corev1.IPFamily{own}
	}
	return errs
}

// nodePorts allocates the ports that old did not hold yet. Two protocols of one service may share
// a port.
func (h *holding) nodePorts(ctx context.Context, s, old *corev1.Service) field.ErrorList {
	held := make(map[int32]bool)
	for _, port := range heldPorts(old) {
		held[port] = true
	}
	take := func(want int32, at *field.Path) (int32, *field.Error) {
		if want != 0 && held[want] {
			return want, nil
		}
		got, err := h.alloc.AllocateNodePort(ctx, want)
		if err != nil && want == 0 {
			return 0, field.InternalError(at, fmt.Errorf("failed to allocate a nodePort: %w", err))
		} else if err != nil {
			return 0, field.Invalid(at, want, err.Error())
		}
		h.ports = append(h.ports, got)
		held[got] = true
		return got, nil
	}
	if hasNodePorts(s) {
		// What is asked for by number goes first, lest a free choice take it.
		for _, chosen := range []bool{true, false} {
			for i := range s.Spec.Ports {
				port := &s.Spec.Ports[i]
				if (port.NodePort != 0) != chosen || !chosen && !wantsNodePorts(s) {
					continue
				}
				want := port.NodePort
				if want == 0 {
					want = sharedNodePort(s.Spec.Ports, i)
				}
				got, err := take(want, specPath.Child("ports").Index(i).Child("nodePort"))
				if err != nil {
					return field.ErrorList{err}
				}
				port.NodePort = got
			}
		}
	}
	if hasHealthCheck(s) && (old == nil || !hasHealthCheck(old)) { // it does not change any more
		got, err := take(s.Spec.HealthCheckNodePort, specPath.Child("healthCheckNodePort"))
		if err != nil {
			return field.ErrorList{err}
		}
		s.Spec.HealthCheckNodePort = got
	}
	return nil
}

// sharedNodePort is the node port of another protocol on the same port, or 0.
func sharedNodePort(ports []corev1.ServicePort, i int) int32 {
	for j := range ports {
		if j != i && ports[j].Port == ports[i].Port && ports[j].Protocol != ports[i].Protocol && ports[j].NodePort != 0 {
			return ports[j].NodePort
		}
	}
	return 0
}

// heldPorts are the node ports a service holds.
func heldPorts(s *corev1.Service) []int32 {
	if s == nil {
		return nil
	}
	var out []int32
	for _, port := range s.Spec.Ports {
		if port.NodePort != 0 {
			out = append(out, port.NodePort)
		}
	}
	if s.Spec.HealthCheckNodePort != 0 {
		out = append(out, s.Spec.HealthCheckNodePort)
	}
	return out
}

// heldIPs are the addresses a service holds.
func heldIPs(s *corev1.Service) []string {
	if !hasClusterIP(s) || headless(s) {
		return nil
	}
	if len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP != "" {
		return []string{s.Spec.ClusterIP}
	}
	return s.Spec.ClusterIPs
}

// followClusterIP lets a change of one of clusterIP and clusterIPs carry over to the other.
func followClusterIP(s, old *corev1.Service) {
	spec, was := &s.Spec, &old.Spec
	sameList := slices.Equal(spec.ClusterIPs, was.ClusterIPs)
	switch {
	case spec.ClusterIP != was.ClusterIP && sameList:
		if spec.ClusterIP == "" {
			spec.ClusterIPs = nil
		} else if len(spec.ClusterIPs) > 0 {
			spec.ClusterIPs = append([]string{spec.ClusterIP}, spec.ClusterIPs[1:]...)
		}
	case spec.ClusterIP == was.ClusterIP && !sameList && len(spec.ClusterIPs) == 0:
		spec.ClusterIP = ""
	}
}

// keepAllocated carries over what the user left out because the server had chosen it.
func keepAllocated(s, old *corev1.Service) {
	spec, was := &s.Spec, &old.Spec
	if hasClusterIP(s) && hasClusterIP(old) {
		if spec.ClusterIP == "" {
			spec.ClusterIP = was.ClusterIP
		}
		if len(spec.ClusterIPs) == 0 && spec.ClusterIP == was.ClusterIP {
			spec.ClusterIPs = slices.Clone(was.ClusterIPs)
		}
		if len(spec.IPFamilies) == 0 {
			spec.IPFamilies = slices.Clone(was.IPFamilies)
		}
		if spec.IPFamilyPolicy == nil {
			spec.IPFamilyPolicy = was.IPFamilyPolicy
		}
	}
	if hasNodePorts(s) && hasNodePorts(old) {
		used := make(map[int32]bool)
		for _, port := range spec.Ports {
			used[port.NodePort] = true
		}
		for i := range spec.Ports {
			port := &spec.Ports[i]
			if port.NodePort != 0 {
				continue
			}
			for _, before := range was.Ports {
				if before.Protocol == port.Protocol && before.Port == port.Port && !used[before.NodePort] {
					port.NodePort = before.NodePort
					break
				}
			}
		}
	}
	if hasHealthCheck(s) && hasHealthCheck(old) && spec.HealthCheckNodePort == 0 {
		spec.HealthCheckNodePort = was.HealthCheckNodePort
	}
}

// dropUnused clears what the new type has no use for, as long as the user did not set it anew: a
// client that changes only the type need not know what else belonged to the old one.
func dropUnused(s, old *corev1.Service) {
	spec, was := &s.Spec, &old.Spec
	if !hasClusterIP(s) && hasClusterIP(old) {
		if spec.ClusterIP == was.ClusterIP && slices.Equal(spec.ClusterIPs, was.ClusterIPs) {
			spec.ClusterIP, spec.ClusterIPs = "", nil
		}
		if slices.Equal(spec.IPFamilies, was.IPFamilies) {
			spec.IPFamilies = nil
		}
		if ptr.Equal(spec.IPFamilyPolicy, was.IPFamilyPolicy) {
			spec.IPFamilyPolicy = nil
		}
		if ptr.Equal(spec.InternalTrafficPolicy, was.InternalTrafficPolicy) {
			spec.InternalTrafficPolicy = nil
		}
	}
	if !hasNodePorts(s) && hasNodePorts(old) {
		held := make(map[int32]bool)
		for _, port := range was.Ports {
			held[port.NodePort] = true
		}
		same := !slices.ContainsFunc(spec.Ports, func(p corev1.ServicePort) bool { return p.NodePort != 0 && !held[p.NodePort] })
		for i := range spec.Ports {
			if same {
				spec.Ports[i].NodePort = 0
			}
		}
	}
	if !hasHealthCheck(s) && hasHealthCheck(old) && spec.HealthCheckNodePort == was.HealthCheckNodePort {
		spec.HealthCheckNodePort = 0
	}
	if spec.Type != corev1.ServiceTypeLoadBalancer && was.Type == corev1.ServiceTypeLoadBalancer {
		if ptr.Equal(spec.AllocateLoadBalancerNodePorts, was.AllocateLoadBalancerNodePorts) {
			spec.AllocateLoadBalancerNodePorts = nil
		}
		if ptr.Equal(spec.LoadBalancerClass, was.LoadBalancerClass) {
			spec.LoadBalancerClass = nil
		}
	}
	if !reachable(s) && reachable(old) && spec.ExternalTrafficPolicy == was.ExternalTrafficPolicy {
		spec.ExternalTrafficPolicy = ""
	}
}

func afterServiceUpdate(obj, old kind.Object, deps any) {
	s, was := obj.(*corev1.Service), old.(*corev1.Service)
	if alloc, ok := deps.(kind.Allocators); ok {
		release(alloc, was, heldIPs(s), heldPorts(s))
	}
}

func afterServiceDelete(obj kind.Object, deps any) {
	if alloc, ok := deps.(kind.Allocators); ok {
		release(alloc, obj.(*corev1.Service), nil, nil)
	}
}

// release gives back what was holds, but for what is kept.
func release(alloc kind.Allocators, was *corev1.Service, keepIPs []string, keepPorts []int32) {
	for _, ip := range heldIPs(was) {
		if !slices.Contains(keepIPs, ip) {
			alloc.ReleaseIP(ip)
		}
	}
	for _, port := range heldPorts(was) {
		if !slices.Contains(keepPorts, port) {
			alloc.ReleaseNodePort(port)
		}
	}
}
