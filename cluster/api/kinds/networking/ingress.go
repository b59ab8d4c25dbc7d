package networking

import (
	"context"
	"fmt"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

var specPath = field.NewPath("spec")

// Ingress describes networking.k8s.io/v1 Ingress.
func Ingress() kind.Kind {
	return kind.Kind{
		GVK:        networkingv1.SchemeGroupVersion.WithKind("Ingress"),
		Resource:   "ingresses",
		Singular:   "ingress",
		ShortNames: []string{"ing"},
		Namespaced: true,
		New:        func() kind.Object { return &networkingv1.Ingress{} },
		NewList:    func() runtime.Object { return &networkingv1.IngressList{} },

		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			in := obj.(*networkingv1.Ingress)
			errs := validateIngress(&in.Spec)
			old, ok := in.Annotations[classAnnotation]
			if class := in.Spec.IngressClassName; ok && class != nil && old != *class {
				errs = append(errs, field.Invalid(field.NewPath("annotations").Child(classAnnotation), old, "must match `ingressClassName` when both are specified"))
			}
			return errs
		},
		ValidateUpdate: func(_ context.Context, obj, _ kind.Object) field.ErrorList {
			return validateIngress(&obj.(*networkingv1.Ingress).Spec)
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			obj.(*networkingv1.Ingress).Status = networkingv1.IngressStatus{}
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			obj.(*networkingv1.Ingress).Status = old.(*networkingv1.Ingress).Status
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*networkingv1.Ingress).Spec, old.(*networkingv1.Ingress).Spec)
		},
		Warnings: func(_ context.Context, obj, old kind.Object) []string {
			if _, ok := obj.GetAnnotations()[classAnnotation]; !ok || old != nil {
				return nil
			}
			return []string{fmt.Sprintf("annotation %q is deprecated, please use 'spec.ingressClassName' instead", classAnnotation)}
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				obj.(*networkingv1.Ingress).Spec = old.(*networkingv1.Ingress).Spec
			},
			Validate: func(_ context.Context, obj, _ kind.Object) field.ErrorList {
				return validateIngressStatus(&obj.(*networkingv1.Ingress).Status)
			},
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Class", "The name of the IngressClass resource that should be used for additional configuration"),
			table.Col("Hosts", "Hosts that incoming requests are matched against before the ingress rule"),
			table.Col("Address", "Address is a list containing ingress points for the load-balancer"),
			table.Col("Ports", "Ports of TLS configurations that open"),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			in := obj.(*networkingv1.Ingress)
			ports := "80"
			if len(in.Spec.TLS) > 0 {
				ports = "80, 443"
			}
			return []any{in.Name, ptr.Deref(in.Spec.IngressClassName, table.None), hosts(in.Spec.Rules), addresses(&in.Status), ports, table.Since(in.CreationTimestamp)}
		},
	}
}

// classAnnotation named the class before there was a field for it.
const classAnnotation = "kubernetes.io/ingress.class"

// maxHosts is how many hosts a table shows.
const maxHosts = 3

func hosts(rules []networkingv1.IngressRule) string {
	var list []string
	for i, rule := range rules {
		if len(list) == maxHosts && i < len(rules) {
			return fmt.Sprintf("%s + %d more...", strings.Join(list, ","), len(rules)-maxHosts)
		}
		if rule.Host != "" {
			list = append(list, rule.Host)
		}
	}
	if len(list) == 0 {
		return "*"
	}
	return strings.Join(list, ",")
}

func addresses(s *networkingv1.IngressStatus) string {
	var list []string
	for _, in := range s.LoadBalancer.Ingress {
		if in.IP != "" {
			list = append(list, in.IP)
		} else if in.Hostname != "" {
			list = append(list, in.Hostname)
		}
	}
	return strings.Join(list, ",")
}
