package rbac

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

func rule(change ...func(*rbacv1.PolicyRule)) []rbacv1.PolicyRule {
	r := rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}
	for _, fn := range change {
		fn(&r)
	}
	return []rbacv1.PolicyRule{r}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	urls := func(r *rbacv1.PolicyRule) {
		*r = rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz"}}
	}
	for name, tc := range map[string]struct {
		rules         []rbacv1.PolicyRule
		role, cluster []string
	}{
		"good":         {rules: rule()},
		"no verbs":     {rule(func(r *rbacv1.PolicyRule) { r.Verbs = nil }), []string{"FieldValueRequired rules[0].verbs"}, []string{"FieldValueRequired rules[0].verbs"}},
		"no groups":    {rule(func(r *rbacv1.PolicyRule) { r.APIGroups = nil }), []string{"FieldValueRequired rules[0].apiGroups"}, []string{"FieldValueRequired rules[0].apiGroups"}},
		"no resources": {rule(func(r *rbacv1.PolicyRule) { r.Resources = nil }), []string{"FieldValueRequired rules[0].resources"}, []string{"FieldValueRequired rules[0].resources"}},
		"URLs":         {rule(urls), []string{"FieldValueInvalid rules[0].nonResourceURLs"}, nil},
		"URLs and resources": {rule(urls, func(r *rbacv1.PolicyRule) { r.Resources = []string{"pods"} }),
			[]string{"FieldValueInvalid rules[0].nonResourceURLs", "FieldValueInvalid rules[0].nonResourceURLs"}, []string{"FieldValueInvalid rules[0].nonResourceURLs"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Create(Role(), &rbacv1.Role{Rules: tc.rules}), tc.role...)
			kindtest.Want(t, kindtest.Create(ClusterRole(), &rbacv1.ClusterRole{Rules: tc.rules}), tc.cluster...)
		})
	}
	kindtest.Want(t, kindtest.Create(ClusterRole(), &rbacv1.ClusterRole{AggregationRule: &rbacv1.AggregationRule{}}), "FieldValueRequired aggregationRule.clusterRoleSelectors")
	kindtest.Want(t, kindtest.Create(ClusterRole(), &rbacv1.ClusterRole{AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{
		{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Is"}}}}}}), "FieldValueInvalid aggregationRule.clusterRoleSelectors[0].matchExpressions[0].operator")
	born := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "system:r", CreationTimestamp: metav1.NewTime(born)}}
	if diff := cmp.Diff([]any{"system:r", "2026-01-02T03:04:05Z"}, Role().Row(role)); diff != "" {
		t.Error(diff)
	}
	for name, ok := range map[string]bool{"system:Some_role": true, "a/b": false, "..": false, "a%b": false} {
		if got := len(Role().ValidateName(name, false)) == 0; got != ok {
			t.Errorf("name %s: good %t, want %t", name, got, ok)
		}
	}
}

func TestBindings(t *testing.T) {
	t.Parallel()
	ref := rbacv1.RoleRef{Kind: "ClusterRole", Name: "view"}
	for name, tc := range map[string]struct {
		ref        rbacv1.RoleRef
		subject    rbacv1.Subject
		inSpace    []string
		everywhere []string
	}{
		"user":               {ref: ref, subject: rbacv1.Subject{Kind: "User", Name: "u"}},
		"group":              {ref: ref, subject: rbacv1.Subject{Kind: "Group", Name: "system:masters"}},
		"account":            {ref: ref, subject: rbacv1.Subject{Kind: "ServiceAccount", Name: "a", Namespace: "n"}},
		"account of nowhere": {ref, rbacv1.Subject{Kind: "ServiceAccount", Name: "a"}, nil, []string{"FieldValueRequired subjects[0].namespace"}},
		"account with group": {ref, rbacv1.Subject{Kind: "ServiceAccount", Name: "a", Namespace: "n", APIGroup: "g"}, []string{"FieldValueNotSupported subjects[0].apiGroup"}, []string{"FieldValueNotSupported subjects[0].apiGroup"}},
		"bad account":        {ref, rbacv1.Subject{Kind: "ServiceAccount", Name: "A", Namespace: "n"}, []string{"FieldValueInvalid subjects[0].name"}, []string{"FieldValueInvalid subjects[0].name"}},
		"nobody":             {ref, rbacv1.Subject{Kind: "User"}, []string{"FieldValueRequired subjects[0].name"}, []string{"FieldValueRequired subjects[0].name"}},
		"something":          {ref, rbacv1.Subject{Kind: "Robot", Name: "r"}, []string{"FieldValueNotSupported subjects[0].kind"}, []string{"FieldValueNotSupported subjects[0].kind"}},
		"role":               {rbacv1.RoleRef{Kind: "Role", Name: "r"}, rbacv1.Subject{Kind: "User", Name: "u"}, nil, []string{"FieldValueNotSupported roleRef.kind"}},
		"no role": {rbacv1.RoleRef{Kind: "ClusterRole", APIGroup: "g"}, rbacv1.Subject{Kind: "User", Name: "u"},
			[]string{"FieldValueNotSupported roleRef.apiGroup", "FieldValueRequired roleRef.name"}, []string{"FieldValueNotSupported roleRef.apiGroup", "FieldValueRequired roleRef.name"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &rbacv1.RoleBinding{RoleRef: tc.ref, Subjects: []rbacv1.Subject{tc.subject}}
			kindtest.Want(t, kindtest.Create(RoleBinding(), b), tc.inSpace...)
			kindtest.Want(t, kindtest.Create(ClusterRoleBinding(), &rbacv1.ClusterRoleBinding{RoleRef: tc.ref, Subjects: []rbacv1.Subject{tc.subject}}), tc.everywhere...)
			if tc.inSpace == nil && b.RoleRef.APIGroup != rbacv1.GroupName {
				t.Errorf("role's group %q", b.RoleRef.APIGroup)
			}
		})
	}
	old := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "b"}, RoleRef: ref, Subjects: []rbacv1.Subject{
		{Kind: "User", Name: "u"}, {Kind: "User", Name: "v"}, {Kind: "Group", Name: "g"}, {Kind: "ServiceAccount", Name: "a", Namespace: "n"}}}
	kindtest.Want(t, kindtest.Create(RoleBinding(), old))
	if diff := cmp.Diff([]any{"b", "ClusterRole/view", "<unknown>", "u, v", "g", "n/a"}, RoleBinding().Row(old)); diff != "" {
		t.Error(diff)
	}
	changed := old.DeepCopy()
	changed.RoleRef.Name, changed.Subjects = "edit", nil
	kindtest.Want(t, kindtest.Update(RoleBinding(), changed, old), "FieldValueInvalid roleRef")
}
