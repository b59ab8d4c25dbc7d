package endpoints

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// managedV1 is the label of Endpoints that this package keeps.
const managedV1 = "endpoints.kubernetes.io/managed-by"

// maxAddresses is how many addresses an Endpoints object holds.
const maxAddresses = 1000

// wantedV1 returns the Endpoints of a Service with a selector.
func wantedV1(svc *corev1.Service, pods []*corev1.Pod) *corev1.Endpoints {
	out := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name, Labels: cloned(svc.Labels)}}
	out.Labels[managedV1] = "endpoint-controller"
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		out.Labels[corev1.IsHeadlessService] = ""
	} else {
		delete(out.Labels, corev1.IsHeadlessService)
	}
	family := families(svc)[0]
	subsets := make(map[string]*corev1.EndpointSubset)
	for _, pod := range pods {
		ip := address(pod, family)
		if ip == "" || ended(pod) || pod.DeletionTimestamp != nil && !svc.Spec.PublishNotReadyAddresses {
			continue
		}
		resolved := ports(svc, pod)
		if len(resolved) == 0 && len(svc.Spec.Ports) > 0 {
			continue
		}
		key := groupKey(family, resolved)
		s := subsets[key]
		if s == nil {
			s = &corev1.EndpointSubset{Ports: v1Ports(resolved)}
			subsets[key] = s
		}
		a := corev1.EndpointAddress{IP: ip, Hostname: hostname(svc, pod), TargetRef: reference(pod)}
		if pod.Spec.NodeName != "" {
			a.NodeName = ptr.To(pod.Spec.NodeName)
		}
		if svc.Spec.PublishNotReadyAddresses || ready(pod) {
			s.Addresses = append(s.Addresses, a)
		} else {
			s.NotReadyAddresses = append(s.NotReadyAddresses, a)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(subsets)) {
		s := subsets[key]
		slices.SortFunc(s.Addresses, byIP)
		slices.SortFunc(s.NotReadyAddresses, byIP)
		out.Subsets = append(out.Subsets, *s)
	}
	if truncate(out) {
		out.Annotations = map[string]string{corev1.EndpointsOverCapacity: "truncated"}
	}
	return out
}

func v1Ports(in []discoveryv1.EndpointPort) (out []corev1.EndpointPort) {
	for _, p := range in {
		out = append(out, corev1.EndpointPort{Name: *p.Name, Port: *p.Port, Protocol: *p.Protocol, AppProtocol: p.AppProtocol})
	}
	slices.SortFunc(out, func(a, b corev1.EndpointPort) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func byIP(a, b corev1.EndpointAddress) int { return strings.Compare(a.IP, b.IP) }

// truncate keeps the first addresses, ready ones before others, and says whether it took any off.
func truncate(ep *corev1.Endpoints) (cut bool) {
	room := maxAddresses
	take := func(list *[]corev1.EndpointAddress) {
		n := min(len(*list), room)
		cut = cut || n < len(*list)
		*list = (*list)[:n]
		room -= n
	}
	for i := range ep.Subsets {
		take(&ep.Subsets[i].Addresses)
	}
	for i := range ep.Subsets {
		take(&ep.Subsets[i].NotReadyAddresses)
	}
	ep.Subsets = slices.DeleteFunc(ep.Subsets, func(s corev1.EndpointSubset) bool { return len(s.Addresses)+len(s.NotReadyAddresses) == 0 })
	return cut
}
