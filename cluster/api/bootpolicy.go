package api

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"k8s.io/component-helpers/auth/rbac/reconciliation"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/auth"
	"github.com/troupe-run/troupe/messages"
)

// bootPolicy makes the roles and bindings that every cluster has, and gives those that are there
// back what they lack, unless their annotation says to leave them alone.
func (s *Server) bootPolicy(ctx context.Context, g *errgroup.Group, w objects.Writer) {
	if !s.serves(auth.ClusterRoles) {
		return
	}
	p, rbac := auth.BootstrapPolicy(), &rbacClient{ctx, s.cfg.Store, w}
	role := func(r reconciliation.RuleOwner) {
		g.Go(func() error {
			opts := reconciliation.ReconcileRoleOptions{Role: r, Confirm: true, Client: &roleClient{rbac}}
			if err := retry.RetryOnConflict(retry.DefaultBackoff, func() error { _, err := opts.Run(); return err }); err != nil {
				return fmt.Errorf("mend role %s/%s: %w", r.GetNamespace(), r.GetName(), err)
			}
			return nil
		})
	}
	binding := func(b reconciliation.RoleBinding) {
		g.Go(func() error {
			opts := reconciliation.ReconcileRoleBindingOptions{RoleBinding: b, Confirm: true, Client: &bindingClient{rbac}}
			if err := retry.RetryOnConflict(retry.DefaultBackoff, func() error { _, err := opts.Run(); return err }); err != nil {
				return fmt.Errorf("mend role binding %s/%s: %w", b.GetNamespace(), b.GetName(), err)
			}
			return nil
		})
	}
	for _, r := range p.ClusterRoles {
		role(reconciliation.ClusterRoleRuleOwner{ClusterRole: r})
	}
	for _, r := range p.Roles {
		role(reconciliation.RoleRuleOwner{Role: r})
	}
	for _, b := range p.ClusterRoleBindings {
		binding(reconciliation.ClusterRoleBindingAdapter{ClusterRoleBinding: b})
	}
	for _, b := range p.RoleBindings {
		binding(reconciliation.RoleBindingAdapter{RoleBinding: b})
	}
}

// rbacClient is what the library reconciles through: reads from memory, writes without HTTP.
type rbacClient struct {
	ctx    context.Context // of the boot that is under way; the library's interfaces pass none
	reader objects.Reader
	w      objects.Writer
}

func (c *rbacClient) get(cluster, namespaced messages.Resource, namespace, name string) (objects.Object, error) {
	res := namespaced
	if namespace == "" {
		res = cluster
	}
	obj, ok := c.reader.Get(messages.KeyOf(res, namespace, name))
	if !ok {
		return nil, apierrors.NewNotFound(rbacv1.Resource(res.Resource), name)
	}
	return obj, nil
}

type roleClient struct{ *rbacClient }

func (c *roleClient) Get(namespace, name string) (reconciliation.RuleOwner, error) {
	obj, err := c.get(auth.ClusterRoles, auth.Roles, namespace, name)
	return ruleOwner(obj, err)
}

func (c *roleClient) Create(r reconciliation.RuleOwner) (reconciliation.RuleOwner, error) {
	return ruleOwner(c.w.Create(c.ctx, r.GetObject().(objects.Object)))
}

func (c *roleClient) Update(r reconciliation.RuleOwner) (reconciliation.RuleOwner, error) {
	return ruleOwner(c.w.Update(c.ctx, r.GetObject().(objects.Object)))
}

func ruleOwner(obj objects.Object, err error) (reconciliation.RuleOwner, error) {
	if err != nil {
		return nil, err
	}
	switch r := obj.(type) {
	case *rbacv1.ClusterRole:
		return reconciliation.ClusterRoleRuleOwner{ClusterRole: r}, nil
	case *rbacv1.Role:
		return reconciliation.RoleRuleOwner{Role: r}, nil
	}
	return nil, fmt.Errorf("%T is no role", obj)
}

type bindingClient struct{ *rbacClient }

func (c *bindingClient) Get(namespace, name string) (reconciliation.RoleBinding, error) {
	obj, err := c.get(auth.ClusterRoleBindings, auth.RoleBindings, namespace, name)
	return roleBinding(obj, err)
}

func (c *bindingClient) Create(b reconciliation.RoleBinding) (reconciliation.RoleBinding, error) {
	return roleBinding(c.w.Create(c.ctx, b.GetObject().(objects.Object)))
}

func (c *bindingClient) Update(b reconciliation.RoleBinding) (reconciliation.RoleBinding, error) {
	return roleBinding(c.w.Update(c.ctx, b.GetObject().(objects.Object)))
}

func (c *bindingClient) Delete(namespace, name string, uid types.UID) error {
	res := auth.RoleBindings
	if namespace == "" {
		res = auth.ClusterRoleBindings
	}
	return c.w.Delete(c.ctx, messages.KeyOf(res, namespace, name), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
}

func roleBinding(obj objects.Object, err error) (reconciliation.RoleBinding, error) {
	if err != nil {
		return nil, err
	}
	switch b := obj.(type) {
	case *rbacv1.ClusterRoleBinding:
		return reconciliation.ClusterRoleBindingAdapter{ClusterRoleBinding: b}, nil
	case *rbacv1.RoleBinding:
		return reconciliation.RoleBindingAdapter{RoleBinding: b}, nil
	}
	return nil, fmt.Errorf("%T is no role binding", obj)
}

var (
	_ reconciliation.RuleOwnerModifier   = (*roleClient)(nil)
	_ reconciliation.RoleBindingModifier = (*bindingClient)(nil)
)
