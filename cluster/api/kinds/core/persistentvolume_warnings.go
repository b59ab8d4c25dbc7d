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
	for _, s := range []struct {
		set         bool
		child, text string
	}{
		{spec.PhotonPersistentDisk != nil, "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"},
		{spec.ScaleIO != nil, "scaleIO", "deprecated in v1.16, non-functional in v1.22+"},
		{spec.Flocker != nil, "flocker", "deprecated in v1.22, non-functional in v1.25+"},
		{spec.StorageOS != nil, "storageOS", "deprecated in v1.22, non-functional in v1.25+"},
		{spec.Quobyte != nil, "quobyte", "deprecated in v1.22, non-functional in v1.25+"},
		{spec.Glusterfs != nil, "glusterfs", "deprecated in v1.25, non-functional in v1.26+"},
		{spec.CephFS != nil, "cephfs", "deprecated in v1.28, non-functional in v1.31+"},
		{spec.RBD != nil, "rbd", "deprecated in v1.28, non-functional in v1.31+"},
	} {
		if s.set {
			out = append(out, specPath.Child(s.child).String()+": "+s.text)
		}
	}
	return out
}
