package autoscaling

import (
	"errors"
	"fmt"
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
)

const (
	maxPeriodSeconds = 1800
	maxWindowSeconds = 3600
)

var (
	metricTypes = sets.New(autoscalingv2.ObjectMetricSourceType, autoscalingv2.PodsMetricSourceType, autoscalingv2.ResourceMetricSourceType,
		autoscalingv2.ExternalMetricSourceType, autoscalingv2.ContainerResourceMetricSourceType)
	targetTypes    = sets.New(autoscalingv2.UtilizationMetricType, autoscalingv2.ValueMetricType, autoscalingv2.AverageValueMetricType)
	policyTypes    = sets.New(autoscalingv2.PodsScalingPolicy, autoscalingv2.PercentScalingPolicy)
	selectPolicies = sets.New(autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect)
)

// validateAutoscaler checks an autoscaler; old is nil for a new one. What an old one was let through with it
// may keep.
func validateAutoscaler(spec, old *autoscalingv2.HorizontalPodAutoscalerSpec) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec")
	least := int32(1)
	if old != nil && old.MinReplicas != nil && *old.MinReplicas == 0 {
		least = 0
	}
	if n := spec.MinReplicas; n != nil && *n < least {
		errs = append(errs, field.Invalid(path.Child("minReplicas"), *n, fmt.Sprintf("must be greater than or equal to %d", least)))
	}
	if spec.MaxReplicas == 0 {
		errs = append(errs, field.Required(path.Child("maxReplicas"), "must be set and greater than 0"))
	} else if spec.MaxReplicas < 0 {
		errs = append(errs, field.Invalid(path.Child("maxReplicas"), spec.MaxReplicas, "must be greater than or equal to 1"))
	}
	if n := spec.MinReplicas; n != nil && spec.MaxReplicas < *n {
		errs = append(errs, field.Invalid(path.Child("maxReplicas"), spec.MaxReplicas, "must be greater than or equal to `minReplicas`"))
	}
	ref := &spec.ScaleTargetRef
	errs = append(errs, validateReference(ref, path.Child("scaleTargetRef"))...)
	if old == nil || old.ScaleTargetRef.APIVersion != ref.APIVersion || old.ScaleTargetRef.Kind != ref.Kind {
		errs = append(errs, validateAPIVersion(ref, ref.Kind == "ReplicationController", path.Child("scaleTargetRef"))...)
	}
	wrong := old != nil && slices.ContainsFunc(old.Metrics, func(m autoscalingv2.MetricSpec) bool {
		return m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil && len(validateAPIVersion(&m.Object.DescribedObject, true, path)) > 0
	})
	external := false
	for i := range spec.Metrics {
		m, at := &spec.Metrics[i], path.Child("metrics").Index(i)
		errs = append(errs, validateMetric(m, at)...)
		if m.Object != nil && !wrong {
			errs = append(errs, validateAPIVersion(&m.Object.DescribedObject, true, at.Child("object", "describedObject"))...)
		}
		external = external || m.Type == autoscalingv2.ObjectMetricSourceType || m.Type == autoscalingv2.ExternalMetricSourceType
	}
	if n := spec.MinReplicas; n != nil && *n == 0 && !external {
		errs = append(errs, field.Forbidden(path.Child("metrics"), "must specify at least one Object or External metric to support scaling to zero replicas"))
	}
	if b := spec.Behavior; b != nil {
		errs = append(errs, validateRules(b.ScaleUp, path.Child("behavior", "scaleUp"))...)
		errs = append(errs, validateRules(b.ScaleDown, path.Child("behavior", "scaleDown"))...)
	}
	return errs
}

func validateReference(ref *autoscalingv2.CrossVersionObjectReference, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, part := range []struct{ child, value string }{{"kind", ref.Kind}, {"name", ref.Name}} {
		at := path.Child(part.child)
		if part.value == "" {
			errs = append(errs, field.Required(at, ""))
		} else {
			errs = append(errs, check.Invalid(part.value, content.IsPathSegmentName(part.value), at)...)
		}
	}
	return errs
}

