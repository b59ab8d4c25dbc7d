package apps

import (
	"context"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// DaemonSet describes apps/v1 DaemonSet.
func DaemonSet() kind.Kind {
	spec, status := appsv1.DaemonSetSpec{}.SwaggerDoc(), appsv1.DaemonSetStatus{}.SwaggerDoc()
	return kind.Kind{
		GVK:        appsv1.SchemeGroupVersion.WithKind("DaemonSet"),
		Resource:   "daemonsets",
		Singular:   "daemonset",
		ShortNames: []string{"ds"},
		Categories: []string{"all"},
		Namespaced: true,
		New:        func() kind.Object { return &appsv1.DaemonSet{} },
		NewList:    func() runtime.Object { return &appsv1.DaemonSetList{} },

		Default: func(obj kind.Object) { defaultDaemonSet(&obj.(*appsv1.DaemonSet).Spec) },
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateDaemonSet(&obj.(*appsv1.DaemonSet).Spec)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			d, was := obj.(*appsv1.DaemonSet), old.(*appsv1.DaemonSet)
			return append(validateDaemonSet(&d.Spec), apivalidation.ValidateImmutableField(d.Spec.Selector, was.Spec.Selector, specPath.Child("selector"))...)
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			d := obj.(*appsv1.DaemonSet)
			d.Status = appsv1.DaemonSetStatus{}
			setTemplateGeneration(d, 1)
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			d, was := obj.(*appsv1.DaemonSet), old.(*appsv1.DaemonSet)
			d.Status = was.Status
			n := templateGeneration(was)
			if !apiequality.Semantic.DeepEqual(d.Spec.Template, was.Spec.Template) {
				n++
			}
			setTemplateGeneration(d, n)
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*appsv1.DaemonSet).Spec, old.(*appsv1.DaemonSet).Spec)
		},
		Warnings: func(_ context.Context, obj, old kind.Object) []string {
			return podspec.TemplateWarnings(&obj.(*appsv1.DaemonSet).Spec.Template, specPath.Child("template"), obj, old)
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				d, was := obj.(*appsv1.DaemonSet), old.(*appsv1.DaemonSet)
				d.Spec = was.Spec
				setTemplateGeneration(d, templateGeneration(was))
			},
			Validate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
				return validateDaemonSetStatus(&obj.(*appsv1.DaemonSet).Status, &old.(*appsv1.DaemonSet).Status)
			},
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Int("Desired", status["desiredNumberScheduled"]),
			table.Int("Current", status["currentNumberScheduled"]),
			table.Int("Ready", status["numberReady"]),
			table.Int("Up-to-date", status["updatedNumberScheduled"]),
			table.Int("Available", status["numberAvailable"]),
			table.Col("Node Selector", corev1.PodSpec{}.SwaggerDoc()["nodeSelector"]),
			table.Age(),
			table.Wide(table.Col("Containers", "Names of each container in the template.")),
			table.Wide(table.Col("Images", "Images referenced by each container in the template.")),
			table.Wide(table.Col("Selector", spec["selector"])),
		},
		Row: func(obj kind.Object) []any {
			d := obj.(*appsv1.DaemonSet)
			names, images := table.Containers(d.Spec.Template.Spec.Containers)
			s := &d.Status
			return []any{
				d.Name, int64(s.DesiredNumberScheduled), int64(s.CurrentNumberScheduled), int64(s.NumberReady), int64(s.UpdatedNumberScheduled),
				int64(s.NumberAvailable), table.Labels(d.Spec.Template.Spec.NodeSelector), table.Since(d.CreationTimestamp), names, images, table.Selector(d.Spec.Selector),
			}
		},
	}
}

