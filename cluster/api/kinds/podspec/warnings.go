package podspec

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

// Warnings lists what a pod may say but hardly means. Path leads to the template that the pod is, and
// is nil for a pod itself.
func Warnings(meta *metav1.ObjectMeta, spec *corev1.PodSpec, path *field.Path) []string {
	w := &warnings{path: path}
	w.selectors(spec)
	w.annotations(meta, spec)
	for i := range spec.Volumes {
		w.volume(&spec.Volumes[i], i)
	}
	w.tokenPaths(spec.Volumes)
	w.overlaps(spec.Volumes)
	w.references(spec)
	w.amounts(spec.Overhead, func() *field.Path { return w.spec("overhead") })
	w.containers(spec)
	if g := spec.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		w.add(w.spec("terminationGracePeriodSeconds"), "must be >= 0; negative values are invalid and will be treated as 1")
	}
	if a := spec.Affinity; a != nil {
		if p := a.PodAffinity; p != nil {
			w.terms("podAffinity", p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
		}
		if p := a.PodAntiAffinity; p != nil {
			w.terms("podAntiAffinity", p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
		}
	}
	return w.list
}

// warnings collects. Paths are made where there is something to say: nearly all pods have nothing.
type warnings struct {
	path *field.Path
	list []string
}

func (w *warnings) spec(child string, more ...string) *field.Path {
	return w.path.Child("spec", append([]string{child}, more...)...)
}

func (w *warnings) annotation(key string) *field.Path {
	return w.path.Child("metadata", "annotations").Key(key)
}

func (w *warnings) add(at *field.Path, format string, args ...any) {
	w.list = append(w.list, at.String()+": "+fmt.Sprintf(format, args...))
}

// selectors warns of labels with a newer name, and of selectors that select nothing.
func (w *warnings) selectors(spec *corev1.PodSpec) {
	for _, key := range slices.Sorted(maps.Keys(spec.NodeSelector)) {
		if instead, ok := check.DeprecatedLabel(key); ok {
			w.add(w.spec("nodeSelector").Key(key), "%s", instead)
		}
	}
	if spec.Affinity != nil && spec.Affinity.NodeAffinity != nil {
		n := spec.Affinity.NodeAffinity
		if r := n.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
			for i := range r.NodeSelectorTerms {
				w.list = append(w.list, NodeTermWarnings(&r.NodeSelectorTerms[i],
					w.spec("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms").Index(i))...)
			}
		}
		for i := range n.PreferredDuringSchedulingIgnoredDuringExecution {
			w.list = append(w.list, NodeTermWarnings(&n.PreferredDuringSchedulingIgnoredDuringExecution[i].Preference,
				w.spec("affinity", "nodeAffinity", "preferredDuringSchedulingIgnoredDuringExecution").Index(i).Child("preference"))...)
		}
	}
	for i := range spec.TopologySpreadConstraints {
		t := &spec.TopologySpreadConstraints[i]
		if instead, ok := check.DeprecatedLabel(t.TopologyKey); ok {
			w.add(w.spec("topologySpreadConstraints").Index(i).Child("topologyKey"), "%s is %s", t.TopologyKey, instead)
		}
		if t.LabelSelector == nil {
			w.add(w.spec("topologySpreadConstraints").Index(i).Child("labelSelector"), matchesNone)
		}
	}
}

const matchesNone = "a null labelSelector results in matching no pod"

// NodeTermWarnings warns of labels with a newer name in a term of a node selector.
func NodeTermWarnings(t *corev1.NodeSelectorTerm, path *field.Path) []string {
	var out []string
	for i, e := range t.MatchExpressions {
		if instead, ok := check.DeprecatedLabel(e.Key); ok {
			out = append(out, fmt.Sprintf("%s: %s is %s", path.Child("matchExpressions").Index(i).Child("key"), e.Key, instead))
		}
	}
	return out
}

