package autoscaling

import (
	"context"
	"fmt"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// HorizontalPodAutoscaler describes autoscaling/v2 HorizontalPodAutoscaler.
func HorizontalPodAutoscaler() kind.Kind {
	return kind.Kind{
		GVK:        autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"),
		Resource:   "horizontalpodautoscalers",
		Singular:   "horizontalpodautoscaler",
		ShortNames: []string{"hpa"},
		Categories: []string{"all"},
		Namespaced: true,
		New:        func() kind.Object { return &autoscalingv2.HorizontalPodAutoscaler{} },
		NewList:    func() runtime.Object { return &autoscalingv2.HorizontalPodAutoscalerList{} },
		Versions:   []kind.Version{version1()},

		Default: func(obj kind.Object) { defaultAutoscaler(&obj.(*autoscalingv2.HorizontalPodAutoscaler).Spec) },
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateAutoscaler(&obj.(*autoscalingv2.HorizontalPodAutoscaler).Spec, nil)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			return validateAutoscaler(&obj.(*autoscalingv2.HorizontalPodAutoscaler).Spec, &old.(*autoscalingv2.HorizontalPodAutoscaler).Spec)
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			obj.(*autoscalingv2.HorizontalPodAutoscaler).Status = autoscalingv2.HorizontalPodAutoscalerStatus{}
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			obj.(*autoscalingv2.HorizontalPodAutoscaler).Status = old.(*autoscalingv2.HorizontalPodAutoscaler).Status
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				obj.(*autoscalingv2.HorizontalPodAutoscaler).Spec = old.(*autoscalingv2.HorizontalPodAutoscaler).Spec
			},
			Validate: func(_ context.Context, obj, _ kind.Object) field.ErrorList {
				s, path := &obj.(*autoscalingv2.HorizontalPodAutoscaler).Status, field.NewPath("status")
				return append(check.NonNegative(s.CurrentReplicas, path.Child("currentReplicas")), check.NonNegative(s.DesiredReplicas, path.Child("desiredReplicas"))...)
			},
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Reference", autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["scaleTargetRef"]),
			table.Col("Targets", autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["metrics"]),
			table.Col("MinPods", autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["minReplicas"]),
			table.Col("MaxPods", autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["maxReplicas"]),
			table.Col("Replicas", autoscalingv2.HorizontalPodAutoscalerStatus{}.SwaggerDoc()["currentReplicas"]),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			h := obj.(*autoscalingv2.HorizontalPodAutoscaler)
			least := "<unset>"
			if h.Spec.MinReplicas != nil {
				least = fmt.Sprint(*h.Spec.MinReplicas)
			}
			return []any{
				h.Name, h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name, targets(h), least,
				int64(h.Spec.MaxReplicas), int64(h.Status.CurrentReplicas), table.Since(h.CreationTimestamp),
			}
		},
	}
}

// defaultUtilization is what an autoscaler without metrics aims at, in percent of the CPU requested.
const defaultUtilization = 80

func defaultAutoscaler(spec *autoscalingv2.HorizontalPodAutoscalerSpec) {
	if spec.MinReplicas == nil {
		spec.MinReplicas = ptr.To[int32](1)
	}
	if len(spec.Metrics) == 0 {
		spec.Metrics = []autoscalingv2.MetricSpec{cpuUtilization(defaultUtilization)}
	}
	// Only who says something of the behavior gets the rest of it spelled out.
	if spec.Behavior == nil {
		return
	}
	spec.Behavior.ScaleUp = fillRules(spec.Behavior.ScaleUp, autoscalingv2.HPAScalingRules{
		StabilizationWindowSeconds: ptr.To[int32](0), SelectPolicy: ptr.To(autoscalingv2.MaxChangePolicySelect),
		Policies: []autoscalingv2.HPAScalingPolicy{
			{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15},
			{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
		},
	})
	spec.Behavior.ScaleDown = fillRules(spec.Behavior.ScaleDown, autoscalingv2.HPAScalingRules{
		SelectPolicy: ptr.To(autoscalingv2.MaxChangePolicySelect),
		Policies:     []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15}},
	})
}

