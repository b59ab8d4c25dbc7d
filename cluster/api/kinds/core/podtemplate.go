package core

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// PodTemplate describes v1 PodTemplate.
func PodTemplate() kind.Kind {
	return kind.Kind{
		GVK:        corev1.SchemeGroupVersion.WithKind("PodTemplate"),
		Resource:   "podtemplates",
		Singular:   "podtemplate",
		Namespaced: true,
		New:        func() kind.Object { return &corev1.PodTemplate{} },
		NewList:    func() runtime.Object { return &corev1.PodTemplateList{} },

		Default: func(obj kind.Object) { podspec.DefaultTemplate(&obj.(*corev1.PodTemplate).Template) },
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return podspec.ValidateTemplate(&obj.(*corev1.PodTemplate).Template, field.NewPath("template"), podspec.Options{})
		},
		Warnings: func(_ context.Context, obj, old kind.Object) []string {
			return podspec.TemplateWarnings(&obj.(*corev1.PodTemplate).Template, field.NewPath("template"), obj, old)
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*corev1.PodTemplate).Template, old.(*corev1.PodTemplate).Template)
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Containers", "Names of each container in the template."),
			table.Col("Images", "Images referenced by each container in the template."),
			table.Col("Pod Labels", "The labels for the pod template."),
		},
		Row: func(obj kind.Object) []any {
			t := obj.(*corev1.PodTemplate)
			names, images := table.Containers(t.Template.Spec.Containers)
			return []any{t.Name, names, images, table.Labels(t.Template.Labels)}
		},
	}
}
