package endpoints

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// Who keeps a slice, as its label says.
const (
	managedBy  = "endpointslice-controller.k8s.io"
	mirroredBy = "endpointslicemirroring-controller.k8s.io"
)

// wanted returns the slices' content for a Service with a selector, and what they look like.
func wanted(svc *corev1.Service, pods []*corev1.Pod, zone func(node string) string) (grouped, *discoveryv1.EndpointSlice) {
	var out grouped
	for _, family := range families(svc) {
		var all grouped
		for _, pod := range pods {
			if ip := address(pod, family); ip != "" && !ended(pod) {
				all.add(family, ports(svc, pod), endpoint(svc, pod, ip, zone(pod.Spec.NodeName)))
			}
		}
		if len(all.order) == 0 {
			out.add(family, nil)
		}
		for _, key := range all.order {
			g := all.byKey[key]
			slices.SortFunc(g.endpoints, byAddress)
			out.add(family, g.ports, g.endpoints...)
		}
	}
	labels := cloned(svc.Labels)
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		labels[corev1.IsHeadlessService] = ""
	} else {
		delete(labels, corev1.IsHeadlessService)
	}
	labels[discoveryv1.LabelServiceName], labels[discoveryv1.LabelManagedBy] = svc.Name, managedBy
	return out, look(svc, "Service", labels, nil)
}

// mirrored returns the slices' content for hand-made Endpoints, and what they look like.
func mirrored(ep *corev1.Endpoints) (grouped, *discoveryv1.EndpointSlice) {
	var out grouped
	for _, subset := range ep.Subsets {
		var ports []discoveryv1.EndpointPort
		for _, p := range subset.Ports {
			ports = append(ports, discoveryv1.EndpointPort{Name: ptr.To(p.Name), Port: ptr.To(p.Port), Protocol: ptr.To(protocol(p.Protocol)), AppProtocol: p.AppProtocol})
		}
		for isReady, addresses := range map[bool][]corev1.EndpointAddress{true: subset.Addresses, false: subset.NotReadyAddresses} {
			for _, a := range addresses {
				if family := familyOf(a.IP); family != "" {
					out.add(family, ports, mirror(a, isReady))
				}
			}
		}
	}
	for _, key := range out.order {
		g := out.byKey[key]
		slices.SortFunc(g.endpoints, byAddress)
		g.endpoints = g.endpoints[:min(len(g.endpoints), maxAddresses)]
	}
	slices.Sort(out.order)
	labels := cloned(ep.Labels)
	labels[discoveryv1.LabelServiceName], labels[discoveryv1.LabelManagedBy] = ep.Name, mirroredBy
	annotations := cloned(ep.Annotations)
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	delete(annotations, corev1.EndpointsLastChangeTriggerTime)
	delete(annotations, corev1.EndpointsOverCapacity)
	return out, look(ep, "Endpoints", labels, annotations)
}

func mirror(a corev1.EndpointAddress, isReady bool) discoveryv1.Endpoint {
	out := discoveryv1.Endpoint{Addresses: []string{a.IP}, Conditions: discoveryv1.EndpointConditions{Ready: &isReady}, TargetRef: a.TargetRef, NodeName: a.NodeName}
	if a.Hostname != "" {
		out.Hostname = &a.Hostname
	}
	return out
}

// mirrors says that Endpoints are to be mirrored: made by hand and not excepted.
func mirrors(ep *corev1.Endpoints) bool {
	_, leader := ep.Annotations["control-plane.alpha.kubernetes.io/leader"]
	return ep.DeletionTimestamp == nil && ep.Labels[discoveryv1.LabelSkipMirror] != "true" && ep.Labels[managedV1] == "" && !leader
}

// look is a slice without content that belongs to owner.
func look(owner metav1.Object, kind string, labels, annotations map[string]string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Namespace: owner.GetNamespace(), GenerateName: owner.GetName() + "-", Labels: labels, Annotations: annotations,
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, corev1.SchemeGroupVersion.WithKind(kind))},
	}}
}

func cloned(m map[string]string) map[string]string {
	if m == nil {
		return make(map[string]string)
	}
	return maps.Clone(m)
}
