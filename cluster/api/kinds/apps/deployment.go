package apps

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
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

var (
	specPath   = field.NewPath("spec")
	statusPath = field.NewPath("status")
)

// Deployment describes apps/v1 Deployment.
func Deployment() kind.Kind {
	spec, status := appsv1.DeploymentSpec{}.SwaggerDoc(), appsv1.DeploymentStatus{}.SwaggerDoc()
	return kind.Kind{
		GVK:        appsv1.SchemeGroupVersion.WithKind("Deployment"),
		Resource:   "deployments",
		Singular:   "deployment",
		ShortNames: []string{"deploy"},
		Categories: []string{"all"},
		Namespaced: true,
		New:        func() kind.Object { return &appsv1.Deployment{} },
		NewList:    func() runtime.Object { return &appsv1.DeploymentList{} },

		Default: func(obj kind.Object) { defaultDeployment(&obj.(*appsv1.Deployment).Spec) },
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateDeployment(&obj.(*appsv1.Deployment).Spec)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			d, was := obj.(*appsv1.Deployment), old.(*appsv1.Deployment)
			return append(validateDeployment(&d.Spec),
				apivalidation.ValidateImmutableField(d.Spec.Selector, was.Spec.Selector, specPath.Child("selector"))...)
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			obj.(*appsv1.Deployment).Status = appsv1.DeploymentStatus{}
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			obj.(*appsv1.Deployment).Status = old.(*appsv1.Deployment).Status
		},
		SpecChanged: func(obj, old kind.Object) bool {
			d, was := obj.(*appsv1.Deployment), old.(*appsv1.Deployment)
			// Annotations are passed on to the replica sets, so a change of them is work, too.
			return !apiequality.Semantic.DeepEqual(d.Spec, was.Spec) || !apiequality.Semantic.DeepEqual(d.Annotations, was.Annotations)
		},
		Warnings: func(_ context.Context, obj, old kind.Object) []string {
			return append(podspec.NameWarnings(obj, old), podspec.TemplateWarnings(&obj.(*appsv1.Deployment).Spec.Template, specPath.Child("template"), obj, old)...)
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				d, was := obj.(*appsv1.Deployment), old.(*appsv1.Deployment)
				d.Spec, d.Labels = was.Spec, was.Labels
			},
			Validate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
				return validateDeploymentStatus(&obj.(*appsv1.Deployment).Status, &old.(*appsv1.Deployment).Status)
			},
		},
		Scale: &kind.Scale{
			Get: func(obj kind.Object) (int32, int32, string) {
				d := obj.(*appsv1.Deployment)
				return ptr.Deref(d.Spec.Replicas, 0), d.Status.Replicas, selectorText(d.Spec.Selector)
			},
			Set: func(obj kind.Object, replicas int32) { obj.(*appsv1.Deployment).Spec.Replicas = &replicas },
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Ready", "Number of the pod with ready state"),
			table.Col("Up-to-date", status["updatedReplicas"]),
			table.Col("Available", status["availableReplicas"]),
			table.Age(),
			table.Wide(table.Col("Containers", "Names of each container in the template.")),
			table.Wide(table.Col("Images", "Images referenced by each container in the template.")),
			table.Wide(table.Col("Selector", spec["selector"])),
		},
		Row: func(obj kind.Object) []any {
			d := obj.(*appsv1.Deployment)
			names, images := table.Containers(d.Spec.Template.Spec.Containers)
			return []any{
				d.Name, fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, ptr.Deref(d.Spec.Replicas, 0)),
				int64(d.Status.UpdatedReplicas), int64(d.Status.AvailableReplicas), table.Since(d.CreationTimestamp),
				names, images, table.Selector(d.Spec.Selector),
			}
		},
	}
}

// selectorText is a selector as scale shows it; validation has seen to it that it is a good one.
func selectorText(sel *metav1.LabelSelector) string {
	s, err := metav1.LabelSelectorAsSelector(sel)
	if err != nil {
		return ""
	}
	return s.String()
}

