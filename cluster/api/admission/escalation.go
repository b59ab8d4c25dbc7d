package admission

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apiserver/pkg/admission"

	"github.com/troupe-run/troupe/cluster/auth"
)

// escalation keeps everybody from granting more than they hold.
type escalation struct {
	*admission.Handler
	check *auth.Escalation
}

func newEscalation(check *auth.Escalation) *escalation {
	return &escalation{admission.NewHandler(admission.Create, admission.Update), check}
}

// everything is what somebody must hold to make a role that gathers rules nobody knows yet.
var everything = []rbacv1.PolicyRule{
	{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
	{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
}

// Validate checks roles and bindings whose grants are new or changed.
func (e *escalation) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetResource().Group != rbacv1.GroupName || a.GetSubresource() != "" {
		return nil
	}
	who, resource := a.GetUserInfo(), a.GetResource().Resource
	switch obj := a.GetObject().(type) {
	case *rbacv1.Role:
		if old, ok := a.GetOldObject().(*rbacv1.Role); ok && apiequality.Semantic.DeepEqual(old.Rules, obj.Rules) {
			return nil
		}
		return e.check.Role(ctx, who, resource, obj.Namespace, obj.Name, obj.Rules)
	case *rbacv1.ClusterRole:
		old, ok := a.GetOldObject().(*rbacv1.ClusterRole)
		if ok && apiequality.Semantic.DeepEqual(old.Rules, obj.Rules) && apiequality.Semantic.DeepEqual(old.AggregationRule, obj.AggregationRule) {
			return nil
		}
		rules := obj.Rules
		if obj.AggregationRule != nil {
			rules = everything
		}
		return e.check.Role(ctx, who, resource, "", obj.Name, rules)
	case *rbacv1.RoleBinding:
		old, ok := a.GetOldObject().(*rbacv1.RoleBinding)
		if ok && apiequality.Semantic.DeepEqual(old.Subjects, obj.Subjects) && old.RoleRef == obj.RoleRef {
			return nil
		}
		return e.check.Binding(ctx, who, resource, obj.Namespace, obj.Name, obj.RoleRef)
	case *rbacv1.ClusterRoleBinding:
		old, ok := a.GetOldObject().(*rbacv1.ClusterRoleBinding)
		if ok && apiequality.Semantic.DeepEqual(old.Subjects, obj.Subjects) && old.RoleRef == obj.RoleRef {
			return nil
		}
		return e.check.Binding(ctx, who, resource, "", obj.Name, obj.RoleRef)
	}
	return nil
}

var _ admission.ValidationInterface = (*escalation)(nil)
