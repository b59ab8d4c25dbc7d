package scheduling

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

func TestPriorityClass(t *testing.T) {
	t.Parallel()
	k := PriorityClass()
	class := func(name string, value int32) *schedulingv1.PriorityClass {
		return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value}
	}
	gold := class("gold", 1000)
	kindtest.Want(t, kindtest.Create(k, gold))
	if diff := cmp.Diff([]any{"gold", int64(1000), false, "<unknown>", "PreemptLowerPriority"}, k.Row(gold)); diff != "" {
		t.Error(diff)
	}
	for _, c := range SystemClasses() {
		kindtest.Want(t, kindtest.Create(k, c))
	}
	kindtest.Want(t, kindtest.Create(k, class("platinum", 1000000001)), "FieldValueForbidden value")
	kindtest.Want(t, kindtest.Create(k, class("system-mine", 5)), "FieldValueForbidden metadata.name")
	kindtest.Want(t, kindtest.Create(k, class("system-node-critical", 5)), "FieldValueForbidden metadata.name")
	odd := class("odd", 1)
	odd.PreemptionPolicy = ptr.To(corev1.PreemptionPolicy("Sometimes"))
	kindtest.Want(t, kindtest.Create(k, odd), "FieldValueNotSupported preemptionPolicy")

	changed := gold.DeepCopy()
	changed.GlobalDefault = true
	kindtest.Want(t, kindtest.Update(k, changed, gold))
	changed.Value, changed.PreemptionPolicy = 5, ptr.To(corev1.PreemptNever)
	kindtest.Want(t, kindtest.Update(k, changed, gold), "FieldValueForbidden value", "FieldValueInvalid preemptionPolicy")
}
