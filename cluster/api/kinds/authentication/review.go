package authentication

import (
	"context"
	"fmt"
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/troupe-run/troupe/cluster/api/kind"
)

// TokenReview describes authentication.k8s.io/v1 TokenReview: whom a token belongs to.
func TokenReview() kind.Kind {
	return kind.Kind{
		GVK:      authenticationv1.SchemeGroupVersion.WithKind("TokenReview"),
		Resource: "tokenreviews",
		Singular: "tokenreview",
		New:      func() kind.Object { return &authenticationv1.TokenReview{} },
		Answer: func(deps any) (rest.Storage, error) {
			d, ok := deps.(kind.Deciders)
			if !ok {
				return nil, fmt.Errorf("serve tokenreviews: %T decides nothing", deps)
			}
			return &tokenReviews{d.Authenticator()}, nil
		},
	}
}

type tokenReviews struct{ authn authenticator.Request }

func (*tokenReviews) New() runtime.Object     { return &authenticationv1.TokenReview{} }
func (*tokenReviews) Destroy()                {}
func (*tokenReviews) NamespaceScoped() bool   { return false }
func (*tokenReviews) GetSingularName() string { return "tokenreview" }

// Create answers the review.
func (t *tokenReviews) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	review, ok := obj.(*authenticationv1.TokenReview)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a TokenReview: %#v", obj))
	}
	if len(review.Spec.Token) == 0 {
		return nil, apierrors.NewBadRequest("token is required for TokenReview in authentication")
	}
	if err := accept(ctx, obj, validate); err != nil {
		return nil, err
	}
	// The authenticators read requests, so the token is put in one.
	req := (&http.Request{Header: http.Header{"Authorization": {"Bearer " + review.Spec.Token}}}).WithContext(ctx)
	auds := review.Spec.Audiences
	if len(auds) > 0 {
		req = req.WithContext(authenticator.WithAudiences(ctx, auds))
	}
	resp, known, err := t.authn.AuthenticateRequest(req)
	review.Status = authenticationv1.TokenReviewStatus{Authenticated: known}
	if err != nil {
		review.Status.Error = err.Error()
	}
	if known && resp.User != nil && resp.User.GetName() == user.Anonymous {
		// Anybody is anonymous without a good token, which is not what was asked.
		review.Status.Authenticated = false
		return review, nil
	}
	if known && resp.User != nil {
		review.Status.User = info(resp.User)
		review.Status.Audiences = resp.Audiences
		if len(auds) == 0 {
			review.Status.Audiences = nil
		}
	}
	return review, nil
}

// SelfSubjectReview describes authentication.k8s.io/v1 SelfSubjectReview: who the sender is.
func SelfSubjectReview() kind.Kind {
	return kind.Kind{
		GVK:      authenticationv1.SchemeGroupVersion.WithKind("SelfSubjectReview"),
		Resource: "selfsubjectreviews",
		Singular: "selfsubjectreview",
		New:      func() kind.Object { return &authenticationv1.SelfSubjectReview{} },
		Answer:   func(any) (rest.Storage, error) { return &selfReviews{}, nil },
	}
}

type selfReviews struct{}

func (*selfReviews) New() runtime.Object     { return &authenticationv1.SelfSubjectReview{} }
func (*selfReviews) Destroy()                {}
func (*selfReviews) NamespaceScoped() bool   { return false }
func (*selfReviews) GetSingularName() string { return "selfsubjectreview" }

// Create answers the review.
func (*selfReviews) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	if err := accept(ctx, obj, validate); err != nil {
		return nil, err
	}
	u, ok := request.UserFrom(ctx)
	if !ok {
		return nil, apierrors.NewBadRequest("no user present on request")
	}
	return &authenticationv1.SelfSubjectReview{
		ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.Now()},
		Status:     authenticationv1.SelfSubjectReviewStatus{UserInfo: info(u)},
	}, nil
}

func info(u user.Info) authenticationv1.UserInfo {
	out := authenticationv1.UserInfo{Username: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups()}
	for k, v := range u.GetExtra() {
		if out.Extra == nil {
			out.Extra = make(map[string]authenticationv1.ExtraValue)
		}
		out.Extra[k] = v
	}
	return out
}

func accept(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc) error {
	if validate == nil {
		return nil
	}
	return validate(ctx, obj.DeepCopyObject())
}

var (
	_ rest.Creater = (*tokenReviews)(nil)
	_ rest.Creater = (*selfReviews)(nil)
)
