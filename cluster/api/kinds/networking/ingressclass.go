package networking

import (
	"context"

	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// IngressClass describes networking.k8s.io/v1 IngressClass.
func IngressClass() kind.Kind {
	return kind.Kind{
		GVK:      networkingv1.SchemeGroupVersion.WithKind("IngressClass"),
		Resource: "ingressclasses",
		Singular: "ingressclass",
		New:      func() kind.Object { return &networkingv1.IngressClass{} },
		NewList:  func() runtime.Object { return &networkingv1.IngressClassList{} },

		Default: func(obj kind.Object) {
			if p := obj.(*networkingv1.IngressClass).Spec.Parameters; p != nil && p.Scope == nil {
				p.Scope = ptr.To(networkingv1.IngressClassParametersReferenceScopeCluster)
			}
		},
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateIngressClass(&obj.(*networkingv1.IngressClass).Spec)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			spec, was := &obj.(*networkingv1.IngressClass).Spec, &old.(*networkingv1.IngressClass).Spec
			return append(validateIngressClass(spec), apivalidation.ValidateImmutableField(spec.Controller, was.Controller, specPath.Child("controller"))...)
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*networkingv1.IngressClass).Spec, old.(*networkingv1.IngressClass).Spec)
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Controller", "Controller that is responsible for handling this class"),
			table.Col("Parameters", "A reference to a resource with additional parameters"),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			c := obj.(*networkingv1.IngressClass)
			parameters := table.None
			if p := c.Spec.Parameters; p != nil {
				parameters = p.Kind
				if p.APIGroup != nil {
					parameters += "." + *p.APIGroup
				}
				parameters += "/" + p.Name
			}
			return []any{c.Name, c.Spec.Controller, parameters, table.Since(c.CreationTimestamp)}
		},
	}
}

const maxController = 250

func validateIngressClass(spec *networkingv1.IngressClassSpec) field.ErrorList {
	at := specPath.Child("controller")
	var errs field.ErrorList
	if len(spec.Controller) > maxController {
		errs = append(errs, field.TooLong(at, spec.Controller, maxController))
	}
	errs = append(errs, validation.IsDomainPrefixedPath(at, spec.Controller)...)
	return append(errs, validateParameters(spec.Parameters, specPath.Child("parameters"))...)
}

var parameterScopes = sets.New(networkingv1.IngressClassParametersReferenceScopeCluster, networkingv1.IngressClassParametersReferenceScopeNamespace)

func validateParameters(p *networkingv1.IngressClassParametersReference, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := validateReference(p.APIGroup, p.Kind, p.Name, path)
	if p.Scope == nil {
		return append(errs, field.Required(path.Child("scope"), ""))
	}
	at := path.Child("namespace")
	switch *p.Scope {
	case networkingv1.IngressClassParametersReferenceScopeNamespace:
		if p.Namespace == nil {
			return append(errs, field.Required(at, "`parameters.scope` is set to 'Namespace'"))
		}
		return append(errs, check.DNSLabel(*p.Namespace, at)...)
	case networkingv1.IngressClassParametersReferenceScopeCluster:
		if p.Namespace != nil {
			errs = append(errs, field.Forbidden(at, "`parameters.scope` is set to 'Cluster'"))
		}
		return errs
	}
	return append(errs, check.OneOfOrBad(*p.Scope, parameterScopes, path.Child("scope"))...)
}
