package auth

import (
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

var (
	persistentVolumes      = messages.Resource{Resource: "persistentvolumes"}
	persistentVolumeClaims = messages.Resource{Resource: "persistentvolumeclaims"}
	volumeAttachments      = messages.Resource{Group: storagev1.GroupName, Resource: "volumeattachments"}
	resourceSlices         = messages.Resource{Group: resourcev1.GroupName, Resource: "resourceslices"}
)

// leadsTo says whether an object belongs to a node or to what the pods bound to it use.
func (n *Node) leadsTo(node, resource, namespace, name string) bool {
	switch resource {
	case "volumeattachments":
		va, ok := objects.Get[*storagev1.VolumeAttachment](n.reader, messages.KeyOf(volumeAttachments, "", name))
		return ok && va.Spec.NodeName == node
	case "resourceslices":
		s, ok := objects.Get[*resourcev1.ResourceSlice](n.reader, messages.KeyOf(resourceSlices, "", name))
		return ok && s.Spec.NodeName != nil && *s.Spec.NodeName == node
	}
	for _, pod := range objects.Index[*corev1.Pod](n.reader, messages.Pods, objects.IndexNode, node) {
		if n.podLeadsTo(pod, resource, namespace, name) {
			return true
		}
	}
	return false
}

func (n *Node) podLeadsTo(pod *corev1.Pod, resource, namespace, name string) bool {
	here := pod.Namespace == namespace
	found := false
	match := func(s string) { found = found || s == name }
	switch resource {
	case "pods":
		return here && pod.Name == name
	case "serviceaccounts":
		return here && pod.Spec.ServiceAccountName == name
	case "configmaps":
		if here {
			visitConfigMaps(pod, match)
		}
	case "persistentvolumeclaims":
		if here {
			visitClaims(pod, match)
		}
	case "resourceclaims":
		if here {
			visitResourceClaims(pod, match)
		}
	case "persistentvolumes":
		n.visitVolumes(pod, func(pv *corev1.PersistentVolume) { match(pv.Name) })
	case "secrets":
		if here {
			visitSecrets(pod, match)
		}
		n.visitVolumes(pod, func(pv *corev1.PersistentVolume) {
			visitVolumeSecrets(pv, pod.Namespace, func(ns, s string) { found = found || ns == namespace && s == name })
		})
	}
	return found
}

// visitVolumes calls fn with the volumes that the claims of a pod are bound to.
func (n *Node) visitVolumes(pod *corev1.Pod, fn func(*corev1.PersistentVolume)) {
	visitClaims(pod, func(claim string) {
		pvc, ok := objects.Get[*corev1.PersistentVolumeClaim](n.reader, messages.KeyOf(persistentVolumeClaims, pod.Namespace, claim))
		if !ok || pvc.Spec.VolumeName == "" {
			return
		}
		if pv, ok := objects.Get[*corev1.PersistentVolume](n.reader, messages.KeyOf(persistentVolumes, "", pvc.Spec.VolumeName)); ok &&
			pv.Spec.ClaimRef != nil && pv.Spec.ClaimRef.Namespace == pvc.Namespace && pv.Spec.ClaimRef.Name == pvc.Name {
			fn(pv)
		}
	})
}

func visitClaims(pod *corev1.Pod, fn func(name string)) {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.PersistentVolumeClaim != nil:
			fn(v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			fn(pod.Name + "-" + v.Name)
		}
	}
}

func visitResourceClaims(pod *corev1.Pod, fn func(name string)) {
	for _, c := range pod.Spec.ResourceClaims {
		if c.ResourceClaimName != nil {
			fn(*c.ResourceClaimName)
		}
	}
	for _, s := range pod.Status.ResourceClaimStatuses {
		if s.ResourceClaimName != nil {
			fn(*s.ResourceClaimName)
		}
	}
	if s := pod.Status.ExtendedResourceClaimStatus; s != nil {
		fn(s.ResourceClaimName)
	}
}

