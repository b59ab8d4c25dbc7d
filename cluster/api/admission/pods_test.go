package admission

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/resourcequota"
	"github.com/troupe-run/troupe/messages"
)

// world is a reader over a map.
type world map[messages.Key]objects.Object

func (w world) Get(key messages.Key) (objects.Object, bool) { o, ok := w[key]; return o, ok }
func (w world) List(res messages.Resource, namespace string) []objects.Object {
	var out []objects.Object
	for key, o := range w {
		if key.Resource == res && (namespace == "" || key.Namespace == namespace) {
			out = append(out, o)
		}
	}
	return out
}
func (world) Index(messages.Resource, string, string) []objects.Object { return nil }
func (world) Resources() []messages.Resource                           { return nil }

// admitPod runs the plugins that shape pods in a namespace with the accounts "default", which pulls
// with a secret, and "bare", which mounts no token.
func admitPod(t *testing.T, pod *corev1.Pod) (*corev1.Pod, error) {
	t.Helper()
	reader := world{
		messages.KeyOf(messages.Namespaces, "", "ns"): &corev1.Namespace{},
		messages.KeyOf(messages.ServiceAccounts, "ns", "default"): &corev1.ServiceAccount{
			ImagePullSecrets: []corev1.LocalObjectReference{{Name: "registry"}}},
		messages.KeyOf(messages.ServiceAccounts, "ns", "bare"): &corev1.ServiceAccount{AutomountServiceAccountToken: ptr.To(false)},
	}
	chain, err := Chain(Config{Clock: clock.RealClock{}, Reader: reader, Books: resourcequota.NewBooks(reader, clock.RealClock{})})
	if err != nil {
		t.Fatal(err)
	}
	a := admission.NewAttributesRecord(pod, nil, corev1.SchemeGroupVersion.WithKind("Pod"), "ns", pod.Name,
		corev1.SchemeGroupVersion.WithResource("pods"), "", admission.Create, &metav1.CreateOptions{}, false, &user.DefaultInfo{Name: "u"})
	return pod, chain.Admit(t.Context(), a, nil)
}

func TestPodsAreShaped(t *testing.T) {
	t.Parallel()
	containers := func(c ...corev1.Container) corev1.PodSpec { return corev1.PodSpec{Containers: c} }
	mounted := corev1.Container{VolumeMounts: []corev1.VolumeMount{{Name: "own", MountPath: tokenFolder}}}
	for name, tc := range map[string]struct {
		pod   corev1.Pod
		check func(*corev1.Pod) bool
		err   string
	}{
		"token and pull secret": {pod: corev1.Pod{Spec: containers(corev1.Container{}, mounted)}, check: func(p *corev1.Pod) bool {
			return len(p.Spec.Volumes) == 1 && strings.HasPrefix(p.Spec.Volumes[0].Name, tokenVolume) &&
				p.Spec.Containers[0].VolumeMounts[0].Name == p.Spec.Volumes[0].Name && p.Spec.Containers[1].VolumeMounts[0].Name == "own" &&
				p.Spec.ImagePullSecrets[0].Name == "registry" && p.Spec.ServiceAccountName == "default"
		}},
		"every container has its own": {pod: corev1.Pod{Spec: containers(mounted)}, check: func(p *corev1.Pod) bool { return len(p.Spec.Volumes) == 0 }},
		"account without token": {pod: corev1.Pod{Spec: corev1.PodSpec{ServiceAccountName: "bare"}}, check: func(p *corev1.Pod) bool {
			return len(p.Spec.Volumes) == 0
		}},
		"pod without token": {pod: corev1.Pod{Spec: corev1.PodSpec{AutomountServiceAccountToken: ptr.To(false), Containers: []corev1.Container{{}}}},
			check: func(p *corev1.Pod) bool { return len(p.Spec.Volumes) == 0 }},
		"no such account": {pod: corev1.Pod{Spec: corev1.PodSpec{ServiceAccountName: "none"}}, err: `serviceaccount "none" not found`},
		"mirror pod": {pod: corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "x"}}},
			check: func(p *corev1.Pod) bool { return p.Spec.ServiceAccountName == "" }},
		"tolerations": {pod: corev1.Pod{Spec: corev1.PodSpec{Tolerations: []corev1.Toleration{{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists}}}},
			check: func(p *corev1.Pod) bool {
				return len(p.Spec.Tolerations) == 2 && p.Spec.Tolerations[1].Key == corev1.TaintNodeUnreachable && *p.Spec.Tolerations[1].TolerationSeconds == 300
			}},
		"default priority": {check: func(p *corev1.Pod) bool {
			return *p.Spec.Priority == 0 && *p.Spec.PreemptionPolicy == corev1.PreemptLowerPriority
		}},
		"system priority": {pod: corev1.Pod{Spec: corev1.PodSpec{PriorityClassName: "system-node-critical"}}, check: func(p *corev1.Pod) bool {
			return *p.Spec.Priority == 2000001000
		}},
		"unknown priority": {pod: corev1.Pod{Spec: corev1.PodSpec{PriorityClassName: "gold"}}, err: "no PriorityClass with name gold was found"},
		"chosen priority":  {pod: corev1.Pod{Spec: corev1.PodSpec{Priority: ptr.To[int32](7)}}, err: "must not be provided in pod spec"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod, err := admitPod(t, tc.pod.DeepCopy())
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil || !tc.check(pod) {
				t.Errorf("%v: %+v", err, pod.Spec)
			}
		})
	}
}
