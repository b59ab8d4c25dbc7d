package core

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// Namespace describes v1 Namespace. It stays, Terminating, until the namespace controller has
// emptied it and taken "kubernetes" out of spec.finalizers through the finalize subresource.
func Namespace() kind.Kind {
	return kind.Kind{
		GVK:        corev1.SchemeGroupVersion.WithKind("Namespace"),
		Resource:   "namespaces",
		Singular:   "namespace",
		ShortNames: []string{"ns"},
		New:        func() kind.Object { return &corev1.Namespace{} },
		NewList:    func() runtime.Object { return &corev1.NamespaceList{} },

		ValidateName: apivalidation.NameIsDNSLabel,
		Default: func(obj kind.Object) {
			ns := obj.(*corev1.Namespace)
			labelNamespace(ns)
			if ns.Status.Phase == "" {
				ns.Status.Phase = corev1.NamespaceActive
			}
		},
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			var errs field.ErrorList
			for _, name := range obj.(*corev1.Namespace).Spec.Finalizers {
				errs = append(errs, check.FinalizerName(string(name), finalizersPath)...)
			}
			return errs
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList { return nil },
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			ns := obj.(*corev1.Namespace)
			labelNamespace(ns)
			ns.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
			if !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
				ns.Spec.Finalizers = append(ns.Spec.Finalizers, corev1.FinalizerKubernetes)
			}
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			ns, was := obj.(*corev1.Namespace), old.(*corev1.Namespace)
			ns.Spec, ns.Status = was.Spec, was.Status
		},

		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				obj.(*corev1.Namespace).Spec = old.(*corev1.Namespace).Spec
			},
			Validate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
				return validateNamespacePhase(obj.(*corev1.Namespace))
			},
		},
		Subresources: map[string]*kind.Subresource{
			"finalize": {
				Prepare: func(_ context.Context, obj, old kind.Object) {
					obj.(*corev1.Namespace).Status = old.(*corev1.Namespace).Status
				},
				Validate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
					var errs field.ErrorList
					for i, name := range obj.(*corev1.Namespace).Spec.Finalizers {
						errs = append(errs, check.FinalizerName(string(name), finalizersPath.Index(i))...)
					}
					return errs
				},
			},
		},
		Finalize: &kind.Finalize{
			Pending: func(obj kind.Object) bool { return len(obj.(*corev1.Namespace).Spec.Finalizers) > 0 },
			Mark:    func(obj kind.Object) { obj.(*corev1.Namespace).Status.Phase = corev1.NamespaceTerminating },
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Status", "The status of the namespace"),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			ns := obj.(*corev1.Namespace)
			return []any{ns.Name, string(ns.Status.Phase), table.Since(ns.CreationTimestamp)}
		},
		Fields: func(obj kind.Object) fields.Set {
			ns := obj.(*corev1.Namespace)
			// "name" is an old spelling of metadata.name that is still served.
			return fields.Set{"status.phase": string(ns.Status.Phase), "name": ns.Name}
		},
	}
}

// labelNamespace puts the label with its own name on a namespace, so that selectors can name it.
// A namespace with generateName has no name yet when it is defaulted; it gets the label on create.
func labelNamespace(ns *corev1.Namespace) {
	if ns.Name == "" || ns.Labels[corev1.LabelMetadataName] == ns.Name {
		return
	}
	if ns.Labels == nil {
		ns.Labels = make(map[string]string, 1)
	}
	ns.Labels[corev1.LabelMetadataName] = ns.Name
}

var finalizersPath = specPath.Child("finalizers")

func validateNamespacePhase(ns *corev1.Namespace) field.ErrorList {
	// In Kubernetes, too, this path is in upper case.
	path := field.NewPath("status", "Phase")
	if ns.DeletionTimestamp.IsZero() {
		if ns.Status.Phase != corev1.NamespaceActive {
			return field.ErrorList{field.Invalid(path, ns.Status.Phase, "may only be 'Active' if `deletionTimestamp` is empty")}
		}
	} else if ns.Status.Phase != corev1.NamespaceTerminating {
		return field.ErrorList{field.Invalid(path, ns.Status.Phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")}
	}
	return nil
}
