package autoscaling

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
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
		"nothing": {func(s *autoscalingv2.HorizontalPodAutoscalerSpec) { s.MinReplicas = ptr.To[int32](0) }, []string{"FieldValueInvalid spec.minReplicas", "FieldValueForbidden spec.metrics"}},
		"target": {func(s *autoscalingv2.HorizontalPodAutoscalerSpec) {
			s.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{Kind: "a/b"}
		}, []string{"FieldValueInvalid spec.scaleTargetRef.kind", "FieldValueRequired spec.scaleTargetRef.name", "FieldValueInvalid spec.scaleTargetRef.apiVersion"}},
		"target's group": {func(s *autoscalingv2.HorizontalPodAutoscalerSpec) {
			s.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{Kind: "ReplicationController", Name: "a", APIVersion: "v1"}
		}, nil},
		"no policies": {func(s *autoscalingv2.HorizontalPodAutoscalerSpec) {
			s.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: &autoscalingv2.HPAScalingRules{Policies: []autoscalingv2.HPAScalingPolicy{}}}
		}, []string{"FieldValueRequired spec.behavior.scaleUp.policies"}},
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

// TestVersion1KeepsEverything fills autoscalers with what both versions can say and takes them
// through autoscaling/v1 and back.
func TestVersion1KeepsEverything(t *testing.T) {
	t.Parallel()
	q := func(s string) *resource.Quantity { return ptr.To(resource.MustParse(s)) }
	target := func(kind autoscalingv2.MetricTargetType, value, average *resource.Quantity, percent *int32) autoscalingv2.MetricTarget {
		return autoscalingv2.MetricTarget{Type: kind, Value: value, AverageValue: average, AverageUtilization: percent}
	}
	id := autoscalingv2.MetricIdentifier{Name: "m", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}}
	ref := autoscalingv2.CrossVersionObjectReference{Kind: "Ingress", Name: "i", APIVersion: "networking.k8s.io/v1"}
	h := testAutoscaler(func(h *autoscalingv2.HorizontalPodAutoscaler) {
		h.Annotations = map[string]string{"mine": "kept"}
		h.Spec.MinReplicas = ptr.To[int32](2)
		h.Spec.Metrics = []autoscalingv2.MetricSpec{
			cpuUtilization(40),
			{Type: "Object", Object: &autoscalingv2.ObjectMetricSource{DescribedObject: ref, Metric: id, Target: target("Value", q("3"), nil, nil)}},
			{Type: "Pods", Pods: &autoscalingv2.PodsMetricSource{Metric: id, Target: target("AverageValue", nil, q("4"), nil)}},
			{Type: "Resource", Resource: &autoscalingv2.ResourceMetricSource{Name: "memory", Target: target("AverageValue", nil, q("5Mi"), nil)}},
			{Type: "ContainerResource", ContainerResource: &autoscalingv2.ContainerResourceMetricSource{Name: "cpu", Container: "c", Target: target("Utilization", nil, nil, ptr.To[int32](6))}},
			{Type: "External", External: &autoscalingv2.ExternalMetricSource{Metric: id, Target: target("Value", q("7"), nil, nil)}},
			{Type: "External", External: &autoscalingv2.ExternalMetricSource{Metric: id, Target: target("AverageValue", nil, q("8"), nil)}},
		}
		h.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: &autoscalingv2.HPAScalingRules{Tolerance: q("0.1"), SelectPolicy: ptr.To(autoscalingv2.MinChangePolicySelect)}}
		h.Status = autoscalingv2.HorizontalPodAutoscalerStatus{
			ObservedGeneration: ptr.To[int64](3), CurrentReplicas: 1, DesiredReplicas: 2,
			Conditions: []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: "AbleToScale", Status: "True", Reason: "r", Message: "m"}},
			CurrentMetrics: []autoscalingv2.MetricStatus{
				{Type: "Resource", Resource: &autoscalingv2.ResourceMetricStatus{Name: "cpu", Current: autoscalingv2.MetricValueStatus{AverageValue: q("1"), AverageUtilization: ptr.To[int32](9)}}},
				{Type: "Object", Object: &autoscalingv2.ObjectMetricStatus{DescribedObject: ref, Metric: id, Current: autoscalingv2.MetricValueStatus{Value: q("1"), AverageValue: q("2")}}},
				{Type: "Pods", Pods: &autoscalingv2.PodsMetricStatus{Metric: id, Current: autoscalingv2.MetricValueStatus{AverageValue: q("2")}}},
				{Type: "ContainerResource", ContainerResource: &autoscalingv2.ContainerResourceMetricStatus{Name: "cpu", Container: "c", Current: autoscalingv2.MetricValueStatus{AverageValue: q("2")}}},
				{Type: "External", External: &autoscalingv2.ExternalMetricStatus{Metric: id, Current: autoscalingv2.MetricValueStatus{Value: q("3")}}},
			},
		}
	})
	v := HorizontalPodAutoscaler().Versions[0]
	before := h.DeepCopy()
	old := v.ToVersion(h).(*autoscalingv1.HorizontalPodAutoscaler)
	if *old.Spec.TargetCPUUtilizationPercentage != 40 || *old.Status.CurrentCPUUtilizationPercentage != 9 || len(old.Annotations) != 5 {
		t.Errorf("as v1: %+v", old)
	}
	if diff := cmp.Diff(before, v.FromVersion(old)); diff != "" {
		t.Errorf("back from v1 (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(before, h); diff != "" {
		t.Errorf("conversion changed its input:\n%s", diff)
	}
	// What nobody can read is ignored, and an autoscaler without a goal gets the usual one.
	bare := v.FromVersion(&autoscalingv1.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{metricsAnnotation: "{"}}}).(*autoscalingv2.HorizontalPodAutoscaler)
	if len(bare.Annotations) != 0 || len(bare.Spec.Metrics) != 1 || *bare.Spec.Metrics[0].Resource.Target.AverageUtilization != 80 {
		t.Errorf("bare: %+v", bare)
	}
}