func visitSecrets(pod *corev1.Pod, fn func(name string)) {
	for _, ref := range pod.Spec.ImagePullSecrets {
		fn(ref.Name)
	}
	visitContainers(pod, func(c *corev1.Container) {
		for _, e := range c.EnvFrom {
			if e.SecretRef != nil {
				fn(e.SecretRef.Name)
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
				fn(e.ValueFrom.SecretKeyRef.Name)
			}
		}
	})
	local := func(ref *corev1.LocalObjectReference) {
		if ref != nil {
			fn(ref.Name)
		}
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i].VolumeSource
		switch {
		case v.Secret != nil:
			fn(v.Secret.SecretName)
		case v.Projected != nil:
			for _, s := range v.Projected.Sources {
				if s.Secret != nil {
					fn(s.Secret.Name)
				}
			}
		case v.CSI != nil:
			local(v.CSI.NodePublishSecretRef)
		case v.ISCSI != nil:
			local(v.ISCSI.SecretRef)
		case v.FlexVolume != nil:
			local(v.FlexVolume.SecretRef)
		case v.AzureFile != nil:
			fn(v.AzureFile.SecretName)
		case v.CephFS != nil:
			local(v.CephFS.SecretRef)
		case v.Cinder != nil:
			local(v.Cinder.SecretRef)
		case v.RBD != nil:
			local(v.RBD.SecretRef)
		case v.ScaleIO != nil:
			local(v.ScaleIO.SecretRef)
		case v.StorageOS != nil:
			local(v.StorageOS.SecretRef)
		}
	}
}

// visitVolumeSecrets calls fn with the secrets by which a node gets at a volume; those that name no
// namespace are in that of the claim.
func visitVolumeSecrets(pv *corev1.PersistentVolume, claim string, fn func(namespace, name string)) {
	ref := func(r *corev1.SecretReference) {
		if r == nil {
			return
		}
		if r.Namespace == "" {
			fn(claim, r.Name)
			return
		}
		fn(r.Namespace, r.Name)
	}
	switch s := &pv.Spec.PersistentVolumeSource; {
	case s.CSI != nil:
		for _, r := range []*corev1.SecretReference{s.CSI.ControllerPublishSecretRef, s.CSI.NodePublishSecretRef,
			s.CSI.NodeStageSecretRef, s.CSI.ControllerExpandSecretRef, s.CSI.NodeExpandSecretRef} {
			ref(r)
		}
	case s.ISCSI != nil:
		ref(s.ISCSI.SecretRef)
	case s.FlexVolume != nil:
		ref(s.FlexVolume.SecretRef)
	case s.AzureFile != nil:
		r := corev1.SecretReference{Name: s.AzureFile.SecretName}
		if s.AzureFile.SecretNamespace != nil {
			r.Namespace = *s.AzureFile.SecretNamespace
		}
		ref(&r)
	case s.CephFS != nil:
		ref(s.CephFS.SecretRef)
	case s.Cinder != nil:
		ref(s.Cinder.SecretRef)
	case s.RBD != nil:
		ref(s.RBD.SecretRef)
	case s.ScaleIO != nil:
		ref(s.ScaleIO.SecretRef)
	case s.StorageOS != nil && s.StorageOS.SecretRef != nil:
		fn(s.StorageOS.SecretRef.Namespace, s.StorageOS.SecretRef.Name)
	}
}

func visitConfigMaps(pod *corev1.Pod, fn func(name string)) {
	visitContainers(pod, func(c *corev1.Container) {
		for _, e := range c.EnvFrom {
			if e.ConfigMapRef != nil {
				fn(e.ConfigMapRef.Name)
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil {
				fn(e.ValueFrom.ConfigMapKeyRef.Name)
			}
		}
	})
	for _, v := range pod.Spec.Volumes {
		if v.ConfigMap != nil {
			fn(v.ConfigMap.Name)
		}
		if v.Projected != nil {
			for _, s := range v.Projected.Sources {
				if s.ConfigMap != nil {
					fn(s.ConfigMap.Name)
				}
			}
		}
	}
}

func visitContainers(pod *corev1.Pod, fn func(*corev1.Container)) {
	for i := range pod.Spec.InitContainers {
		fn(&pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		fn(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.EphemeralContainers {
		c := corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		fn(&c)
	}
}