// validateAPIVersion checks the group of what an autoscaler refers to; only some may be in the core group.
func validateAPIVersion(ref *autoscalingv2.CrossVersionObjectReference, core bool, path *field.Path) field.ErrorList {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err == nil && gv.Group == "" && !core {
		err = errors.New("apiVersion must specify API group")
	}
	if err != nil {
		return field.ErrorList{field.Invalid(path.Child("apiVersion"), ref.APIVersion, err.Error())}
	}
	return nil
}

// validateMetric checks that a metric says exactly what its type is about.
func validateMetric(m *autoscalingv2.MetricSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	given := 0
	source := func(t autoscalingv2.MetricSourceType, child string, set bool, validate func(*field.Path) field.ErrorList) {
		at := path.Child(child)
		switch {
		case set:
			if given++; given > 1 {
				errs = append(errs, field.Forbidden(at, "must populate the given metric source only"))
				return
			}
			errs = append(errs, validate(at)...)
		case m.Type == t:
			errs = append(errs, field.Required(at, "must populate information for the given metric source"))
		}
	}
	source(autoscalingv2.ObjectMetricSourceType, "object", m.Object != nil, func(at *field.Path) field.ErrorList {
		errs := validateReference(&m.Object.DescribedObject, at.Child("describedObject"))
		errs = append(errs, validateIdentifier(&m.Object.Metric, at.Child("metric"))...)
		errs = append(errs, validateTarget(&m.Object.Target, at.Child("target"))...)
		if m.Object.Target.Value == nil && m.Object.Target.AverageValue == nil {
			errs = append(errs, field.Required(at.Child("target", "averageValue"), "must set either a target value or averageValue"))
		}
		return errs
	})
	source(autoscalingv2.PodsMetricSourceType, "pods", m.Pods != nil, func(at *field.Path) field.ErrorList {
		errs := validateIdentifier(&m.Pods.Metric, at.Child("metric"))
		errs = append(errs, validateTarget(&m.Pods.Target, at.Child("target"))...)
		if m.Pods.Target.AverageValue == nil {
			errs = append(errs, field.Required(at.Child("target", "averageValue"), "must specify a positive target averageValue"))
		}
		return errs
	})
	source(autoscalingv2.ResourceMetricSourceType, "resource", m.Resource != nil, func(at *field.Path) field.ErrorList {
		return validateUsage(m.Resource.Name, &m.Resource.Target, at)
	})
	source(autoscalingv2.ExternalMetricSourceType, "external", m.External != nil, func(at *field.Path) field.ErrorList {
		errs := validateIdentifier(&m.External.Metric, at.Child("metric"))
		errs = append(errs, validateTarget(&m.External.Target, at.Child("target"))...)
		switch t := &m.External.Target; {
		case t.Value == nil && t.AverageValue == nil:
			errs = append(errs, field.Required(at.Child("target", "averageValue"), "must set either a target value for metric or a per-pod target"))
		case t.Value != nil && t.AverageValue != nil:
			errs = append(errs, field.Forbidden(at.Child("target", "value"), "may not set both a target value for metric and a per-pod target"))
		}
		return errs
	})
	source(autoscalingv2.ContainerResourceMetricSourceType, "containerResource", m.ContainerResource != nil, func(at *field.Path) field.ErrorList {
		errs := validateUsage(m.ContainerResource.Name, &m.ContainerResource.Target, at)
		if m.ContainerResource.Container == "" {
			errs = append(errs, field.Required(at.Child("container"), "must specify a container"))
		} else {
			errs = append(errs, check.DNSLabel(m.ContainerResource.Container, at.Child("container"))...)
		}
		if name := m.ContainerResource.Name; name != "" {
			errs = append(errs, podspec.ContainerResourceName(name, at.Child("name"))...)
		}
		return errs
	})
	if m.Type == "" {
		errs = append(errs, field.Required(path.Child("type"), "must specify a metric source type"))
	}
	return append(errs, check.OneOfOrBad(m.Type, metricTypes, path.Child("type"))...)
}

