package auth

import (
	"context"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/component-helpers/auth/rbac/validation"
)

// Escalation refuses that somebody grants more than they hold, unless they may "escalate" or "bind".
type Escalation struct {
	rbac *RBAC
	auth authorizer.Authorizer
}

// NewEscalation checks against the rules of rbac; auth answers about the special verbs.
func NewEscalation(rbac *RBAC, auth authorizer.Authorizer) *Escalation {
	return &Escalation{rbac: rbac, auth: auth}
}

// Role refuses a role with rules that u does not hold.
func (e *Escalation) Role(ctx context.Context, u user.Info, resource, namespace, name string, rules []rbacv1.PolicyRule) error {
	if privileged(u) || e.may(ctx, u, "escalate", resource, namespace, name) {
		return nil
	}
	return e.covers(u, resource, namespace, name, rules)
}

// Binding refuses a binding of a role with rules that u does not hold.
func (e *Escalation) Binding(ctx context.Context, u user.Info, resource, namespace, name string, ref rbacv1.RoleRef) error {
	if privileged(u) {
		return nil
	}
	roles := "clusterroles"
	if ref.Kind == "Role" {
		roles = "roles"
	}
	if e.may(ctx, u, "bind", roles, namespace, ref.Name) {
		return nil
	}
	rules, err := e.rbac.RoleRules(ref, namespace)
	if err != nil {
		return apierrors.NewNotFound(schema.GroupResource{Group: rbacv1.GroupName, Resource: strings.ToLower(ref.Kind)}, ref.Name)
	}
	return e.covers(u, resource, namespace, name, rules)
}

func (e *Escalation) covers(u user.Info, resource, namespace, name string, rules []rbacv1.PolicyRule) error {
	held, _ := e.rbac.Rules(u, namespace) // roles that are missing grant nothing
	ok, missing := validation.Covers(held, rules)
	if ok {
		return nil
	}
	lines := make([]string, len(missing))
	for i, rule := range missing {
		lines[i] = ruleString(rule)
	}
	slices.Sort(lines)
	return apierrors.NewForbidden(schema.GroupResource{Group: rbacv1.GroupName, Resource: resource}, name,
		fmt.Errorf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s",
			u.GetName(), u.GetGroups(), strings.Join(lines, "\n")))
}

func (e *Escalation) may(ctx context.Context, u user.Info, verb, resource, namespace, name string) bool {
	decision, _, _ := e.auth.Authorize(ctx, authorizer.AttributesRecord{
		User: u, Verb: verb, Namespace: namespace, APIGroup: rbacv1.GroupName, APIVersion: "v1",
		Resource: resource, Name: name, ResourceRequest: true,
	})
	return decision == authorizer.DecisionAllow
}

func privileged(u user.Info) bool {
	return u == nil || slices.Contains(u.GetGroups(), user.SystemPrivilegedGroup)
}

func ruleString(r rbacv1.PolicyRule) string {
	var b strings.Builder
	part := func(name string, values []string) {
		if len(values) > 0 {
			if b.Len() > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "%s:%q", name, values)
		}
	}
	part("APIGroups", r.APIGroups)
	part("Resources", r.Resources)
	part("ResourceNames", r.ResourceNames)
	part("NonResourceURLs", r.NonResourceURLs)
	part("Verbs", r.Verbs)
	return "{" + b.String() + "}"
}
