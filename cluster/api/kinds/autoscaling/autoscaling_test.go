package autoscaling

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

func testAutoscaler(change ...func(*autoscalingv2.HorizontalPodAutoscaler)) *autoscalingv2.HorizontalPodAutoscaler {
	h := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}, MaxReplicas: 5}}
	for _, c := range change {
		c(h)
	}
	return h
}

func TestHorizontalPodAutoscaler(t *testing.T) {
	t.Parallel()
	k := HorizontalPodAutoscaler()
	h := testAutoscaler(func(h *autoscalingv2.HorizontalPodAutoscaler) {
		h.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: ptr.To[int32](60)}}
	})
	kindtest.Want(t, kindtest.Create(k, h))
	if up, down := h.Spec.Behavior.ScaleUp, h.Spec.Behavior.ScaleDown; len(up.Policies) != 2 || *up.StabilizationWindowSeconds != 0 ||
		len(down.Policies) != 1 || *down.StabilizationWindowSeconds != 60 || *down.SelectPolicy != "Max" {
		t.Errorf("%+v %+v", up, down)
	}
	if diff := cmp.Diff([]any{"web", "Deployment/web", "cpu: <unknown>/80%", "1", int64(5), int64(0), "<unknown>"}, k.Row(h)); diff != "" {
		t.Error(diff)
	}
	for name, tc := range map[string]struct {
		change func(*autoscalingv2.HorizontalPodAutoscalerSpec)
		want   []string
	}{
		"bounds":  {func(s *autoscalingv2.HorizontalPodAutoscalerSpec) { s.MinReplicas, s.MaxReplicas = ptr.To[int32](3), 2 }, []string{"FieldValueInvalid spec.maxReplicas"}},
		"nothing": {func(s *autoscalingv2.HorizontalPodAutoscalerSpec) { s.MinReplicas = ptr.To[int32](0) }, []string{"FieldValueInvalid spec.minReplicas"}},
		"target": {func(s *autoscalingv2.HorizontalPodAutoscalerSpec) {
			s.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{Kind: "a/b"}
		}, []string{"FieldValueInvalid spec.scaleTargetRef.kind", "FieldValueRequired spec.scaleTargetRef.name"}},
		"metrics": {func(s *autoscalingv2.HorizontalPodAutoscalerSpec) {
			s.Metrics = []autoscalingv2.MetricSpec{
				{Type: "Resource"}, {Type: "Any"}, {Type: "Resource", Resource: &autoscalingv2.ResourceMetricSource{Name: "cpu", Target: autoscalingv2.MetricTarget{Type: "Utilization"}}},
				{Type: "Pods", Pods: &autoscalingv2.PodsMetricSource{Target: autoscalingv2.MetricTarget{Type: "AverageValue", AverageValue: ptr.To(resource.MustParse("3"))}}},
			}
		}, []string{"FieldValueRequired spec.metrics[0].resource", "FieldValueNotSupported spec.metrics[1].type",
			"FieldValueRequired spec.metrics[2].resource.target.averageUtilization", "FieldValueRequired spec.metrics[3].pods.metric.name"}},
		"behavior": {func(s *autoscalingv2.HorizontalPodAutoscalerSpec) {
			s.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: &autoscalingv2.HPAScalingRules{
				StabilizationWindowSeconds: ptr.To[int32](4000), SelectPolicy: ptr.To(autoscalingv2.ScalingPolicySelect("Any")), Policies: []autoscalingv2.HPAScalingPolicy{{Type: "Pods", PeriodSeconds: 2000}}}}
		}, []string{"FieldValueInvalid spec.behavior.scaleUp.stabilizationWindowSeconds", "FieldValueNotSupported spec.behavior.scaleUp.selectPolicy",
			"FieldValueInvalid spec.behavior.scaleUp.policies[0].value", "FieldValueInvalid spec.behavior.scaleUp.policies[0].periodSeconds"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Create(k, testAutoscaler(func(h *autoscalingv2.HorizontalPodAutoscaler) { tc.change(&h.Spec) })), tc.want...)
		})
	}
	changed := h.DeepCopy()
	changed.Status.DesiredReplicas = -1
	kindtest.Want(t, kindtest.Sub(k.Status, changed, h), "FieldValueInvalid status.desiredReplicas")
}