func defaultDeployment(spec *appsv1.DeploymentSpec) {
	if spec.Replicas == nil {
		spec.Replicas = ptr.To(int32(1))
	}
	if spec.Strategy.Type == "" {
		spec.Strategy.Type = appsv1.RollingUpdateDeploymentStrategyType
	}
	if spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		if spec.Strategy.RollingUpdate == nil {
			spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{}
		}
		if spec.Strategy.RollingUpdate.MaxUnavailable == nil {
			spec.Strategy.RollingUpdate.MaxUnavailable = ptr.To(intstr.FromString("25%"))
		}
		if spec.Strategy.RollingUpdate.MaxSurge == nil {
			spec.Strategy.RollingUpdate.MaxSurge = ptr.To(intstr.FromString("25%"))
		}
	}
	if spec.RevisionHistoryLimit == nil {
		spec.RevisionHistoryLimit = ptr.To(int32(10))
	}
	if spec.ProgressDeadlineSeconds == nil {
		spec.ProgressDeadlineSeconds = ptr.To(int32(600))
	}
	podspec.DefaultTemplate(&spec.Template)
}

func validateDeployment(spec *appsv1.DeploymentSpec) field.ErrorList {
	errs := check.OptionalNonNegative(spec.Replicas, specPath.Child("replicas"))
	errs = append(errs, podspec.ValidateSelector(spec.Selector, &spec.Template, "deployment", specPath)...)
	errs = append(errs, podspec.ValidateTemplate(&spec.Template, specPath.Child("template"), podspec.Options{})...)
	errs = append(errs, podspec.ValidateLasting(&spec.Template, "ReplicaSet", specPath.Child("template"))...)
	errs = append(errs, validateStrategy(&spec.Strategy, specPath.Child("strategy"))...)
	errs = append(errs, check.NonNegative(spec.MinReadySeconds, specPath.Child("minReadySeconds"))...)
	errs = append(errs, check.OptionalNonNegative(spec.RevisionHistoryLimit, specPath.Child("revisionHistoryLimit"))...)
	if n := spec.ProgressDeadlineSeconds; n != nil {
		errs = append(errs, check.NonNegative(*n, specPath.Child("progressDeadlineSeconds"))...)
		if *n <= spec.MinReadySeconds {
			errs = append(errs, field.Invalid(specPath.Child("progressDeadlineSeconds"), *n, "must be greater than minReadySeconds"))
		}
	}
	return errs
}

func validateStrategy(s *appsv1.DeploymentStrategy, path *field.Path) field.ErrorList {
	rolling := path.Child("rollingUpdate")
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Forbidden(rolling, "may not be specified when strategy `type` is '"+string(s.Type)+"'")}
		}
		return nil
	case appsv1.RollingUpdateDeploymentStrategyType:
		if s.RollingUpdate == nil {
			return field.ErrorList{field.Required(rolling, "this should be defaulted and never be nil")}
		}
		return validateRolling(ptr.Deref(s.RollingUpdate.MaxUnavailable, intstr.IntOrString{}), ptr.Deref(s.RollingUpdate.MaxSurge, intstr.IntOrString{}), rolling)
	}
	return field.ErrorList{field.NotSupported(path, *s, []appsv1.DeploymentStrategyType{appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType})}
}

// validateRolling checks that a rolling update can make progress.
func validateRolling(unavailable, surge intstr.IntOrString, path *field.Path) field.ErrorList {
	errs := check.NonNegativeIntOrPercent(unavailable, path.Child("maxUnavailable"))
	errs = append(errs, check.NonNegativeIntOrPercent(surge, path.Child("maxSurge"))...)
	if isZero(unavailable) && isZero(surge) {
		errs = append(errs, field.Invalid(path.Child("maxUnavailable"), unavailable, "may not be 0 when `maxSurge` is 0"))
	}
	return append(errs, check.AtMost100Percent(unavailable, path.Child("maxUnavailable"))...)
}

func isZero(v intstr.IntOrString) bool {
	if n, ok := check.Percent(v); ok {
		return n == 0
	}
	return v.IntValue() == 0 // also what is no number
}

func validateDeploymentStatus(s, old *appsv1.DeploymentStatus) field.ErrorList {
	errs := check.NonNegative(s.ObservedGeneration, statusPath.Child("observedGeneration"))
	errs = append(errs, check.ReplicaCounts(s.Replicas, s.ReadyReplicas, s.AvailableReplicas, statusPath, check.Count{Child: "updatedReplicas", Value: s.UpdatedReplicas})...)
	errs = append(errs, check.NonNegative(s.UnavailableReplicas, statusPath.Child("unavailableReplicas"))...)
	errs = append(errs, check.OptionalNonNegative(s.TerminatingReplicas, statusPath.Child("terminatingReplicas"))...)
	return append(errs, validateCollisions(s.CollisionCount, old.CollisionCount)...)
}
