package admission

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/utils/ptr"
)

// owners keeps somebody from deleting by way of an owner what they may not delete themselves, and
// from holding up owners that they may not change.
type owners struct {
	*admission.Handler
	authorizer authorizer.Authorizer
	mapper     meta.RESTMapper
}

func newOwners(a authorizer.Authorizer, mapper meta.RESTMapper) *owners {
	return &owners{admission.NewHandler(admission.Create, admission.Update), a, mapper}
}

// Validate looks at owner references that are new or changed.
func (o *owners) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	// Status is not where references are set, and what is privileged needs no question.
	if a.GetSubresource() == "status" || slices.Contains(a.GetUserInfo().GetGroups(), user.SystemPrivilegedGroup) {
		return nil
	}
	now, was := references(a.GetObject()), references(a.GetOldObject())
	if slices.EqualFunc(now, was, sameReference) {
		return nil
	}
	if a.GetOperation() != admission.Create {
		r := authorizer.AttributesRecord{User: a.GetUserInfo(), Verb: "delete", Namespace: a.GetNamespace(), APIGroup: a.GetResource().Group,
			APIVersion: a.GetResource().Version, Resource: a.GetResource().Resource, Subresource: a.GetSubresource(), Name: a.GetName(), ResourceRequest: true}
		if decision, reason, err := o.authorizer.Authorize(ctx, r); decision != authorizer.DecisionAllow {
			return admission.NewForbidden(a, fmt.Errorf("cannot set an ownerRef on a resource you can't delete: %v, %v", reason, err)) //nolint:errorlint // as Kubernetes says it, without an error too
		}
	}
	for _, ref := range blocking(now, was) {
		if err := o.mayHold(ctx, a, ref); err != nil {
			return admission.NewForbidden(a, err)
		}
	}
	return nil
}

// mayHold asks whether the user could put a finalizer on the owner, which comes to the same.
func (o *owners) mayHold(ctx context.Context, a admission.Attributes, ref metav1.OwnerReference) error {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return err // validation says it better, but comes first
	}
	mapping, err := o.mapper.RESTMapping(schema.GroupKind{Group: gv.Group, Kind: ref.Kind}, gv.Version)
	if err != nil {
		return fmt.Errorf("cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion %v Kind %v: %w", ref.APIVersion, ref.Kind, err)
	}
	r := authorizer.AttributesRecord{User: a.GetUserInfo(), Verb: "update", APIGroup: mapping.Resource.Group, APIVersion: mapping.Resource.Version,
		Resource: mapping.Resource.Resource, Subresource: "finalizers", Name: ref.Name, ResourceRequest: true}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		r.Namespace = a.GetNamespace()
	}
	if decision, reason, err := o.authorizer.Authorize(ctx, r); decision != authorizer.DecisionAllow {
		return fmt.Errorf("cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: %v, %v", reason, err) //nolint:errorlint // Kubernetes' words
	}
	return nil
}

func references(obj any) []metav1.OwnerReference {
	if m, err := meta.Accessor(obj); obj != nil && err == nil {
		return m.GetOwnerReferences()
	}
	return nil
}

func sameReference(a, b metav1.OwnerReference) bool {
	return a.UID == b.UID && a.APIVersion == b.APIVersion && a.Kind == b.Kind && a.Name == b.Name &&
		ptr.Equal(a.Controller, b.Controller) && ptr.Equal(a.BlockOwnerDeletion, b.BlockOwnerDeletion)
}

// blocking returns the references that hold up their owner and did not before.
func blocking(now, was []metav1.OwnerReference) []metav1.OwnerReference {
	held := make(map[metav1.OwnerReference]bool)
	identity := func(r metav1.OwnerReference) metav1.OwnerReference {
		return metav1.OwnerReference{APIVersion: r.APIVersion, Kind: r.Kind, Name: r.Name, UID: r.UID}
	}
	for _, r := range was {
		if ptr.Deref(r.BlockOwnerDeletion, false) {
			held[identity(r)] = true
		}
	}
	var out []metav1.OwnerReference
	for _, r := range now {
		if ptr.Deref(r.BlockOwnerDeletion, false) && !held[identity(r)] {
			out = append(out, r)
		}
	}
	return out
}

var _ admission.ValidationInterface = (*owners)(nil)
