package api

import (
	"context"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/auth"
	"github.com/troupe-run/troupe/messages"
)

// aggregator keeps the rules of cluster roles that gather others' (admin, edit, view) up to date.
// It runs until ctx ends.
func (s *Server) aggregate(ctx context.Context) {
	if !s.serves(auth.ClusterRoles) {
		return
	}
	changed := make(chan struct{}, 1)
	stop := s.cfg.Store.Follow([]messages.Resource{auth.ClusterRoles}, func(objects.Change) {
		select {
		case changed <- struct{}{}:
		default: // one look sees all that happened until then
		}
	})
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.ready: // not before the first roles are there, which would be a write for each
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
			if err := s.gather(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("cluster roles not gathered", "err", err)
			}
		}
	}
}

// gather writes the gathered rules where they differ. A role may gather from one that gathers
// itself; the change that this makes brings the next look.
func (s *Server) gather(ctx context.Context) error {
	roles := objects.List[*rbacv1.ClusterRole](s.cfg.Store, auth.ClusterRoles, "")
	slices.SortFunc(roles, func(a, b *rbacv1.ClusterRole) int { return strings.Compare(a.Name, b.Name) })
	w := s.Local("system:serviceaccount:kube-system:clusterrole-aggregation-controller")
	for _, role := range roles {
		if role.AggregationRule == nil {
			continue
		}
		rules, err := gathered(role, roles)
		if err != nil {
			return err
		}
		if apiequality.Semantic.DeepEqual(rules, role.Rules) {
			continue
		}
		key := messages.KeyOf(auth.ClusterRoles, "", role.Name)
		_, err = w.Mutate(ctx, key, "", func(o objects.Object) (objects.Object, error) {
			o.(*rbacv1.ClusterRole).Rules = rules
			return o, nil
		})
		if err != nil {
			return fmt.Errorf("gather rules of %s: %w", key, err)
		}
	}
	return nil
}

// gathered returns the rules of all roles that the aggregation rule of role selects, without
// doubles, in the order of their names.
func gathered(role *rbacv1.ClusterRole, roles []*rbacv1.ClusterRole) ([]rbacv1.PolicyRule, error) {
	var out []rbacv1.PolicyRule
	for i := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, fmt.Errorf("selector of cluster role %s: %w", role.Name, err)
		}
		for _, from := range roles {
			if from.Name == role.Name || !selector.Matches(labels.Set(from.Labels)) {
				continue
			}
			for _, rule := range from.Rules {
				if !slices.ContainsFunc(out, func(have rbacv1.PolicyRule) bool { return apiequality.Semantic.DeepEqual(have, rule) }) {
					out = append(out, rule)
				}
			}
		}
	}
	return out, nil
}