// templateGeneration counts the changes of a daemon set's template, in an annotation that was once a
// field of the spec. Users cannot set it.
func templateGeneration(d *appsv1.DaemonSet) int64 {
	n, err := strconv.ParseInt(d.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	if err != nil {
		return 1 // made before the annotation was kept
	}
	return n
}

func setTemplateGeneration(d *appsv1.DaemonSet, n int64) {
	d.Annotations = maps.Clone(d.Annotations)
	if d.Annotations == nil {
		d.Annotations = make(map[string]string, 1)
	}
	d.Annotations[appsv1.DeprecatedTemplateGeneration] = strconv.FormatInt(n, 10)
}

func defaultDaemonSet(spec *appsv1.DaemonSetSpec) {
	s := &spec.UpdateStrategy
	if s.Type == "" {
		s.Type = appsv1.RollingUpdateDaemonSetStrategyType
	}
	if s.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		if s.RollingUpdate == nil {
			s.RollingUpdate = &appsv1.RollingUpdateDaemonSet{}
		}
		if s.RollingUpdate.MaxUnavailable == nil {
			s.RollingUpdate.MaxUnavailable = ptr.To(intstr.FromInt32(1))
		}
		if s.RollingUpdate.MaxSurge == nil {
			s.RollingUpdate.MaxSurge = ptr.To(intstr.FromInt32(0))
		}
	}
	if spec.RevisionHistoryLimit == nil {
		spec.RevisionHistoryLimit = ptr.To(int32(10))
	}
	podspec.DefaultTemplate(&spec.Template)
}

func validateDaemonSet(spec *appsv1.DaemonSetSpec) field.ErrorList {
	errs := podspec.ValidateSelector(spec.Selector, &spec.Template, "daemonset", specPath)
	at := specPath.Child("template")
	errs = append(errs, podspec.ValidateTemplate(&spec.Template, at, podspec.Options{})...)
	errs = append(errs, podspec.ValidateLasting(&spec.Template, "DaemonSet", at)...)
	errs = append(errs, check.NonNegative(spec.MinReadySeconds, specPath.Child("minReadySeconds"))...)
	errs = append(errs, check.OptionalNonNegative(spec.RevisionHistoryLimit, specPath.Child("revisionHistoryLimit"))...)
	return append(errs, validateDaemonStrategy(&spec.UpdateStrategy, specPath.Child("updateStrategy"))...)
}

func validateDaemonStrategy(s *appsv1.DaemonSetUpdateStrategy, path *field.Path) field.ErrorList {
	switch s.Type {
	case appsv1.OnDeleteDaemonSetStrategyType:
		return nil
	case appsv1.RollingUpdateDaemonSetStrategyType:
	default:
		return field.ErrorList{field.NotSupported(path, *s, []appsv1.DaemonSetUpdateStrategyType{appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType})}
	}
	path = path.Child("rollingUpdate")
	if s.RollingUpdate == nil {
		return field.ErrorList{field.Required(path, "")}
	}
	unavailable, surge := ptr.Deref(s.RollingUpdate.MaxUnavailable, intstr.IntOrString{}), ptr.Deref(s.RollingUpdate.MaxSurge, intstr.IntOrString{})
	var errs field.ErrorList
	for _, n := range []struct {
		child string
		value intstr.IntOrString
	}{{"maxUnavailable", unavailable}, {"maxSurge", surge}} {
		errs = append(errs, check.NonNegativeIntOrPercent(n.value, path.Child(n.child))...)
		errs = append(errs, check.AtMost100Percent(n.value, path.Child(n.child))...)
	}
	// A node's pod is either taken down first or doubled for a while.
	switch {
	case !isZero(unavailable) && !isZero(surge):
		errs = append(errs, field.Invalid(path.Child("maxSurge"), surge, "may not be set when maxUnavailable is non-zero"))
	case isZero(unavailable) && isZero(surge):
		errs = append(errs, field.Required(path.Child("maxUnavailable"), "cannot be 0 when maxSurge is 0"))
	}
	return errs
}

func validateDaemonSetStatus(s, old *appsv1.DaemonSetStatus) field.ErrorList {
	errs := check.NonNegative(s.ObservedGeneration, statusPath.Child("observedGeneration"))
	for _, n := range []check.Count{
		{Child: "currentNumberScheduled", Value: s.CurrentNumberScheduled}, {Child: "numberMisscheduled", Value: s.NumberMisscheduled},
		{Child: "desiredNumberScheduled", Value: s.DesiredNumberScheduled}, {Child: "numberReady", Value: s.NumberReady},
		{Child: "updatedNumberScheduled", Value: s.UpdatedNumberScheduled}, {Child: "numberAvailable", Value: s.NumberAvailable},
		{Child: "numberUnavailable", Value: s.NumberUnavailable},
	} {
		errs = append(errs, check.NonNegative(n.Value, statusPath.Child(n.Child))...)
	}
	return append(errs, validateCollisions(s.CollisionCount, old.CollisionCount)...)
}
