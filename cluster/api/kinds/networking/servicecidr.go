package networking

import (
	"context"
	"net/netip"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// ServiceCIDR describes networking.k8s.io/v1 ServiceCIDR: a range that addresses of Services come from.
func ServiceCIDR() kind.Kind {
	return kind.Kind{
		GVK:      networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR"),
		Resource: "servicecidrs",
		Singular: "servicecidr",
		New:      func() kind.Object { return &networkingv1.ServiceCIDR{} },
		NewList:  func() runtime.Object { return &networkingv1.ServiceCIDRList{} },

		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateServiceCIDR(&obj.(*networkingv1.ServiceCIDR).Spec)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			return validateServiceCIDRUpdate(&obj.(*networkingv1.ServiceCIDR).Spec, &old.(*networkingv1.ServiceCIDR).Spec)
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			obj.(*networkingv1.ServiceCIDR).Status = networkingv1.ServiceCIDRStatus{}
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			obj.(*networkingv1.ServiceCIDR).Status = old.(*networkingv1.ServiceCIDR).Status
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				c, was := obj.(*networkingv1.ServiceCIDR), old.(*networkingv1.ServiceCIDR)
				c.Spec = was.Spec
				metav1.ResetObjectMetaForStatus(c, was)
			},
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("CIDRs", networkingv1.ServiceCIDRSpec{}.SwaggerDoc()["cidrs"]),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			c := obj.(*networkingv1.ServiceCIDR)
			return []any{c.Name, strings.Join(c.Spec.CIDRs, ","), table.Since(c.CreationTimestamp)}
		},
	}
}

func validateServiceCIDR(spec *networkingv1.ServiceCIDRSpec) field.ErrorList {
	path := specPath.Child("cidrs")
	switch n := len(spec.CIDRs); {
	case n == 0:
		return field.ErrorList{field.Required(path, "at least one CIDR required")}
	case n > 2:
		return field.ErrorList{field.Invalid(path, *spec, "may only hold up to 2 values")}
	}
	var errs field.ErrorList
	families := sets.New[bool]()
	for i, cidr := range spec.CIDRs {
		errs = append(errs, validation.IsValidCIDR(path.Index(i), cidr)...)
		if p, err := netip.ParsePrefix(cidr); err == nil {
			if families.Has(p.Addr().Is4()) {
				errs = append(errs, field.Invalid(path, spec.CIDRs, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"))
			}
			families.Insert(p.Addr().Is4())
		}
	}
	return errs
}

// validateServiceCIDRUpdate lets a range of the other family be added, and nothing else change.
func validateServiceCIDRUpdate(spec, old *networkingv1.ServiceCIDRSpec) field.ErrorList {
	path := specPath.Child("cidrs")
	n := len(old.CIDRs)
	if len(spec.CIDRs) != n && (n != 1 || len(spec.CIDRs) != 2) {
		return field.ErrorList{field.Invalid(path, spec.CIDRs, apivalidation.FieldImmutableErrorMsg)}
	}
	var errs field.ErrorList
	for i, cidr := range old.CIDRs {
		if spec.CIDRs[i] != cidr {
			errs = append(errs, field.Invalid(path.Index(i), spec.CIDRs[i], apivalidation.FieldImmutableErrorMsg))
		}
	}
	if len(spec.CIDRs) > n {
		errs = append(errs, validateServiceCIDR(spec)...)
	}
	return errs
}
