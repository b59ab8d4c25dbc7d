package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// DefaultClaim fills in what the author of a claim's spec left out.
func DefaultClaim(spec *corev1.PersistentVolumeClaimSpec) {
	if spec.VolumeMode == nil {
		spec.VolumeMode = ptr.To(corev1.PersistentVolumeFilesystem)
	}
	roundUp(spec.Resources.Limits)
	roundUp(spec.Resources.Requests)
}

// defaultMode is the same for all volumes that are made of files.
func defaultMode(mode **int32) {
	if *mode == nil {
		*mode = ptr.To(corev1.ProjectedVolumeSourceDefaultMode)
	}
}

func defaultString[T ~string](s *T, value T) {
	if *s == "" {
		*s = value
	}
}

func defaultDownward(items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		defaultFieldRef(items[i].FieldRef)
	}
}

func defaultVolume(v *corev1.Volume) {
	if v.VolumeSource == (corev1.VolumeSource{}) {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
		return
	}
	if v.HostPath != nil && v.HostPath.Type == nil {
		v.HostPath.Type = ptr.To(corev1.HostPathUnset)
	}
	if v.Secret != nil {
		defaultMode(&v.Secret.DefaultMode)
	}
	if v.ConfigMap != nil {
		defaultMode(&v.ConfigMap.DefaultMode)
	}
	if v.DownwardAPI != nil {
		defaultMode(&v.DownwardAPI.DefaultMode)
		defaultDownward(v.DownwardAPI.Items)
	}
	if v.Projected != nil {
		defaultProjected(v.Projected)
	}
	if v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
		DefaultClaim(&v.Ephemeral.VolumeClaimTemplate.Spec)
	}
	if v.Image != nil && v.Image.PullPolicy == "" {
		v.Image.PullPolicy = pullPolicy(v.Image.Reference)
	}
	defaultRemoteVolume(v)
}

func defaultProjected(p *corev1.ProjectedVolumeSource) {
	defaultMode(&p.DefaultMode)
	for i := range p.Sources {
		source := &p.Sources[i]
		if source.DownwardAPI != nil {
			defaultDownward(source.DownwardAPI.Items)
		}
		if t := source.ServiceAccountToken; t != nil && t.ExpirationSeconds == nil {
			t.ExpirationSeconds = ptr.To(int64(60 * 60))
		}
		if c := source.PodCertificate; c != nil && c.MaxExpirationSeconds == nil {
			c.MaxExpirationSeconds = ptr.To(int32(24 * 60 * 60))
		}
	}
}

// defaultRemoteVolume serves the in-tree drivers of storage elsewhere, which have defaults of their own.
func defaultRemoteVolume(v *corev1.Volume) {
	if v.ISCSI != nil {
		defaultString(&v.ISCSI.ISCSIInterface, "default")
	}
	if v.RBD != nil {
		defaultString(&v.RBD.RBDPool, "rbd")
		defaultString(&v.RBD.RadosUser, "admin")
		defaultString(&v.RBD.Keyring, "/etc/ceph/keyring")
	}
	if d := v.AzureDisk; d != nil {
		if d.CachingMode == nil {
			d.CachingMode = ptr.To(corev1.AzureDataDiskCachingReadWrite)
		}
		if d.Kind == nil {
			d.Kind = ptr.To(corev1.AzureSharedBlobDisk)
		}
		if d.FSType == nil {
			d.FSType = ptr.To("ext4")
		}
		if d.ReadOnly == nil {
			d.ReadOnly = ptr.To(false)
		}
	}
	if v.ScaleIO != nil {
		defaultString(&v.ScaleIO.StorageMode, "ThinProvisioned")
		defaultString(&v.ScaleIO.FSType, "xfs")
	}
}
