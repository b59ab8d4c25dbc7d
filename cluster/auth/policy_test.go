package auth

import (
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/google/go-cmp/cmp"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

func TestParseRules(t *testing.T) {
	got := parseRules(`
		read: pods deployments.apps pods/log
		get: /version
		update: configmaps [one two]`)
	want := []rbacv1.PolicyRule{
		{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{""}, Resources: []string{"pods", "pods/log"}},
		{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{"apps"}, Resources: []string{"deployments"}},
		{Verbs: []string{"get"}, NonResourceURLs: []string{"/version"}},
		{Verbs: []string{"update"}, APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{"one", "two"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestBootstrapPolicyIsWhole(t *testing.T) {
	p := BootstrapPolicy()
	roles := make(map[string]*rbacv1.ClusterRole)
	for _, r := range p.ClusterRoles {
		if roles[r.Name] != nil {
			t.Errorf("%s is there twice", r.Name)
		}
		roles[r.Name] = r
		if len(r.Rules) == 0 && r.AggregationRule == nil {
			t.Errorf("%s allows nothing", r.Name)
		}
	}
	for _, name := range []string{"cluster-admin", "admin", "edit", "view", "system:node", "system:discovery", "system:basic-user",
		"system:public-info-viewer", "system:kube-scheduler", "system:controller:deployment-controller"} {
		if roles[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
	for _, b := range p.ClusterRoleBindings {
		if roles[b.RoleRef.Name] == nil {
			t.Errorf("binding %s is of %s, which is missing", b.Name, b.RoleRef.Name)
		}
	}
}

// policyReader answers with the bootstrap policy.
type policyReader struct{ objects.Reader }

func (policyReader) List(res messages.Resource, _ string) (out []objects.Object) {
	if res == ClusterRoleBindings {
		for _, b := range BootstrapPolicy().ClusterRoleBindings {
			out = append(out, b)
		}
	}
	return out
}

func (policyReader) Get(key messages.Key) (objects.Object, bool) {
	roles := BootstrapPolicy().ClusterRoles
	i := slices.IndexFunc(roles, func(r *rbacv1.ClusterRole) bool { return key.Resource == ClusterRoles && r.Name == key.Name })
	if i < 0 {
		return nil, false
	}
	return roles[i], true
}

func TestRBACDecisions(t *testing.T) {
	rbac := NewRBAC(policyReader{})
	resource := func(groups []string, verb, group, resource, sub string) authorizer.Attributes {
		return authorizer.AttributesRecord{User: &user.DefaultInfo{Name: "u", Groups: groups}, Verb: verb,
			APIGroup: group, Resource: resource, Subresource: sub, ResourceRequest: true}
	}
	path := func(verb, path string, groups ...string) authorizer.Attributes {
		return authorizer.AttributesRecord{User: &user.DefaultInfo{Name: "u", Groups: groups}, Verb: verb, Path: path}
	}
	masters, known, unknown := []string{user.SystemPrivilegedGroup}, user.AllAuthenticated, user.AllUnauthenticated
	for name, tc := range map[string]struct {
		a    authorizer.Attributes
		want authorizer.Decision
	}{
		"admin any resource":            {resource(masters, "delete", "x.example", "things", "status"), authorizer.DecisionAllow},
		"admin any path":                {path("get", "/metrics", masters...), authorizer.DecisionAllow},
		"known discovers":               {path("get", "/apis/apps/v1", known), authorizer.DecisionAllow},
		"known asks about itself":       {resource([]string{known}, "create", "authorization.k8s.io", "selfsubjectaccessreviews", ""), authorizer.DecisionAllow},
		"known reads no pods":           {resource([]string{known}, "list", "", "pods", ""), authorizer.DecisionNoOpinion},
		"unknown sees health":           {path("get", "/healthz", unknown), authorizer.DecisionAllow},
		"unknown does not discover":     {path("get", "/api", unknown), authorizer.DecisionNoOpinion},
		"prefix ends at the slash":      {path("get", "/apisx", known), authorizer.DecisionNoOpinion},
		"monitoring reads metrics":      {path("get", "/metrics", user.MonitoringGroup), authorizer.DecisionAllow},
		"monitoring writes no metrics":  {path("delete", "/metrics", user.MonitoringGroup), authorizer.DecisionNoOpinion},
		"accounts find the token keys":  {path("get", "/openid/v1/jwks", "system:serviceaccounts"), authorizer.DecisionAllow},
		"scheduler's role is by name":   {resource([]string{user.KubeScheduler}, "create", "", "pods", "binding"), authorizer.DecisionNoOpinion},
		"nodes are not let in by roles": {resource([]string{user.NodesGroup}, "get", "", "nodes", ""), authorizer.DecisionNoOpinion},
	} {
		if got, why, err := rbac.Authorize(t.Context(), tc.a); err != nil || got != tc.want {
			t.Errorf("%s: %v (%s, %v), want %v", name, got, why, err, tc.want)
		}
	}
}