// fillRules completes rules from the default ones.
func fillRules(rules *autoscalingv2.HPAScalingRules, from autoscalingv2.HPAScalingRules) *autoscalingv2.HPAScalingRules {
	if rules == nil {
		return &from
	}
	if rules.SelectPolicy == nil {
		rules.SelectPolicy = from.SelectPolicy
	}
	if rules.StabilizationWindowSeconds == nil {
		rules.StabilizationWindowSeconds = from.StabilizationWindowSeconds
	}
	if rules.Policies == nil {
		rules.Policies = from.Policies
	}
	return rules
}

// maxTargets is how many metrics a table shows.
const maxTargets = 2

// targets shows, for each metric, how it stands and what is aimed at.
func targets(h *autoscalingv2.HorizontalPodAutoscaler) string {
	if len(h.Spec.Metrics) == 0 {
		return table.None
	}
	var list []string
	for i := range h.Spec.Metrics {
		var current autoscalingv2.MetricStatus
		if i < len(h.Status.CurrentMetrics) {
			current = h.Status.CurrentMetrics[i]
		}
		list = append(list, target(&h.Spec.Metrics[i], &current))
	}
	if len(list) > maxTargets {
		return fmt.Sprintf("%s + %d more...", strings.Join(list[:maxTargets], ", "), len(list)-maxTargets)
	}
	return strings.Join(list, ", ")
}

func target(spec *autoscalingv2.MetricSpec, current *autoscalingv2.MetricStatus) string {
	switch {
	case spec.Type == autoscalingv2.PodsMetricSourceType && spec.Pods != nil:
		var have *autoscalingv2.MetricValueStatus
		if current.Pods != nil {
			have = &current.Pods.Current
		}
		return quantities(&autoscalingv2.MetricTarget{AverageValue: spec.Pods.Target.AverageValue}, have)
	case spec.Type == autoscalingv2.ObjectMetricSourceType && spec.Object != nil:
		var have *autoscalingv2.MetricValueStatus
		if current.Object != nil {
			have = &current.Object.Current
		}
		return quantities(&spec.Object.Target, have)
	case spec.Type == autoscalingv2.ExternalMetricSourceType && spec.External != nil:
		var have *autoscalingv2.MetricValueStatus
		if current.External != nil {
			have = &current.External.Current
		}
		return quantities(&spec.External.Target, have)
	case spec.Type == autoscalingv2.ResourceMetricSourceType && spec.Resource != nil:
		var have *autoscalingv2.MetricValueStatus
		if current.Resource != nil {
			have = &current.Resource.Current
		}
		return string(spec.Resource.Name) + ": " + usage(&spec.Resource.Target, have)
	case spec.Type == autoscalingv2.ContainerResourceMetricSourceType && spec.ContainerResource != nil:
		var have *autoscalingv2.MetricValueStatus
		if current.ContainerResource != nil {
			have = &current.ContainerResource.Current
		}
		return string(spec.ContainerResource.Name) + ": " + usage(&spec.ContainerResource.Target, have)
	}
	return "<unknown type>"
}

// quantities shows a target that is an amount, as an average or not.
func quantities(t *autoscalingv2.MetricTarget, have *autoscalingv2.MetricValueStatus) string {
	text := func(want *resource.Quantity, of func() *resource.Quantity, suffix string) string {
		current := table.Unknown
		if have != nil && of() != nil {
			current = of().String()
		}
		return current + "/" + want.String() + suffix
	}
	switch {
	case t.AverageValue != nil:
		suffix := ""
		if t.Type != "" {
			suffix = " (avg)"
		}
		return text(t.AverageValue, func() *resource.Quantity { return have.AverageValue }, suffix)
	case t.Value != nil:
		return text(t.Value, func() *resource.Quantity { return have.Value }, "")
	}
	return table.Unknown + "/<auto>"
}

// usage shows a target for a resource of pods: an amount, or percent of what they request.
func usage(t *autoscalingv2.MetricTarget, have *autoscalingv2.MetricValueStatus) string {
	if t.AverageValue != nil {
		return quantities(&autoscalingv2.MetricTarget{AverageValue: t.AverageValue}, have)
	}
	current, want := table.Unknown, "<auto>"
	if have != nil && have.AverageUtilization != nil {
		current = fmt.Sprintf("%d%%", *have.AverageUtilization)
	}
	if t.AverageUtilization != nil {
		want = fmt.Sprintf("%d%%", *t.AverageUtilization)
	}
	return current + "/" + want
}
