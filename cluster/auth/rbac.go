package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// The resources that role-based access control reads.
var (
	Roles               = messages.Resource{Group: rbacv1.GroupName, Resource: "roles"}
	RoleBindings        = messages.Resource{Group: rbacv1.GroupName, Resource: "rolebindings"}
	ClusterRoles        = messages.Resource{Group: rbacv1.GroupName, Resource: "clusterroles"}
	ClusterRoleBindings = messages.Resource{Group: rbacv1.GroupName, Resource: "clusterrolebindings"}
)

// RBAC decides by the roles and bindings in the replica.
type RBAC struct{ reader objects.Reader }

// NewRBAC reads roles and bindings from reader.
func NewRBAC(reader objects.Reader) *RBAC { return &RBAC{reader} }

// Authorize allows what a rule of some bound role covers and has no opinion on all else.
func (r *RBAC) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	var why string
	var missing []error
	r.visit(a.GetUser(), a.GetNamespace(), func(source string, rules []rbacv1.PolicyRule, err error) bool {
		if err != nil {
			missing = append(missing, err)
			return true
		}
		for i := range rules {
			if ruleAllows(&rules[i], a) {
				why = source
				return false
			}
		}
		return true
	})
	if why != "" {
		return authorizer.DecisionAllow, "RBAC: allowed by " + why, nil
	}
	if err := errors.Join(missing...); err != nil {
		return authorizer.DecisionNoOpinion, "RBAC: " + err.Error(), nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

// RulesFor lists what a user may do in a namespace, for SelfSubjectRulesReview.
func (r *RBAC) RulesFor(_ context.Context, u user.Info, namespace string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	var resource []authorizer.ResourceRuleInfo
	var other []authorizer.NonResourceRuleInfo
	rules, err := r.Rules(u, namespace)
	for _, rule := range rules {
		if len(rule.Resources) > 0 {
			resource = append(resource, &authorizer.DefaultResourceRuleInfo{
				Verbs: rule.Verbs, APIGroups: rule.APIGroups, Resources: rule.Resources, ResourceNames: rule.ResourceNames,
			})
		}
		if len(rule.NonResourceURLs) > 0 {
			other = append(other, &authorizer.DefaultNonResourceRuleInfo{Verbs: rule.Verbs, NonResourceURLs: rule.NonResourceURLs})
		}
	}
	return resource, other, false, err
}

// Rules returns every rule that applies to a user in a namespace ("" means cluster-wide); with an
// error the rules that could be read.
func (r *RBAC) Rules(u user.Info, namespace string) ([]rbacv1.PolicyRule, error) {
	var out []rbacv1.PolicyRule
	var missing []error
	r.visit(u, namespace, func(_ string, rules []rbacv1.PolicyRule, err error) bool {
		if err != nil {
			missing = append(missing, err)
		}
		out = append(out, rules...)
		return true
	})
	return out, errors.Join(missing...)
}

// visit calls fn with the rules of each role bound to the user, cluster-wide ones first, until fn
// returns false.
func (r *RBAC) visit(u user.Info, namespace string, fn func(source string, rules []rbacv1.PolicyRule, err error) bool) {
	if u == nil {
		return
	}
	for _, b := range objects.List[*rbacv1.ClusterRoleBinding](r.reader, ClusterRoleBindings, "") {
		subject, ok := appliesTo(u, b.Subjects, "")
		if !ok {
			continue
		}
		rules, err := r.RoleRules(b.RoleRef, "")
		if !fn(fmt.Sprintf("ClusterRoleBinding %q of %s %q to %s", b.Name, b.RoleRef.Kind, b.RoleRef.Name, describe(subject)), rules, err) {
			return
		}
	}
	if namespace == "" {
		return
	}
	for _, b := range objects.List[*rbacv1.RoleBinding](r.reader, RoleBindings, namespace) {
		subject, ok := appliesTo(u, b.Subjects, namespace)
		if !ok {
			continue
		}
		rules, err := r.RoleRules(b.RoleRef, namespace)
		if !fn(fmt.Sprintf("RoleBinding %q of %s %q to %s", b.Namespace+"/"+b.Name, b.RoleRef.Kind, b.RoleRef.Name, describe(subject)), rules, err) {
			return
		}
	}
}

// RoleRules returns the rules of the role a binding in namespace refers to.
func (r *RBAC) RoleRules(ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	switch ref.Kind {
	case "Role":
		role, ok := objects.Get[*rbacv1.Role](r.reader, messages.KeyOf(Roles, namespace, ref.Name))
		if !ok {
			return nil, fmt.Errorf("role %q: %w", namespace+"/"+ref.Name, messages.ErrNotFound)
		}
		return role.Rules, nil
	case "ClusterRole":
		role, ok := objects.Get[*rbacv1.ClusterRole](r.reader, messages.KeyOf(ClusterRoles, "", ref.Name))
		if !ok {
			return nil, fmt.Errorf("clusterrole %q: %w", ref.Name, messages.ErrNotFound)
		}
		return role.Rules, nil
	}
	return nil, fmt.Errorf("role of kind %q: %w", ref.Kind, messages.ErrInvalid)
}

func appliesTo(u user.Info, subjects []rbacv1.Subject, namespace string) (rbacv1.Subject, bool) {
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.UserKind:
			if u.GetName() == s.Name {
				return s, true
			}
		case rbacv1.GroupKind:
			if slices.Contains(u.GetGroups(), s.Name) {
				return s, true
			}
		case rbacv1.ServiceAccountKind:
			ns := s.Namespace
			if ns == "" {
				ns = namespace
			}
			if ns != "" && serviceaccount.MatchesUsername(ns, s.Name, u.GetName()) {
				return s, true
			}
		}
	}
	return rbacv1.Subject{}, false
}

func describe(s rbacv1.Subject) string {
	if s.Kind == rbacv1.ServiceAccountKind {
		return fmt.Sprintf("%s %q", s.Kind, s.Name+"/"+s.Namespace)
	}
	return fmt.Sprintf("%s %q", s.Kind, s.Name)
}

func ruleAllows(rule *rbacv1.PolicyRule, a authorizer.Attributes) bool {
	if !hasOrAll(rule.Verbs, a.GetVerb()) {
		return false
	}
	if !a.IsResourceRequest() {
		return slices.ContainsFunc(rule.NonResourceURLs, func(url string) bool {
			prefix, wild := strings.CutSuffix(url, "*")
			return url == a.GetPath() || wild && strings.HasPrefix(a.GetPath(), prefix)
		})
	}
	return hasOrAll(rule.APIGroups, a.GetAPIGroup()) &&
		resourceMatches(rule.Resources, a.GetResource(), a.GetSubresource()) &&
		(len(rule.ResourceNames) == 0 || slices.Contains(rule.ResourceNames, a.GetName()))
}

func hasOrAll(list []string, s string) bool {
	return slices.Contains(list, s) || slices.Contains(list, "*")
}

func resourceMatches(list []string, resource, subresource string) bool {
	whole := resource
	if subresource != "" {
		whole += "/" + subresource
	}
	for _, r := range list {
		if r == rbacv1.ResourceAll || r == whole || subresource != "" && r == "*/"+subresource {
			return true
		}
	}
	return false
}

var (
	_ authorizer.Authorizer   = (*RBAC)(nil)
	_ authorizer.RuleResolver = (*RBAC)(nil)
)
