package authorization

import (
	"context"
	"errors"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/troupe-run/troupe/cluster/api/kind"
)

// SubjectAccessReview describes authorization.k8s.io/v1 SubjectAccessReview.
func SubjectAccessReview() kind.Kind {
	return review("SubjectAccessReview", "subjectaccessreviews", false,
		func() kind.Object { return &authorizationv1.SubjectAccessReview{} },
		func(obj kind.Object) (*authorizationv1.SubjectAccessReviewSpec, *authorizationv1.SubjectAccessReviewStatus) {
			r := obj.(*authorizationv1.SubjectAccessReview)
			return &r.Spec, &r.Status
		})
}

// LocalSubjectAccessReview describes authorization.k8s.io/v1 LocalSubjectAccessReview.
func LocalSubjectAccessReview() kind.Kind {
	return review("LocalSubjectAccessReview", "localsubjectaccessreviews", true,
		func() kind.Object { return &authorizationv1.LocalSubjectAccessReview{} },
		func(obj kind.Object) (*authorizationv1.SubjectAccessReviewSpec, *authorizationv1.SubjectAccessReviewStatus) {
			r := obj.(*authorizationv1.LocalSubjectAccessReview)
			return &r.Spec, &r.Status
		})
}

// SelfSubjectAccessReview describes authorization.k8s.io/v1 SelfSubjectAccessReview.
func SelfSubjectAccessReview() kind.Kind {
	return review("SelfSubjectAccessReview", "selfsubjectaccessreviews", false,
		func() kind.Object { return &authorizationv1.SelfSubjectAccessReview{} }, nil)
}

type access func(obj kind.Object) (*authorizationv1.SubjectAccessReviewSpec, *authorizationv1.SubjectAccessReviewStatus)

func review(name, resource string, namespaced bool, build func() kind.Object, of access) kind.Kind {
	return kind.Kind{
		GVK:        authorizationv1.SchemeGroupVersion.WithKind(name),
		Resource:   resource,
		Singular:   resource[:len(resource)-1],
		Namespaced: namespaced,
		New:        build,
		Answer: func(deps any) (rest.Storage, error) {
			d, ok := deps.(kind.Deciders)
			if !ok {
				return nil, fmt.Errorf("serve %s: %T decides nothing", resource, deps)
			}
			return &reviews{name: name, singular: resource[:len(resource)-1], namespaced: namespaced, build: build, of: of, auth: d.Authorizer()}, nil
		},
	}
}

// reviews answers the three kinds that ask about one act.
type reviews struct {
	name, singular string
	namespaced     bool
	build          func() kind.Object
	of             access // nil for the kind that asks about its sender
	auth           authorizer.Authorizer
}

func (r *reviews) New() runtime.Object     { return r.build() }
func (r *reviews) Destroy()                {}
func (r *reviews) NamespaceScoped() bool   { return r.namespaced }
func (r *reviews) GetSingularName() string { return r.singular }

// Create answers the review.
func (r *reviews) Create(ctx context.Context, in runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	obj, ok := in.(kind.Object)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a %s: %#v", r.name, in))
	}
	if self, ok := obj.(*authorizationv1.SelfSubjectAccessReview); ok {
		return r.self(ctx, self, validate)
	}
	spec, status := r.of(obj)
	errs := validateSpec(spec.ResourceAttributes, spec.NonResourceAttributes)
	if spec.User == "" && len(spec.Groups) == 0 {
		errs = append(errs, field.Invalid(field.NewPath("spec", "user"), spec.User, `at least one of user or group must be specified`))
	}
	if r.namespaced {
		ns := request.NamespaceValue(ctx)
		if spec.ResourceAttributes == nil {
			errs = append(errs, field.Forbidden(field.NewPath("spec", "nonResourceAttributes"), "disallowed on this kind of request"))
		} else if spec.ResourceAttributes.Namespace != ns {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("spec.resourceAttributes.namespace must match namespace: %v", ns))
		}
	}
	if err := r.accept(ctx, in, errs, validate); err != nil {
		return nil, err
	}
	u := &user.DefaultInfo{Name: spec.User, Groups: spec.Groups, UID: spec.UID, Extra: extra(spec.Extra)}
	*status = r.decide(ctx, attributes(u, spec.ResourceAttributes, spec.NonResourceAttributes))
	return in, nil
}

