package autoscaling

import (
	"encoding/json"
	"maps"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
)

// What autoscaling/v1 has no field for it carries in annotations, as JSON.
const (
	metricsAnnotation    = "autoscaling.alpha.kubernetes.io/metrics"
	statusesAnnotation   = "autoscaling.alpha.kubernetes.io/current-metrics"
	conditionsAnnotation = "autoscaling.alpha.kubernetes.io/conditions"
	behaviorAnnotation   = "autoscaling.alpha.kubernetes.io/behavior"
)

// version1 is autoscaling/v1 HorizontalPodAutoscaler.
func version1() kind.Version {
	return kind.Version{
		GVK:     autoscalingv1.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"),
		New:     func() kind.Object { return &autoscalingv1.HorizontalPodAutoscaler{} },
		NewList: func() runtime.Object { return &autoscalingv1.HorizontalPodAutoscalerList{} },
		Default: func(obj kind.Object) {
			if s := &obj.(*autoscalingv1.HorizontalPodAutoscaler).Spec; s.MinReplicas == nil {
				s.MinReplicas = ptr.To[int32](1)
			}
		},
		FromVersion: func(obj kind.Object) kind.Object { return fromVersion1(obj.(*autoscalingv1.HorizontalPodAutoscaler)) },
		ToVersion:   func(obj kind.Object) kind.Object { return toVersion1(obj.(*autoscalingv2.HorizontalPodAutoscaler)) },
	}
}

// withoutCarried returns annotations less those of the conversion, itself where there are none.
func withoutCarried(in map[string]string) map[string]string {
	carried := []string{metricsAnnotation, statusesAnnotation, conditionsAnnotation, behaviorAnnotation}
	for i, name := range carried {
		if _, ok := in[name]; !ok {
			continue
		}
		out := maps.Clone(in)
		for _, name := range carried[i:] {
			delete(out, name)
		}
		return out
	}
	return in
}

// carried reads an annotation; one that cannot be read counts as absent, as in Kubernetes.
func carried[T any](annotations map[string]string, name string) (out T, ok bool) {
	text, ok := annotations[name]
	return out, ok && json.Unmarshal([]byte(text), &out) == nil
}

func fromVersion1(in *autoscalingv1.HorizontalPodAutoscaler) *autoscalingv2.HorizontalPodAutoscaler {
	out := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: in.ObjectMeta,
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference(in.Spec.ScaleTargetRef),
			MinReplicas:    in.Spec.MinReplicas, MaxReplicas: in.Spec.MaxReplicas,
		},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{
			ObservedGeneration: in.Status.ObservedGeneration, LastScaleTime: in.Status.LastScaleTime,
			CurrentReplicas: in.Status.CurrentReplicas, DesiredReplicas: in.Status.DesiredReplicas,
		},
	}
	if n := in.Spec.TargetCPUUtilizationPercentage; n != nil {
		out.Spec.Metrics = []autoscalingv2.MetricSpec{cpuUtilization(*n)}
	}
	if list, ok := carried[[]autoscalingv1.MetricSpec](in.Annotations, metricsAnnotation); ok {
		for i := range list {
			out.Spec.Metrics = append(out.Spec.Metrics, metricFrom1(&list[i]))
		}
	}
	if b, ok := carried[autoscalingv2.HorizontalPodAutoscalerBehavior](in.Annotations, behaviorAnnotation); ok && b != (autoscalingv2.HorizontalPodAutoscalerBehavior{}) {
		out.Spec.Behavior = &b
	}
	if len(out.Spec.Metrics) == 0 {
		out.Spec.Metrics = []autoscalingv2.MetricSpec{cpuUtilization(defaultUtilization)}
	}
	if n := in.Status.CurrentCPUUtilizationPercentage; n != nil {
		out.Status.CurrentMetrics = []autoscalingv2.MetricStatus{{
			Type:     autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricStatus{Name: corev1.ResourceCPU, Current: autoscalingv2.MetricValueStatus{AverageUtilization: n}},
		}}
	}
	// The annotation knows more than the field.
	if list, ok := carried[[]autoscalingv1.MetricStatus](in.Annotations, statusesAnnotation); ok {
		out.Status.CurrentMetrics = make([]autoscalingv2.MetricStatus, len(list))
		for i := range list {
			out.Status.CurrentMetrics[i] = statusFrom1(&list[i])
		}
	}
	if list, ok := carried[[]autoscalingv2.HorizontalPodAutoscalerCondition](in.Annotations, conditionsAnnotation); ok {
		out.Status.Conditions = list
	}
	out.Annotations = withoutCarried(in.Annotations)
	return out
}

func cpuUtilization(percent int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{
		Type: autoscalingv2.ResourceMetricSourceType,
		Resource: &autoscalingv2.ResourceMetricSource{
			Name:   corev1.ResourceCPU,
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent},
		},
	}
}

func isCPUUtilization(m *autoscalingv2.MetricSpec) bool {
	return m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil &&
		m.Resource.Name == corev1.ResourceCPU && m.Resource.Target.AverageUtilization != nil
}

func toVersion1(in *autoscalingv2.HorizontalPodAutoscaler) *autoscalingv1.HorizontalPodAutoscaler {
	out := &autoscalingv1.HorizontalPodAutoscaler{
		ObjectMeta: in.ObjectMeta,
		Spec: autoscalingv1.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv1.CrossVersionObjectReference(in.Spec.ScaleTargetRef),
			MinReplicas:    in.Spec.MinReplicas, MaxReplicas: in.Spec.MaxReplicas,
		},
		Status: autoscalingv1.HorizontalPodAutoscalerStatus{
			ObservedGeneration: in.Status.ObservedGeneration, LastScaleTime: in.Status.LastScaleTime,
			CurrentReplicas: in.Status.CurrentReplicas, DesiredReplicas: in.Status.DesiredReplicas,
		},
	}
	var others []autoscalingv1.MetricSpec
	for i := range in.Spec.Metrics {
		m := &in.Spec.Metrics[i]
		switch {
		case !isCPUUtilization(m):
			others = append(others, metricTo1(m))
		case out.Spec.TargetCPUUtilizationPercentage == nil:
			out.Spec.TargetCPUUtilizationPercentage = m.Resource.Target.AverageUtilization
		}
	}
	var statuses []autoscalingv1.MetricStatus
	for i := range in.Status.CurrentMetrics {
		m := &in.Status.CurrentMetrics[i]
		statuses = append(statuses, statusTo1(m))
		if r := m.Resource; m.Type == autoscalingv2.ResourceMetricSourceType && r != nil && r.Name == corev1.ResourceCPU && r.Current.AverageUtilization != nil {
			out.Status.CurrentCPUUtilizationPercentage = r.Current.AverageUtilization
		}
	}
	out.Annotations = withoutCarried(in.Annotations)
	owned := false
	carry := func(name string, is bool, v any) {
		if !is {
			return
		}
		text, err := json.Marshal(v)
		if err != nil {
			return // no value of these types fails to encode
		}
		if !owned {
			owned, out.Annotations = true, maps.Clone(out.Annotations)
		}
		if out.Annotations == nil {
			out.Annotations = make(map[string]string)
		}
		out.Annotations[name] = string(text)
	}
	carry(metricsAnnotation, len(others) > 0, others)
	carry(statusesAnnotation, len(statuses) > 0, statuses)
	carry(behaviorAnnotation, in.Spec.Behavior != nil, in.Spec.Behavior)
	carry(conditionsAnnotation, len(in.Status.Conditions) > 0, in.Status.Conditions)
	return out
}
