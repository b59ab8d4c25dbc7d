package deployment

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/ptr"
)

// Annotations by which kubectl and this controller know what a set was made for.
const (
	revisionAnnotation = "deployment.kubernetes.io/revision"
	historyAnnotation  = "deployment.kubernetes.io/revision-history"
	desiredAnnotation  = "deployment.kubernetes.io/desired-replicas"
	maxAnnotation      = "deployment.kubernetes.io/max-replicas"
)

// maxHistory bounds the history annotation, in bytes.
const maxHistory = 2000

// own are the annotations that a set does not take over from its Deployment.
var own = []string{corev1.LastAppliedConfigAnnotation, revisionAnnotation, historyAnnotation, desiredAnnotation, maxAnnotation,
	appsv1.DeprecatedRollbackTo}

// newSet returns the set of a Deployment's present template.
func newSet(d *appsv1.Deployment, replicas, surge int32, revision int64) *appsv1.ReplicaSet {
	hash := templateHash(&d.Spec.Template, d.Status.CollisionCount)
	template := *d.Spec.Template.DeepCopy()
	template.Labels = withLabel(template.Labels, hash)
	selector := d.Spec.Selector.DeepCopy()
	selector.MatchLabels = withLabel(selector.MatchLabels, hash)
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: d.Namespace, Name: d.Name + "-" + hash, Labels: template.Labels,
			OwnerReferences: []metav1.OwnerReference{controllerRef(d)},
		},
		Spec: appsv1.ReplicaSetSpec{Replicas: &replicas, MinReadySeconds: d.Spec.MinReadySeconds, Selector: selector, Template: template},
	}
	annotateRevision(d, rs, revision)
	annotateSize(rs, ptr.Deref(d.Spec.Replicas, 1), surge)
	return rs
}

func controllerRef(d *appsv1.Deployment) metav1.OwnerReference {
	return *metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment"))
}

func withLabel(labels map[string]string, hash string) map[string]string {
	out := maps.Clone(labels)
	if out == nil {
		out = make(map[string]string)
	}
	out[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	return out
}

// templateHash names a template. Sets are found by comparing templates, never by their hash, so
// that its only duty is to differ; collisions makes it another one when it did not.
func templateHash(t *corev1.PodTemplateSpec, collisions *int32) string {
	h := fnv.New32a()
	if err := json.NewEncoder(h).Encode(t); err != nil {
		panic(err) // API types always encode
	}
	if collisions != nil {
		var b [8]byte
		binary.LittleEndian.PutUint32(b[:], uint32(*collisions))
		h.Write(b[:])
	}
	return rand.SafeEncodeString(fmt.Sprint(h.Sum32()))
}

func revisionOf(rs *appsv1.ReplicaSet) int64 {
	n, _ := strconv.ParseInt(rs.Annotations[revisionAnnotation], 10, 64)
	return n
}

func maxRevision(sets []*appsv1.ReplicaSet) (n int64) {
	for _, rs := range sets {
		n = max(n, revisionOf(rs))
	}
	return n
}

// annotateRevision gives a set its Deployment's annotations and a revision that is at least the
// one given; a set that comes back from an earlier revision remembers that one.
func annotateRevision(d *appsv1.Deployment, rs *appsv1.ReplicaSet, revision int64) {
	rs.Annotations = cloned(rs.Annotations)
	for k, v := range d.Annotations {
		if !slices.Contains(own, k) {
			rs.Annotations[k] = v
		}
	}
	was := revisionOf(rs)
	if was >= revision {
		return
	}
	rs.Annotations[revisionAnnotation] = strconv.FormatInt(revision, 10)
	if was == 0 {
		return
	}
	history := slices.DeleteFunc(strings.Split(rs.Annotations[historyAnnotation], ","), func(s string) bool { return s == "" })
	history = append(history, strconv.FormatInt(was, 10))
	for len(strings.Join(history, ",")) > maxHistory {
		history = history[1:]
	}
	rs.Annotations[historyAnnotation] = strings.Join(history, ",")
}

func annotateSize(rs *appsv1.ReplicaSet, replicas, surge int32) {
	rs.Annotations = cloned(rs.Annotations)
	rs.Annotations[desiredAnnotation] = strconv.Itoa(int(replicas))
	rs.Annotations[maxAnnotation] = strconv.Itoa(int(replicas + surge))
}

func cloned(m map[string]string) map[string]string {
	if m == nil {
		return make(map[string]string)
	}
	return maps.Clone(m)
}