func (r *reviews) self(ctx context.Context, obj *authorizationv1.SelfSubjectAccessReview, validate rest.ValidateObjectFunc) (runtime.Object, error) {
	if err := r.accept(ctx, obj, validateSpec(obj.Spec.ResourceAttributes, obj.Spec.NonResourceAttributes), validate); err != nil {
		return nil, err
	}
	u, ok := request.UserFrom(ctx)
	if !ok {
		return nil, apierrors.NewBadRequest("no user present on request")
	}
	obj.Status = r.decide(ctx, attributes(u, obj.Spec.ResourceAttributes, obj.Spec.NonResourceAttributes))
	return obj, nil
}

func (r *reviews) accept(ctx context.Context, obj runtime.Object, errs field.ErrorList, validate rest.ValidateObjectFunc) error {
	if len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: authorizationv1.GroupName, Kind: r.name}, "", errs)
	}
	if validate == nil {
		return nil
	}
	return validate(ctx, obj.DeepCopyObject())
}

func (r *reviews) decide(ctx context.Context, a authorizer.Attributes) authorizationv1.SubjectAccessReviewStatus {
	decision, reason, err := r.auth.Authorize(ctx, a)
	status := authorizationv1.SubjectAccessReviewStatus{
		Allowed: decision == authorizer.DecisionAllow,
		Denied:  decision == authorizer.DecisionDeny,
		Reason:  reason,
	}
	// A selector that cannot be read is as good as none, and said so only when it made a difference.
	if _, e := a.GetFieldSelector(); e != nil && !status.Allowed {
		err = errors.Join(err, fmt.Errorf("spec.resourceAttributes.fieldSelector partially ignored due to parse error: %w", e))
	}
	if _, e := a.GetLabelSelector(); e != nil && !status.Allowed {
		err = errors.Join(err, fmt.Errorf("spec.resourceAttributes.labelSelector partially ignored due to parse error: %w", e))
	}
	if err != nil {
		status.EvaluationError = err.Error()
	}
	return status
}

func validateSpec(res *authorizationv1.ResourceAttributes, other *authorizationv1.NonResourceAttributes) field.ErrorList {
	at := field.NewPath("spec")
	switch {
	case res != nil && other != nil:
		return field.ErrorList{field.Invalid(at.Child("nonResourceAttributes"), other, `cannot be specified in combination with resourceAttributes`)}
	case res == nil && other == nil:
		return field.ErrorList{field.Invalid(at.Child("resourceAttributes"), res, `exactly one of nonResourceAttributes or resourceAttributes must be specified`)}
	case res == nil:
		return nil
	}
	return append(validateLabelSelector(res.LabelSelector, at.Child("resourceAttributes", "labelSelector")),
		validateFieldSelector(res.FieldSelector, at.Child("resourceAttributes", "fieldSelector"))...)
}

func attributes(u user.Info, res *authorizationv1.ResourceAttributes, other *authorizationv1.NonResourceAttributes) authorizer.Attributes {
	if other != nil {
		return authorizer.AttributesRecord{User: u, Verb: other.Verb, Path: other.Path}
	}
	version := res.Version
	if version == "" {
		version = "*"
	}
	a := authorizer.AttributesRecord{
		User: u, Verb: res.Verb, Namespace: res.Namespace, APIGroup: res.Group, APIVersion: version,
		Resource: res.Resource, Subresource: res.Subresource, Name: res.Name, ResourceRequest: true,
	}
	if res.FieldSelector != nil {
		a.FieldSelectorRequirements, a.FieldSelectorParsingErr = fieldRequirements(res.FieldSelector)
	}
	if res.LabelSelector != nil {
		a.LabelSelectorRequirements, a.LabelSelectorParsingErr = labelRequirements(res.LabelSelector)
	}
	return a
}

func extra(in map[string]authorizationv1.ExtraValue) map[string][]string {
	if in == nil {
		return nil
	}
	out := make(map[string][]string, len(in))
	for k, v := range in {
		out[k] = v
	}
	return out
}

var _ rest.Creater = (*reviews)(nil)