func (w *warnings) terms(kind string, required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
	for i := range required {
		if required[i].LabelSelector == nil {
			w.add(w.spec("affinity", kind, "requiredDuringSchedulingIgnoredDuringExecution").Index(i).Child("labelSelector"), matchesNone)
		}
	}
	for i := range preferred {
		if preferred[i].PodAffinityTerm.LabelSelector == nil {
			w.add(w.spec("affinity", kind, "preferredDuringSchedulingIgnoredDuringExecution").Index(i).Child("podAffinityTerm", "labelSelector"), matchesNone)
		}
	}
}

// What to use instead of annotations that fields have replaced.
const (
	useSeccomp  = `non-functional in v1.27+; use the "seccompProfile" field instead`
	useAppArmor = `deprecated since v1.30; use the "appArmorProfile" field instead`
)

var oldAnnotations = [][2]string{
	{"scheduler.alpha.kubernetes.io/critical-pod", `non-functional in v1.16+; use the "priorityClassName" field instead`},
	{"security.alpha.kubernetes.io/sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
	{"security.alpha.kubernetes.io/unsafe-sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
}

func (w *warnings) annotations(meta *metav1.ObjectMeta, spec *corev1.PodSpec) {
	if len(meta.Annotations) == 0 {
		return
	}
	for _, a := range oldAnnotations {
		if _, ok := meta.Annotations[a[0]]; ok {
			w.add(w.annotation(a[0]), "%s", a[1])
		}
	}
	of := spec.SecurityContext
	if _, ok := meta.Annotations[seccompPod]; ok && (of == nil || of.SeccompProfile == nil) {
		w.add(w.annotation(seccompPod), useSeccomp)
	}
	visit(spec, nil, func(c *corev1.Container, _ *field.Path) {
		own := c.SecurityContext
		key := seccompContainer + c.Name
		if _, ok := meta.Annotations[key]; ok && (own == nil || own.SeccompProfile == nil) {
			w.add(w.annotation(key), useSeccomp)
		}
		key = appArmor + c.Name
		if _, ok := meta.Annotations[key]; ok && (of == nil || of.AppArmorProfile == nil) && (own == nil || own.AppArmorProfile == nil) {
			w.add(w.annotation(key), useAppArmor)
		}
	})
}

// references warns of names that are given twice or not at all.
func (w *warnings) references(spec *corev1.PodSpec) {
	seen := make(map[string]bool, len(spec.HostAliases))
	for i, alias := range spec.HostAliases {
		if seen[alias.IP] {
			w.add(w.spec("hostAliases").Index(i).Child("ip"), "duplicate ip %q", alias.IP)
		}
		seen[alias.IP] = true
	}
	clear(seen)
	for i, ref := range spec.ImagePullSecrets {
		if seen[ref.Name] {
			w.add(w.spec("imagePullSecrets").Index(i).Child("name"), "duplicate name %q", ref.Name)
		}
		seen[ref.Name] = true
	}
	for i, ref := range spec.ImagePullSecrets {
		if ref.Name == "" {
			w.add(w.spec("imagePullSecrets").Index(i).Child("name"), "invalid empty name %q", ref.Name)
		}
	}
}

// News says whether an object is new, or its spec is.
func News(obj, old kind.Object) bool {
	return old == nil || obj.GetGeneration() != old.GetGeneration()
}

// TemplateWarnings is [Warnings] of a template that is new in obj.
func TemplateWarnings(t *corev1.PodTemplateSpec, path *field.Path, obj, old kind.Object) []string {
	if !News(obj, old) {
		return nil
	}
	return Warnings(&t.ObjectMeta, &t.Spec, path)
}

// NameWarnings warns of a new owner of pods whose name does not fit their hostnames.
func NameWarnings(obj, old kind.Object) []string {
	if old != nil {
		return nil
	}
	if msgs := validation.IsDNS1123Label(obj.GetName()); len(msgs) > 0 {
		return []string{fmt.Sprintf("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: %v", msgs)}
	}
	return nil
}
