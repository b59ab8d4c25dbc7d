package admission

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/messages"
)

func classAttributes(obj runtime.Object, name string, op admission.Operation) admission.Attributes {
	return admission.NewAttributesRecord(obj, nil, schedulingv1.SchemeGroupVersion.WithKind("PriorityClass"), "", name,
		schedulingv1.SchemeGroupVersion.WithResource("priorityclasses"), "", op, nil, false, &user.DefaultInfo{Name: "u"})
}

func TestPriorityClassesResolve(t *testing.T) {
	t.Parallel()
	p := newPriority(world{
		messages.KeyOf(priorityClasses, "", "gold"):  &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "gold"}, Value: 1000, PreemptionPolicy: ptr.To(corev1.PreemptNever)},
		messages.KeyOf(priorityClasses, "", "plain"): &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "plain"}, Value: 7, GlobalDefault: true},
	})
	for name, tc := range map[string]struct {
		spec   corev1.PodSpec
		class  string
		value  int32
		policy corev1.PreemptionPolicy
		err    string
	}{
		"named":        {spec: corev1.PodSpec{PriorityClassName: "gold"}, class: "gold", value: 1000, policy: corev1.PreemptNever},
		"default":      {class: "plain", value: 7, policy: corev1.PreemptLowerPriority},
		"other number": {spec: corev1.PodSpec{PriorityClassName: "gold", Priority: ptr.To[int32](1)}, err: "computed 1000"},
		"other policy": {spec: corev1.PodSpec{PreemptionPolicy: ptr.To(corev1.PreemptNever)}, err: "computed PreemptLowerPriority"},
		"unknown":      {spec: corev1.PodSpec{PriorityClassName: "tin"}, err: "no PriorityClass with name tin was found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := &corev1.Pod{Spec: tc.spec}
			err := p.Admit(t.Context(), admission.NewAttributesRecord(pod, nil, corev1.SchemeGroupVersion.WithKind("Pod"), "ns", "p",
				corev1.SchemeGroupVersion.WithResource("pods"), "", admission.Create, nil, false, &user.DefaultInfo{}), nil)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil || pod.Spec.PriorityClassName != tc.class || *pod.Spec.Priority != tc.value || *pod.Spec.PreemptionPolicy != tc.policy {
				t.Errorf("%v: %+v", err, pod.Spec)
			}
		})
	}
	if err := p.Validate(t.Context(), classAttributes(nil, "system-node-critical", admission.Delete), nil); err == nil || !strings.Contains(err.Error(), "cannot be deleted") {
		t.Errorf("deletion of a system class: %v", err)
	}
	if err := p.Validate(t.Context(), classAttributes(nil, "gold", admission.Delete), nil); err != nil {
		t.Errorf("deletion of a user's class: %v", err)
	}
	second := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "gold"}, GlobalDefault: true}
	if err := p.Validate(t.Context(), classAttributes(second, "gold", admission.Update), nil); err == nil || !strings.Contains(err.Error(), "plain is already marked as default") {
		t.Errorf("a second default: %v", err)
	}
}
