package auth

import (
	"cmp"
	"fmt"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What marks the roles and bindings that every Kubernetes cluster starts with.
const (
	bootstrapLabel = "kubernetes.io/bootstrapping"
	bootstrapValue = "rbac-defaults"
	// AutoUpdate is the annotation by which a user keeps a start from mending a bootstrap role:
	// "false" leaves it alone.
	AutoUpdate = rbacv1.AutoUpdateAnnotationKey
)

// Policy is the set of roles and bindings a cluster starts with.
type Policy struct {
	ClusterRoles        []*rbacv1.ClusterRole
	ClusterRoleBindings []*rbacv1.ClusterRoleBinding
	Roles               []*rbacv1.Role
	RoleBindings        []*rbacv1.RoleBinding
}

// BootstrapPolicy returns Kubernetes' roles and bindings, under the names that charts and
// documentation refer to.
func BootstrapPolicy() Policy {
	var p Policy
	for _, r := range clusterRoleTexts {
		p.ClusterRoles = append(p.ClusterRoles, clusterRole(r))
	}
	for _, r := range controllerRoleTexts {
		role := r
		role.name = "system:controller:" + r.name
		p.ClusterRoles = append(p.ClusterRoles, clusterRole(role))
		p.ClusterRoleBindings = append(p.ClusterRoleBindings, clusterBinding(role.name, role.name, serviceAccount(r.name)))
	}
	for _, b := range clusterBindingTexts {
		p.ClusterRoleBindings = append(p.ClusterRoleBindings, clusterBinding(cmp.Or(b.name, b.role), b.role, b.subjects...))
	}
	for _, r := range namespacedRoleTexts {
		p.Roles = append(p.Roles, &rbacv1.Role{ObjectMeta: bootstrapMeta(r.namespace, r.name), Rules: parseRules(r.rules)})
	}
	for _, b := range namespacedBindingTexts {
		p.RoleBindings = append(p.RoleBindings, &rbacv1.RoleBinding{
			ObjectMeta: bootstrapMeta(b.namespace, b.name),
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: b.role},
			Subjects:   b.subjects,
		})
	}
	return p
}

// roleText is a role as the tables write it.
type roleText struct {
	name string
	// labels are put on the role besides the bootstrap ones.
	labels map[string]string
	// aggregate makes a role that gathers the rules of all roles with that label.
	aggregate string
	rules     string
}

func clusterRole(r roleText) *rbacv1.ClusterRole {
	role := &rbacv1.ClusterRole{ObjectMeta: bootstrapMeta("", r.name), Rules: parseRules(r.rules)}
	for k, v := range r.labels {
		role.Labels[k] = v
	}
	if r.aggregate != "" {
		role.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{
			{MatchLabels: map[string]string{r.aggregate: "true"}},
		}}
	}
	return role
}

func clusterBinding(name, role string, subjects ...rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: bootstrapMeta("", name),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   subjects,
	}
}

func bootstrapMeta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name,
		Labels:      map[string]string{bootstrapLabel: bootstrapValue},
		Annotations: map[string]string{AutoUpdate: "true"},
	}
}

func groupSubject(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: name}
}

func userSubject(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name}
}

func serviceAccount(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: metav1.NamespaceSystem, Name: name}
}

// verbSets are the short names for verbs that the tables use.
var verbSets = map[string][]string{
	"read":  {"get", "list", "watch"},
	"write": {"create", "delete", "deletecollection", "patch", "update"},
	"all":   {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"},
	"event": {"create", "patch", "update"},
}

// parseRules reads a table of rules, one a line: verbs separated by commas, a colon, then resources
// (resource.group, "*.*" for all, paths with a leading slash) and at the end, in brackets, the only
// names meant. Resources of one line that share a group share a rule.
func parseRules(text string) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		verbText, rest, ok := strings.Cut(line, ": ")
		if !ok {
			panic(fmt.Sprintf("auth: rule %q has no verbs", line)) // the tables are ours
		}
		var verbs []string
		for _, v := range strings.Split(verbText, ",") {
			if set, ok := verbSets[v]; ok {
				verbs = append(verbs, set...)
			} else {
				verbs = append(verbs, v)
			}
		}
		rest, nameText, _ := strings.Cut(strings.TrimSuffix(rest, "]"), "[")
		var groups []string
		byGroup := make(map[string][]string)
		for _, r := range strings.Fields(rest) {
			group := "/"
			switch {
			case r == "/*":
				r = rbacv1.NonResourceAll
			case r[0] != '/':
				r, group, _ = strings.Cut(r, ".")
			}
			if byGroup[group] == nil {
				groups = append(groups, group)
			}
			byGroup[group] = append(byGroup[group], r)
		}
		for _, group := range groups {
			rule := rbacv1.PolicyRule{Verbs: verbs}
			if group == "/" {
				rule.NonResourceURLs = byGroup[group]
			} else {
				rule.APIGroups, rule.Resources = []string{group}, byGroup[group]
				rule.ResourceNames = strings.Fields(nameText)
			}
			if len(rule.ResourceNames) == 0 {
				rule.ResourceNames = nil
			}
			out = append(out, rule)
		}
	}
	return out
}
