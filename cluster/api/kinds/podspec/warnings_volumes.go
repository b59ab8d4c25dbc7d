package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// oldSources says of sources of volumes since when they are going or gone.
var oldSources = map[string]string{
	"photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
	"gitRepo":              "deprecated in v1.11",
	"scaleIO":              "deprecated in v1.16, non-functional in v1.22+",
	"flocker":              "deprecated in v1.22, non-functional in v1.25+",
	"storageOS":            "deprecated in v1.22, non-functional in v1.25+",
	"quobyte":              "deprecated in v1.22, non-functional in v1.25+",
	"glusterfs":            "deprecated in v1.25, non-functional in v1.26+",
	"cephfs":               "deprecated in v1.28, non-functional in v1.31+",
	"rbd":                  "deprecated in v1.28, non-functional in v1.31+",
}

// Source is a source that a volume may have, by the name of its field.
type Source struct {
	Name string
	Set  bool
}

// SourceWarnings warns of the sources that are set and old.
func SourceWarnings(path *field.Path, sources ...Source) []string {
	var out []string
	for _, s := range sources {
		if text := oldSources[s.Name]; s.Set && text != "" {
			out = append(out, path.Child(s.Name).String()+": "+text)
		}
	}
	return out
}

// volume warns of sources that are going or gone.
func (w *warnings) volume(v *corev1.Volume, i int) {
	w.list = append(w.list, SourceWarnings(w.spec("volumes").Index(i), Source{"gitRepo", v.GitRepo != nil}, Source{"photonPersistentDisk", v.PhotonPersistentDisk != nil},
		Source{"scaleIO", v.ScaleIO != nil}, Source{"flocker", v.Flocker != nil}, Source{"storageOS", v.StorageOS != nil}, Source{"quobyte", v.Quobyte != nil},
		Source{"glusterfs", v.Glusterfs != nil}, Source{"cephfs", v.CephFS != nil}, Source{"rbd", v.RBD != nil})...)
	if e := v.Ephemeral; e != nil && e.VolumeClaimTemplate != nil {
		w.list = append(w.list, ClaimWarnings(&e.VolumeClaimTemplate.Spec, w.spec("volumes").Index(i).Child("ephemeral", "volumeClaimTemplate", "spec"))...)
	}
}

// tokenPaths warns of files that hide a token, or are hidden by it.
func (w *warnings) tokenPaths(volumes []corev1.Volume) {
	tokens := sets.New[string]()
	each := func(fn func(at int, s *corev1.VolumeProjection)) {
		for i := range volumes {
			if p := volumes[i].Projected; p != nil {
				for j := range p.Sources {
					fn(i, &p.Sources[j])
				}
			}
		}
	}
	each(func(_ int, s *corev1.VolumeProjection) {
		if s.ServiceAccountToken != nil {
			tokens.Insert(s.ServiceAccountToken.Path)
		}
	})
	if len(tokens) == 0 {
		return
	}
	each(func(i int, s *corev1.VolumeProjection) {
		same := func(path, child string, item int) {
			if !tokens.Has(path) {
				return
			}
			at := w.spec("volumes").Index(i).Child("projected", "sources", child)
			if item >= 0 {
				at = at.Index(item)
			}
			w.add(at, "has duplicated path with ServiceAccountToken %q", path)
		}
		if s.ConfigMap != nil {
			for j, item := range s.ConfigMap.Items {
				same(item.Path, "configMap", j)
			}
		}
		if s.Secret != nil {
			for j, item := range s.Secret.Items {
				same(item.Path, "secrets", j)
			}
		}
		if s.DownwardAPI != nil {
			for j, item := range s.DownwardAPI.Items {
				same(item.Path, "downwardAPI", j)
			}
		}
		if s.ClusterTrustBundle != nil {
			same(s.ClusterTrustBundle.Path, "ClusterTrustBundle", -1)
		}
	})
}

// ClaimWarnings lists what a claim of a volume may say but hardly means.
func ClaimWarnings(spec *corev1.PersistentVolumeClaimSpec, path *field.Path) []string {
	var out []string
	for _, list := range []struct {
		child string
		of    corev1.ResourceList
	}{{"requests", spec.Resources.Requests}, {"limits", spec.Resources.Limits}} {
		if q, ok := list.of[corev1.ResourceStorage]; ok && q.MilliValue()%1000 != 0 {
			out = append(out, fmt.Sprintf("%s: fractional byte value %q is invalid, must be an integer",
				path.Child("resources", list.child).Key(string(corev1.ResourceStorage)), q.String()))
		}
	}
	return out
}