func validateIdentifier(id *autoscalingv2.MetricIdentifier, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if id.Name == "" {
		return append(errs, field.Required(path.Child("name"), "must specify a metric name"))
	}
	return append(errs, check.Invalid(id.Name, content.IsPathSegmentName(id.Name), path.Child("name"))...)
}

func validateTarget(t *autoscalingv2.MetricTarget, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if t.Type == "" {
		errs = append(errs, field.Required(path.Child("type"), "must specify a metric target type"))
	}
	if !targetTypes.Has(t.Type) {
		errs = append(errs, field.Invalid(path.Child("type"), t.Type, "must be either Utilization, Value, or AverageValue"))
	}
	if t.Value != nil && t.Value.Sign() != 1 {
		errs = append(errs, field.Invalid(path.Child("value"), t.Value, "must be positive"))
	}
	if t.AverageValue != nil && t.AverageValue.Sign() != 1 {
		errs = append(errs, field.Invalid(path.Child("averageValue"), t.AverageValue, "must be positive"))
	}
	if t.AverageUtilization != nil && *t.AverageUtilization < 1 {
		errs = append(errs, field.Invalid(path.Child("averageUtilization"), t.AverageUtilization, "must be greater than 0"))
	}
	return errs
}

// validateUsage checks a target for a resource that containers request.
func validateUsage(name corev1.ResourceName, t *autoscalingv2.MetricTarget, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if name == "" {
		errs = append(errs, field.Required(path.Child("name"), "must specify a resource name"))
	}
	errs = append(errs, validateTarget(t, path.Child("target"))...)
	switch {
	case t.AverageUtilization == nil && t.AverageValue == nil:
		errs = append(errs, field.Required(path.Child("target", "averageUtilization"), "must set either a target raw value or a target utilization"))
	case t.AverageUtilization != nil && t.AverageValue != nil:
		errs = append(errs, field.Forbidden(path.Child("target", "averageValue"), "may not set both a target raw value and a target utilization"))
	}
	return errs
}

func validateRules(r *autoscalingv2.HPAScalingRules, path *field.Path) field.ErrorList {
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	if n := r.StabilizationWindowSeconds; n != nil {
		at := path.Child("stabilizationWindowSeconds")
		if *n < 0 {
			errs = append(errs, field.Invalid(at, *n, "must be greater than or equal to zero"))
		}
		if *n > maxWindowSeconds {
			errs = append(errs, field.Invalid(at, *n, fmt.Sprintf("must be less than or equal to %v", maxWindowSeconds)))
		}
	}
	errs = append(errs, check.OptionalOneOf(r.SelectPolicy, selectPolicies, path.Child("selectPolicy"))...)
	if r.Tolerance != nil {
		errs = append(errs, check.NonNegativeQuantity(*r.Tolerance, path.Child("tolerance"))...)
	}
	at := path.Child("policies")
	if len(r.Policies) == 0 {
		errs = append(errs, field.Required(at, "must specify at least one Policy"))
	}
	for i, p := range r.Policies {
		at := at.Index(i)
		errs = append(errs, check.OneOfOrBad(p.Type, policyTypes, at.Child("type"))...)
		if p.Value <= 0 {
			errs = append(errs, field.Invalid(at.Child("value"), p.Value, "must be greater than zero"))
		}
		if p.PeriodSeconds <= 0 {
			errs = append(errs, field.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, "must be greater than zero"))
		}
		if p.PeriodSeconds > maxPeriodSeconds {
			errs = append(errs, field.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, fmt.Sprintf("must be less than or equal to %v", maxPeriodSeconds)))
		}
	}
	return errs
}
