package rbac

import (
	"context"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	rbacv1beta1 "k8s.io/api/rbac/v1beta1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// RoleBinding describes rbac.authorization.k8s.io/v1 RoleBinding.
func RoleBinding() kind.Kind {
	of := func(obj kind.Object) (*rbacv1.RoleRef, []rbacv1.Subject) {
		b := obj.(*rbacv1.RoleBinding)
		return &b.RoleRef, b.Subjects
	}
	k := binding("RoleBinding", []string{"Role", "ClusterRole"}, true, of, rbacv1beta1.RoleBinding{}.SwaggerDoc()["roleRef"])
	k.New = func() kind.Object { return &rbacv1.RoleBinding{} }
	k.NewList = func() runtime.Object { return &rbacv1.RoleBindingList{} }
	return k
}

// ClusterRoleBinding describes rbac.authorization.k8s.io/v1 ClusterRoleBinding.
func ClusterRoleBinding() kind.Kind {
	of := func(obj kind.Object) (*rbacv1.RoleRef, []rbacv1.Subject) {
		b := obj.(*rbacv1.ClusterRoleBinding)
		return &b.RoleRef, b.Subjects
	}
	k := binding("ClusterRoleBinding", []string{"ClusterRole"}, false, of, rbacv1beta1.ClusterRoleBinding{}.SwaggerDoc()["roleRef"])
	k.New = func() kind.Object { return &rbacv1.ClusterRoleBinding{} }
	k.NewList = func() runtime.Object { return &rbacv1.ClusterRoleBindingList{} }
	return k
}

// binding describes what both kinds of bindings have in common; of returns the parts of one, refDoc is what
// its role is.
func binding(name string, roles []string, namespaced bool, of func(kind.Object) (*rbacv1.RoleRef, []rbacv1.Subject), refDoc string) kind.Kind {
	camel := strings.ToLower(name[:1]) + name[1:]
	validate := func(obj kind.Object) field.ErrorList {
		ref, subjects := of(obj)
		errs := validateRoleRef(ref, roles)
		for i := range subjects {
			errs = append(errs, validateSubject(&subjects[i], namespaced, field.NewPath("subjects").Index(i))...)
		}
		return errs
	}
	return kind.Kind{
		GVK:                 rbacv1.SchemeGroupVersion.WithKind(name),
		Resource:            strings.ToLower(name) + "s",
		Singular:            strings.ToLower(name),
		Namespaced:          namespaced,
		ValidateName:        path.ValidatePathSegmentName,
		AllowCreateOnUpdate: true,
		Default: func(obj kind.Object) {
			ref, subjects := of(obj)
			if ref.APIGroup == "" {
				ref.APIGroup = rbacv1.GroupName
			}
			for i := range subjects {
				if s := &subjects[i]; s.APIGroup == "" && (s.Kind == rbacv1.UserKind || s.Kind == rbacv1.GroupKind) {
					s.APIGroup = rbacv1.GroupName
				}
			}
		},
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList { return validate(obj) },
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			errs := validate(obj)
			ref, _ := of(obj)
			if was, _ := of(old); *ref != *was {
				errs = append(errs, field.Invalid(field.NewPath("roleRef"), *ref, "cannot change roleRef"))
			}
			return errs
		},
		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Role", refDoc),
			table.Age(),
			table.Wide(table.Col("Users", "Users in the "+camel)),
			table.Wide(table.Col("Groups", "Groups in the "+camel)),
			table.Wide(table.Col("ServiceAccounts", "ServiceAccounts in the "+camel)),
		},
		Row: func(obj kind.Object) []any {
			ref, subjects := of(obj)
			byKind := make(map[string][]string)
			for _, s := range subjects {
				name := s.Name
				if s.Kind == rbacv1.ServiceAccountKind {
					name = s.Namespace + "/" + s.Name
				}
				byKind[s.Kind] = append(byKind[s.Kind], name)
			}
			join := func(k string) string { return strings.Join(byKind[k], ", ") }
			return []any{
				obj.GetName(), ref.Kind + "/" + ref.Name, table.Since(obj.GetCreationTimestamp()),
				join(rbacv1.UserKind), join(rbacv1.GroupKind), join(rbacv1.ServiceAccountKind),
			}
		},
	}
}

func validateRoleRef(ref *rbacv1.RoleRef, kinds []string) field.ErrorList {
	at := field.NewPath("roleRef")
	var errs field.ErrorList
	if ref.APIGroup != rbacv1.GroupName {
		errs = append(errs, field.NotSupported(at.Child("apiGroup"), ref.APIGroup, []string{rbacv1.GroupName}))
	}
	supported := false
	for _, k := range kinds {
		supported = supported || k == ref.Kind
	}
	if !supported {
		errs = append(errs, field.NotSupported(at.Child("kind"), ref.Kind, kinds))
	}
	if ref.Name == "" {
		return append(errs, field.Required(at.Child("name"), ""))
	}
	for _, msg := range path.ValidatePathSegmentName(ref.Name, false) {
		errs = append(errs, field.Invalid(at.Child("name"), ref.Name, msg))
	}
	return errs
}

func validateSubject(s *rbacv1.Subject, namespaced bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	}
	switch s.Kind {
	case rbacv1.ServiceAccountKind:
		if s.Name != "" {
			for _, msg := range apivalidation.ValidateServiceAccountName(s.Name, false) {
				errs = append(errs, field.Invalid(at.Child("name"), s.Name, msg))
			}
		}
		if s.APIGroup != "" {
			errs = append(errs, field.NotSupported(at.Child("apiGroup"), s.APIGroup, []string{""}))
		}
		if !namespaced && s.Namespace == "" {
			errs = append(errs, field.Required(at.Child("namespace"), ""))
		}
	case rbacv1.UserKind, rbacv1.GroupKind:
		if s.APIGroup != rbacv1.GroupName {
			errs = append(errs, field.NotSupported(at.Child("apiGroup"), s.APIGroup, []string{rbacv1.GroupName}))
		}
	default:
		errs = append(errs, field.NotSupported(at.Child("kind"), s.Kind,
			[]string{rbacv1.ServiceAccountKind, rbacv1.UserKind, rbacv1.GroupKind}))
	}
	return errs
}
