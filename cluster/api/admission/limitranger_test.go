package admission

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/troupe-run/troupe/messages"
)

func amounts(pairs ...string) corev1.ResourceList {
	out := make(corev1.ResourceList)
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func ranger(items ...corev1.LimitRangeItem) *limitRanger {
	return newLimitRanger(world{messages.KeyOf(limitRanges, "ns", "l"): &corev1.LimitRange{
		ObjectMeta: metav1.ObjectMeta{Name: "l", Namespace: "ns"}, Spec: corev1.LimitRangeSpec{Limits: items}}})
}

func coreAttributes(obj runtime.Object, kind, resource string) admission.Attributes {
	return admission.NewAttributesRecord(obj, nil, corev1.SchemeGroupVersion.WithKind(kind), "ns", "x",
		corev1.SchemeGroupVersion.WithResource(resource), "", admission.Create, nil, false, &user.DefaultInfo{})
}

func TestLimitsAreFilledIn(t *testing.T) {
	t.Parallel()
	l := ranger(corev1.LimitRangeItem{Type: corev1.LimitTypeContainer, Default: amounts("cpu", "1", "memory", "1Gi"), DefaultRequest: amounts("cpu", "100m")})
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		Containers:     []corev1.Container{{Name: "a"}, {Name: "b", Resources: corev1.ResourceRequirements{Requests: amounts("cpu", "2"), Limits: amounts("cpu", "3", "memory", "2Gi")}}},
		InitContainers: []corev1.Container{{Name: "i", Resources: corev1.ResourceRequirements{Limits: amounts("cpu", "3")}}},
	}}
	if err := l.Admit(t.Context(), coreAttributes(pod, "Pod", "pods"), nil); err != nil {
		t.Fatal(err)
	}
	a, b := pod.Spec.Containers[0].Resources, pod.Spec.Containers[1].Resources
	if a.Requests.Cpu().String() != "100m" || a.Limits.Memory().String() != "1Gi" || b.Requests.Cpu().String() != "2" || b.Limits.Cpu().String() != "3" {
		t.Errorf("%+v, %+v", a, b)
	}
	const want = "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; cpu request for init container i; memory limit for init container i"
	if got := pod.Annotations[limitAnnotation]; got != want {
		t.Errorf("annotation %q", got)
	}
}

func TestLimitsAreKept(t *testing.T) {
	t.Parallel()
	container := func(requests, limits corev1.ResourceList) *corev1.Pod {
		c := corev1.Container{Name: "a", Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits}}
		return &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{c, c}}}
	}
	for name, tc := range map[string]struct {
		item corev1.LimitRangeItem
		pod  *corev1.Pod
		err  string
	}{
		"inside":     {corev1.LimitRangeItem{Type: "Container", Min: amounts("cpu", "1"), Max: amounts("cpu", "2")}, container(amounts("cpu", "1"), amounts("cpu", "2")), ""},
		"no request": {corev1.LimitRangeItem{Type: "Container", Min: amounts("cpu", "1")}, container(nil, nil), "minimum cpu usage per Container is 1.  No request is specified"},
		"below":      {corev1.LimitRangeItem{Type: "Container", Min: amounts("cpu", "1")}, container(amounts("cpu", "500m"), nil), "minimum cpu usage per Container is 1, but request is 500m"},
		"no limit":   {corev1.LimitRangeItem{Type: "Container", Max: amounts("memory", "1Gi")}, container(nil, nil), "maximum memory usage per Container is 1Gi.  No limit is specified"},
		"above":      {corev1.LimitRangeItem{Type: "Container", Max: amounts("cpu", "1")}, container(nil, amounts("cpu", "2")), "maximum cpu usage per Container is 1, but limit is 2"},
		"together":   {corev1.LimitRangeItem{Type: "Pod", Max: amounts("cpu", "3")}, container(nil, amounts("cpu", "2")), "maximum cpu usage per Pod is 3, but limit is 4"},
		"ratio": {corev1.LimitRangeItem{Type: "Container", MaxLimitRequestRatio: amounts("cpu", "2")}, container(amounts("cpu", "1"), amounts("cpu", "3")),
			"cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := ranger(tc.item).Validate(t.Context(), coreAttributes(tc.pod, "Pod", "pods"), nil)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
		})
	}
	claim := &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{Resources: corev1.VolumeResourceRequirements{Requests: amounts("storage", "5Gi")}}}
	l := ranger(corev1.LimitRangeItem{Type: "PersistentVolumeClaim", Max: amounts("storage", "1Gi")})
	if err := l.Validate(t.Context(), coreAttributes(claim, "PersistentVolumeClaim", "persistentvolumeclaims"), nil); err == nil || !strings.Contains(err.Error(), "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 5Gi") {
		t.Errorf("claim: %v", err)
	}
}
