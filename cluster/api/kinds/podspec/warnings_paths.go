package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// file is a path in a volume, and what puts it there: "" where there is only one source.
type file struct{ path, source string }

func (f file) String() string {
	if f.source == "" {
		return fmt.Sprintf("%q", f.path)
	}
	return fmt.Sprintf("%q (%s)", f.path, f.source)
}

// meets says that two files cannot both be there: they are one, or one is in the other.
func (f file) meets(other file) bool {
	return f.path != "" && other.path != "" &&
		(strings.HasPrefix(f.path+"/", other.path+"/") || strings.HasPrefix(other.path+"/", f.path+"/"))
}

// overlaps warns of files of one volume that hide each other.
func (w *warnings) overlaps(volumes []corev1.Volume) {
	for i := range volumes {
		v := &volumes[i]
		switch {
		case v.ConfigMap != nil:
			w.meeting(v.Name, fmt.Sprintf("ConfigMap %q", v.ConfigMap.Name), keyFiles(v.ConfigMap.Items, ""))
		case v.Secret != nil:
			w.meeting(v.Name, fmt.Sprintf("Secret %q", v.Secret.SecretName), keyFiles(v.Secret.Items, ""))
		case v.DownwardAPI != nil:
			w.meeting(v.Name, "DownwardAPI", fieldFiles(v.DownwardAPI.Items, ""))
		case v.Projected != nil:
			var all []file
			for j := range v.Projected.Sources {
				s := &v.Projected.Sources[j]
				if *s == (corev1.VolumeProjection{}) {
					w.list = append(w.list, fmt.Sprintf("volume %q (Projected) has no sources provided", v.Name))
				}
				all = append(all, projectedFiles(s)...)
			}
			w.meeting(v.Name, "Projected", all)
		}
	}
}

func (w *warnings) meeting(volume, source string, files []file) {
	for i := range files {
		files[i].path = strings.TrimRight(files[i].path, "/")
		for _, before := range files[:i] {
			if files[i].meets(before) {
				w.list = append(w.list, fmt.Sprintf("volume %q (%s): overlapping paths: %s with %s", volume, source, files[i], before))
			}
		}
	}
}

func keyFiles(items []corev1.KeyToPath, source string) []file {
	out := make([]file, 0, len(items))
	for _, item := range items {
		out = append(out, file{item.Path, source})
	}
	return out
}

func fieldFiles(items []corev1.DownwardAPIVolumeFile, source string) []file {
	out := make([]file, 0, len(items))
	for _, item := range items {
		out = append(out, file{item.Path, source})
	}
	return out
}

// projectedFiles are the files of which a source says where they are.
func projectedFiles(s *corev1.VolumeProjection) []file {
	switch {
	case s.ConfigMap != nil:
		return keyFiles(s.ConfigMap.Items, fmt.Sprintf("ConfigMap %q", s.ConfigMap.Name))
	case s.Secret != nil:
		return keyFiles(s.Secret.Items, fmt.Sprintf("Secret %q", s.Secret.Name))
	case s.DownwardAPI != nil:
		return fieldFiles(s.DownwardAPI.Items, "DownwardAPI")
	case s.ServiceAccountToken != nil:
		return []file{{s.ServiceAccountToken.Path, "ServiceAccountToken"}}
	case s.ClusterTrustBundle != nil:
		name := ptr.Deref(s.ClusterTrustBundle.Name, ptr.Deref(s.ClusterTrustBundle.SignerName, ""))
		return []file{{s.ClusterTrustBundle.Path, fmt.Sprintf("ClusterTrustBundle %q", name)}}
	case s.PodCertificate != nil:
		return []file{{s.PodCertificate.CertificateChainPath, "PodCertificate chain"}, {s.PodCertificate.KeyPath, "PodCertificate key"},
			{s.PodCertificate.CredentialBundlePath, "PodCertificate credential bundle"}}
	}
	return nil
}
