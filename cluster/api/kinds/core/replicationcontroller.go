package core

import (
	"context"
	"maps"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// ReplicationController describes v1 ReplicationController.
func ReplicationController() kind.Kind {
	spec, status := corev1.ReplicationControllerSpec{}.SwaggerDoc(), corev1.ReplicationControllerStatus{}.SwaggerDoc()
	return kind.Kind{
		GVK:          corev1.SchemeGroupVersion.WithKind("ReplicationController"),
		Resource:     "replicationcontrollers",
		Singular:     "replicationcontroller",
		ShortNames:   []string{"rc"},
		Categories:   []string{"all"},
		Namespaced:   true,
		ValidateName: check.LongName,
		New:          func() kind.Object { return &corev1.ReplicationController{} },
		NewList:      func() runtime.Object { return &corev1.ReplicationControllerList{} },

		Default: func(obj kind.Object) { defaultReplicationController(obj.(*corev1.ReplicationController)) },
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateReplicationController(&obj.(*corev1.ReplicationController).Spec)
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			obj.(*corev1.ReplicationController).Status = corev1.ReplicationControllerStatus{}
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			obj.(*corev1.ReplicationController).Status = old.(*corev1.ReplicationController).Status
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*corev1.ReplicationController).Spec, old.(*corev1.ReplicationController).Spec)
		},
		Warnings: func(_ context.Context, obj, old kind.Object) []string {
			out := podspec.NameWarnings(obj, old)
			if t := obj.(*corev1.ReplicationController).Spec.Template; t != nil {
				out = append(out, podspec.TemplateWarnings(t, specPath.Child("template"), obj, old)...)
			}
			return out
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				obj.(*corev1.ReplicationController).Spec = old.(*corev1.ReplicationController).Spec
			},
			Validate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
				s := &obj.(*corev1.ReplicationController).Status
				errs := check.NonNegative(s.ObservedGeneration, field.NewPath("status", "observedGeneration"))
				return append(errs, check.ReplicaCounts(s.Replicas, s.ReadyReplicas, s.AvailableReplicas, field.NewPath("status"),
					check.Count{Child: "fullyLabeledReplicas", Value: s.FullyLabeledReplicas})...)
			},
		},
		Scale: &kind.Scale{
			Get: func(obj kind.Object) (int32, int32, string) {
				rc := obj.(*corev1.ReplicationController)
				return ptr.Deref(rc.Spec.Replicas, 0), rc.Status.Replicas, labels.SelectorFromSet(rc.Spec.Selector).String()
			},
			Set: func(obj kind.Object, replicas int32) { obj.(*corev1.ReplicationController).Spec.Replicas = &replicas },
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
			rc := obj.(*corev1.ReplicationController)
			var names, images string
			if rc.Spec.Template != nil {
				names, images = table.Containers(rc.Spec.Template.Spec.Containers)
			}
			return []any{
				rc.Name, int64(ptr.Deref(rc.Spec.Replicas, 0)), int64(rc.Status.Replicas), int64(rc.Status.ReadyReplicas),
				table.Since(rc.CreationTimestamp), names, images, table.Labels(rc.Spec.Selector),
			}
		},
		Fields: func(obj kind.Object) fields.Set {
			return fields.Set{"status.replicas": strconv.Itoa(int(obj.(*corev1.ReplicationController).Status.Replicas))}
		},
	}
}

func defaultReplicationController(rc *corev1.ReplicationController) {
	if rc.Spec.Replicas == nil {
		rc.Spec.Replicas = ptr.To(int32(1))
	}
	t := rc.Spec.Template
	if t == nil {
		return
	}
	// The template's labels serve where the author named none.
	if len(t.Labels) > 0 {
		if len(rc.Spec.Selector) == 0 {
			rc.Spec.Selector = maps.Clone(t.Labels)
		}
		if len(rc.Labels) == 0 {
			rc.Labels = maps.Clone(t.Labels)
		}
	}
	podspec.DefaultTemplate(t)
}

func validateReplicationController(spec *corev1.ReplicationControllerSpec) field.ErrorList {
	errs := check.NonNegative(spec.MinReadySeconds, specPath.Child("minReadySeconds"))
	errs = append(errs, check.OptionalNonNegative(spec.Replicas, specPath.Child("replicas"))...)
	if len(spec.Selector) == 0 {
		errs = append(errs, field.Required(specPath.Child("selector"), ""))
	}
	at := specPath.Child("template")
	if spec.Template == nil {
		return append(errs, field.Required(at, ""))
	}
	if !labels.SelectorFromSet(spec.Selector).Matches(labels.Set(spec.Template.Labels)) {
		errs = append(errs, field.Invalid(at.Child("metadata", "labels"), spec.Template.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, podspec.ValidateTemplate(spec.Template, at, podspec.Options{})...)
	return append(errs, podspec.ValidateLasting(spec.Template, "ReplicationController", at)...)
}
