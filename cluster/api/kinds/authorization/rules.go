package authorization

import (
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/troupe-run/troupe/cluster/api/kind"
)

// SelfSubjectRulesReview describes authorization.k8s.io/v1 SelfSubjectRulesReview: all that the
// sender may do in a namespace.
func SelfSubjectRulesReview() kind.Kind {
	return kind.Kind{
		GVK:      authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectRulesReview"),
		Resource: "selfsubjectrulesreviews",
		Singular: "selfsubjectrulesreview",
		New:      func() kind.Object { return &authorizationv1.SelfSubjectRulesReview{} },
		Answer: func(deps any) (rest.Storage, error) {
			d, ok := deps.(kind.Deciders)
			if !ok {
				return nil, fmt.Errorf("serve selfsubjectrulesreviews: %T decides nothing", deps)
			}
			return &rulesReviews{d.RuleResolver()}, nil
		},
	}
}

type rulesReviews struct{ rules authorizer.RuleResolver }

func (*rulesReviews) New() runtime.Object     { return &authorizationv1.SelfSubjectRulesReview{} }
func (*rulesReviews) Destroy()                {}
func (*rulesReviews) NamespaceScoped() bool   { return false }
func (*rulesReviews) GetSingularName() string { return "selfsubjectrulesreview" }

// Create answers the review.
func (r *rulesReviews) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	review, ok := obj.(*authorizationv1.SelfSubjectRulesReview)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a SelfSubjectRulesReview: %#v", obj))
	}
	u, ok := request.UserFrom(ctx)
	if !ok {
		return nil, apierrors.NewBadRequest("no user present on request")
	}
	if review.Spec.Namespace == "" {
		return nil, apierrors.NewBadRequest("no namespace on request")
	}
	if validate != nil {
		if err := validate(ctx, obj.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	resource, other, incomplete, err := r.rules.RulesFor(ctx, u, review.Spec.Namespace)
	status := authorizationv1.SubjectRulesReviewStatus{
		ResourceRules:    []authorizationv1.ResourceRule{},
		NonResourceRules: []authorizationv1.NonResourceRule{},
		Incomplete:       incomplete,
	}
	for _, rule := range resource {
		status.ResourceRules = append(status.ResourceRules, authorizationv1.ResourceRule{
			Verbs: rule.GetVerbs(), APIGroups: rule.GetAPIGroups(), Resources: rule.GetResources(), ResourceNames: rule.GetResourceNames(),
		})
	}
	for _, rule := range other {
		status.NonResourceRules = append(status.NonResourceRules, authorizationv1.NonResourceRule{
			Verbs: rule.GetVerbs(), NonResourceURLs: rule.GetNonResourceURLs(),
		})
	}
	if err != nil {
		status.EvaluationError = err.Error()
	}
	review.Status = status
	return review, nil
}

var _ rest.Creater = (*rulesReviews)(nil)
