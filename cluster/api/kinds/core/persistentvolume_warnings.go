package core

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
)

// classAnnotationWarnings warns of the annotation that named a class before there was a field for it.
func classAnnotationWarnings(obj kind.Object) []string {
	if _, ok := obj.GetAnnotations()[corev1.BetaStorageClassAnnotation]; !ok {
		return nil
	}
	return []string{fmt.Sprintf(`metadata.annotations[%s]: deprecated since v1.8; use "storageClassName" attribute instead`, corev1.BetaStorageClassAnnotation)}
}

// volumeWarnings speaks of labels, sources and policies that are old or gone.
func volumeWarnings(v *corev1.PersistentVolume) []string {
	var out []string
	spec := &v.Spec
	if _, ok := v.Annotations[corev1.MountOptionAnnotation]; ok {
		out = append(out, fmt.Sprintf(`metadata.annotations[%s]: deprecated since v1.31; use "mountOptions" attribute instead`, corev1.MountOptionAnnotation))
	}
	if spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		out = append(out, "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.")
	}
	if spec.NodeAffinity != nil && spec.NodeAffinity.Required != nil {
		for i := range spec.NodeAffinity.Required.NodeSelectorTerms {
			out = append(out, podspec.NodeTermWarnings(&spec.NodeAffinity.Required.NodeSelectorTerms[i], specPath.Child("nodeAffinity", "required", "nodeSelectorTerms").Index(i))...)
		}
	}
	return append(out, podspec.SourceWarnings(specPath, podspec.Source{Name: "photonPersistentDisk", Set: spec.PhotonPersistentDisk != nil},
		podspec.Source{Name: "scaleIO", Set: spec.ScaleIO != nil}, podspec.Source{Name: "flocker", Set: spec.Flocker != nil},
		podspec.Source{Name: "storageOS", Set: spec.StorageOS != nil}, podspec.Source{Name: "quobyte", Set: spec.Quobyte != nil},
		podspec.Source{Name: "glusterfs", Set: spec.Glusterfs != nil}, podspec.Source{Name: "cephfs", Set: spec.CephFS != nil},
		podspec.Source{Name: "rbd", Set: spec.RBD != nil})...)
}
