package networking

import (
	"context"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// IPAddress describes networking.k8s.io/v1 IPAddress: who holds an address. Those of Services are
// written by the API server as it hands their addresses out.
func IPAddress() kind.Kind {
	return kind.Kind{
		GVK:        networkingv1.SchemeGroupVersion.WithKind("IPAddress"),
		Resource:   "ipaddresses",
		Singular:   "ipaddress",
		ShortNames: []string{"ip"},
		New:        func() kind.Object { return &networkingv1.IPAddress{} },
		NewList:    func() runtime.Object { return &networkingv1.IPAddressList{} },

		ValidateName: validateAddressName,
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateParent(obj.(*networkingv1.IPAddress).Spec.ParentRef, specPath.Child("parentRef"))
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			parent, at := obj.(*networkingv1.IPAddress).Spec.ParentRef, specPath.Child("parentRef")
			return append(validateParent(parent, at), apivalidation.ValidateImmutableField(parent, old.(*networkingv1.IPAddress).Spec.ParentRef, at)...)
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("ParentRef", networkingv1.IPAddressSpec{}.SwaggerDoc()["parentRef"]),
		},
		Row: func(obj kind.Object) []any {
			a := obj.(*networkingv1.IPAddress)
			parent := table.None
			if ref := a.Spec.ParentRef; ref != nil {
				parent = schema.GroupResource{Group: ref.Group, Resource: ref.Resource}.String()
				if ref.Namespace != "" {
					parent += "/" + ref.Namespace
				}
				parent += "/" + ref.Name
			}
			return []any{a.Name, parent}
		},
	}
}

// validateAddressName wants an address in the one spelling that makes it unique.
func validateAddressName(name string, _ bool) []string {
	var msgs []string
	for _, err := range validation.IsValidIP(nil, name) {
		msgs = append(msgs, err.Detail)
	}
	return msgs
}

func validateParent(ref *networkingv1.ParentReference, path *field.Path) field.ErrorList {
	if ref == nil {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if ref.Group != "" { // the core group is the empty one
		errs = append(errs, check.DNSSubdomain(ref.Group, path.Child("group"))...)
	}
	for _, part := range []struct {
		child, value string
		required     bool
	}{{"resource", ref.Resource, true}, {"name", ref.Name, true}, {"namespace", ref.Namespace, false}} {
		switch {
		case part.value != "":
			errs = append(errs, check.Invalid(part.value, content.IsPathSegmentName(part.value), path.Child(part.child))...)
		case part.required:
			errs = append(errs, field.Required(path.Child(part.child), ""))
		}
	}
	return errs
}
