package policy

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

func TestPodDisruptionBudget(t *testing.T) {
	t.Parallel()
	k := PodDisruptionBudget()
	for name, tc := range map[string]struct {
		spec policyv1.PodDisruptionBudgetSpec
		want []string
	}{
		"count":   {policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromInt32(2))}, nil},
		"percent": {policyv1.PodDisruptionBudgetSpec{MaxUnavailable: ptr.To(intstr.FromString("20%"))}, nil},
		"both": {policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromInt32(2)), MaxUnavailable: ptr.To(intstr.FromInt32(2))},
			[]string{"FieldValueInvalid spec"}},
		"negative": {policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromInt32(-2))}, []string{"FieldValueInvalid spec.minAvailable"}},
		"above all": {policyv1.PodDisruptionBudgetSpec{MaxUnavailable: ptr.To(intstr.FromString("120%"))},
			[]string{"FieldValueInvalid spec.maxUnavailable"}},
		"selector and policy": {policyv1.PodDisruptionBudgetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a b": "c"}}, UnhealthyPodEvictionPolicy: ptr.To(policyv1.UnhealthyPodEvictionPolicyType("Maybe")),
		}, []string{"FieldValueInvalid spec.selector.matchLabels", "FieldValueNotSupported spec.unhealthyPodEvictionPolicy"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Create(k, &policyv1.PodDisruptionBudget{Spec: tc.spec}), tc.want...)
		})
	}
	b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "b"},
		Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromString("50%"))}, Status: policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: 3}}
	if diff := cmp.Diff([]any{"b", "50%", "N/A", int64(3), "<unknown>"}, k.Row(b)); diff != "" {
		t.Error(diff)
	}
	changed := b.DeepCopy()
	changed.Status.DisruptionsAllowed = -1
	kindtest.Want(t, kindtest.Sub(k.Status, changed, b), "FieldValueInvalid status.disruptionsAllowed")
	kindtest.Want(t, kindtest.Update(k, changed, b))
	if changed.Status.DisruptionsAllowed != 3 {
		t.Error("an update of the whole changed the status")
	}
}
