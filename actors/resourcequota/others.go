package resourcequota

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/utils/ptr"
)

var serviceNames = sets.New(corev1.ResourceName("count/services"), corev1.ResourceServices, corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers)

// services measures services: their number, their node ports, and how many want a load balancer.
func services() *measure {
	return &measure{
		resource: corev1.Resource("services"),
		names:    serviceNames.Has,
		usage: func(obj runtime.Object) (corev1.ResourceList, error) {
			svc, ok := obj.(*corev1.Service)
			if !ok {
				return nil, fmt.Errorf("expect *v1.Service, got %T", obj)
			}
			zero := resource.Quantity{Format: resource.DecimalSI}
			out := corev1.ResourceList{"count/services": one(), corev1.ResourceServices: one(),
				corev1.ResourceServicesLoadBalancers: zero, corev1.ResourceServicesNodePorts: zero}
			if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
				out[corev1.ResourceServicesLoadBalancers] = one()
			}
			out[corev1.ResourceServicesNodePorts] = *resource.NewQuantity(nodePorts(svc), resource.DecimalSI)
			return out, nil
		},
		handles: func(a admission.Attributes) bool {
			return a.GetSubresource() == "" && (a.GetOperation() == admission.Create || a.GetOperation() == admission.Update)
		},
	}
}

// nodePorts is how many ports of nodes the service takes, or will take: they are allocated later.
func nodePorts(svc *corev1.Service) int64 {
	switch svc.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return int64(len(svc.Spec.Ports))
	case corev1.ServiceTypeLoadBalancer:
		if ptr.Deref(svc.Spec.AllocateLoadBalancerNodePorts, true) {
			return int64(len(svc.Spec.Ports))
		}
		var n int64
		for _, p := range svc.Spec.Ports {
			if p.NodePort != 0 {
				n++
			}
		}
		return n
	}
	return 0
}

// classSuffix stands between a storage class and what is limited in it.
const classSuffix = ".storageclass.storage.k8s.io/"

var claimNames = sets.New(corev1.ResourcePersistentVolumeClaims, corev1.ResourceRequestsStorage)

// claims measures claims: their number and the storage they request, in all and by class.
func claims() *measure {
	return &measure{
		resource: corev1.Resource("persistentvolumeclaims"),
		names: func(name corev1.ResourceName) bool {
			if _, rest, ok := strings.Cut(string(name), classSuffix); ok {
				return claimNames.Has(corev1.ResourceName(rest))
			}
			return name == "count/persistentvolumeclaims" || claimNames.Has(name)
		},
		usage: func(obj runtime.Object) (corev1.ResourceList, error) {
			claim, ok := obj.(*corev1.PersistentVolumeClaim)
			if !ok {
				return nil, fmt.Errorf("expect *v1.PersistentVolumeClaim, got %T", obj)
			}
			out := corev1.ResourceList{"count/persistentvolumeclaims": one(), corev1.ResourcePersistentVolumeClaims: one()}
			if storage, ok := storageOf(claim); ok {
				out[corev1.ResourceRequestsStorage] = storage
			}
			if class := classOf(claim); class != "" {
				for name := range claimNames {
					if q, ok := out[name]; ok {
						out[corev1.ResourceName(class+classSuffix)+name] = q
					}
				}
			}
			return out, nil
		},
		scope: func(s corev1.ScopedResourceSelectorRequirement, obj runtime.Object) (bool, error) {
			claim, ok := obj.(*corev1.PersistentVolumeClaim)
			if !ok || s.ScopeName != corev1.ResourceQuotaScopeVolumeAttributesClass {
				return false, nil
			}
			return selects(s, attributesOf(claim)...)
		},
		handles: func(a admission.Attributes) bool {
			switch a.GetSubresource() {
			case "":
				return a.GetOperation() == admission.Create || a.GetOperation() == admission.Update
			case "status":
				return a.GetOperation() == admission.Update
			}
			return false
		},
	}
}

// storageOf is what the claim asked for, or has been given if that is more, in whole bytes.
func storageOf(claim *corev1.PersistentVolumeClaim) (resource.Quantity, bool) {
	q, ok := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	if !ok {
		return q, false
	}
	if given, ok := claim.Status.AllocatedResources[corev1.ResourceStorage]; ok && given.Cmp(q) > 0 {
		q = given
	}
	q = q.DeepCopy()
	q.RoundUp(0)
	return q, true
}

func classOf(claim *corev1.PersistentVolumeClaim) string {
	if class, ok := claim.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return class
	}
	return ptr.Deref(claim.Spec.StorageClassName, "")
}

// attributesOf are the volume attributes classes that the claim wants, has, or is changing to.
func attributesOf(claim *corev1.PersistentVolumeClaim) []string {
	names := sets.New(ptr.Deref(claim.Spec.VolumeAttributesClassName, ""), ptr.Deref(claim.Status.CurrentVolumeAttributesClassName, ""))
	if m := claim.Status.ModifyVolumeStatus; m != nil {
		names.Insert(m.TargetVolumeAttributesClassName)
	}
	return sets.List(names.Delete(""))
}
