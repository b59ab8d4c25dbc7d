package apps

import (
	"context"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// ReplicaSet describes apps/v1 ReplicaSet.
func ReplicaSet() kind.Kind {
	spec, status := appsv1.ReplicaSetSpec{}.SwaggerDoc(), appsv1.ReplicaSetStatus{}.SwaggerDoc()
	return kind.Kind{
		GVK:        appsv1.SchemeGroupVersion.WithKind("ReplicaSet"),
		Resource:   "replicasets",
		Singular:   "replicaset",
		ShortNames: []string{"rs"},
		Categories: []string{"all"},
		Namespaced: true,
		New:        func() kind.Object { return &appsv1.ReplicaSet{} },
		NewList:    func() runtime.Object { return &appsv1.ReplicaSetList{} },

		Default: func(obj kind.Object) {
			rs := obj.(*appsv1.ReplicaSet)
			if rs.Spec.Replicas == nil {
				rs.Spec.Replicas = ptr.To(int32(1))
			}
			podspec.DefaultTemplate(&rs.Spec.Template)
		},
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateReplicaSet(&obj.(*appsv1.ReplicaSet).Spec)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			rs, was := obj.(*appsv1.ReplicaSet), old.(*appsv1.ReplicaSet)
			return append(validateReplicaSet(&rs.Spec),
				apivalidation.ValidateImmutableField(rs.Spec.Selector, was.Spec.Selector, specPath.Child("selector"))...)
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			obj.(*appsv1.ReplicaSet).Status = appsv1.ReplicaSetStatus{}
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			obj.(*appsv1.ReplicaSet).Status = old.(*appsv1.ReplicaSet).Status
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*appsv1.ReplicaSet).Spec, old.(*appsv1.ReplicaSet).Spec)
		},
		Warnings: func(_ context.Context, obj, old kind.Object) []string {
			return append(podspec.NameWarnings(obj, old), podspec.TemplateWarnings(&obj.(*appsv1.ReplicaSet).Spec.Template, specPath.Child("template"), obj, old)...)
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				obj.(*appsv1.ReplicaSet).Spec = old.(*appsv1.ReplicaSet).Spec
			},
			Validate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
				return validateReplicaSetStatus(&obj.(*appsv1.ReplicaSet).Status)
			},
		},
		Scale: &kind.Scale{
			Get: func(obj kind.Object) (int32, int32, string) {
				rs := obj.(*appsv1.ReplicaSet)
				return ptr.Deref(rs.Spec.Replicas, 0), rs.Status.Replicas, selectorText(rs.Spec.Selector)
			},
			Set: func(obj kind.Object, replicas int32) { obj.(*appsv1.ReplicaSet).Spec.Replicas = &replicas },
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Int("Desired", spec["replicas"]),
			table.Int("Current", status["replicas"]),
			table.Int("Ready", status["readyReplicas"]),
			table.Age(),
			table.Wide(table.Col("Containers", "Names of each container in the template.")),
			table.Wide(table.Col("Images", "Images referenced by each container in the template.")),
			table.Wide(table.Col("Selector", spec["selector"])),
		},
		Row: func(obj kind.Object) []any {
			rs := obj.(*appsv1.ReplicaSet)
			names, images := table.Containers(rs.Spec.Template.Spec.Containers)
			return []any{
				rs.Name, int64(ptr.Deref(rs.Spec.Replicas, 0)), int64(rs.Status.Replicas), int64(rs.Status.ReadyReplicas),
				table.Since(rs.CreationTimestamp), names, images, table.Selector(rs.Spec.Selector),
			}
		},
		Fields: func(obj kind.Object) fields.Set {
			return fields.Set{"status.replicas": strconv.Itoa(int(obj.(*appsv1.ReplicaSet).Status.Replicas))}
		},
	}
}

func validateReplicaSet(spec *appsv1.ReplicaSetSpec) field.ErrorList {
	errs := check.OptionalNonNegative(spec.Replicas, specPath.Child("replicas"))
	errs = append(errs, check.NonNegative(spec.MinReadySeconds, specPath.Child("minReadySeconds"))...)
	// "deployment" is what Kubernetes says of replica sets, too.
	errs = append(errs, podspec.ValidateSelector(spec.Selector, &spec.Template, "deployment", specPath)...)
	errs = append(errs, podspec.ValidateTemplate(&spec.Template, specPath.Child("template"), podspec.Options{})...)
	return append(errs, podspec.ValidateLasting(&spec.Template, "ReplicaSet", specPath.Child("template"))...)
}

func validateReplicaSetStatus(s *appsv1.ReplicaSetStatus) field.ErrorList {
	errs := check.NonNegative(s.ObservedGeneration, statusPath.Child("observedGeneration"))
	errs = append(errs, check.OptionalNonNegative(s.TerminatingReplicas, statusPath.Child("terminatingReplicas"))...)
	return append(errs, check.ReplicaCounts(s.Replicas, s.ReadyReplicas, s.AvailableReplicas, statusPath, check.Count{Child: "fullyLabeledReplicas", Value: s.FullyLabeledReplicas})...)
}
