package api_test

import (
	"context"
	"io"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

func (c *cluster) clientAs(t testing.TB, user string, groups ...string) *kubernetes.Clientset {
	t.Helper()
	return must(kubernetes.NewForConfig(c.as(t, user, groups...)))
}

func TestRBACAllowsWhatIsBound(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	alice := c.clientAs(t, "alice")
	list := func(ns string) error {
		_, err := alice.CoreV1().ConfigMaps(ns).List(ctx, metav1.ListOptions{})
		return err
	}
	if err := list("default"); !apierrors.IsForbidden(err) {
		t.Fatalf("before: %v, want Forbidden", err)
	}
	_, err := c.client.RbacV1().RoleBindings("default").Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "v"},
		RoleRef:    rbacv1.RoleRef{Kind: "ClusterRole", Name: "view"},
		Subjects:   []rbacv1.Subject{{Kind: "User", Name: "alice"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return list("default") == nil }) // "view" is gathered in the background
	if err := list("kube-system"); !apierrors.IsForbidden(err) {
		t.Errorf("other namespace: %v, want Forbidden", err)
	}
	review, err := alice.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: "delete", Resource: "configmaps", Namespace: "default",
		}},
	}, metav1.CreateOptions{})
	if err != nil || review.Status.Allowed {
		t.Errorf("may alice delete: %+v, %v", review.Status, err)
	}
}

func TestNobodyGrantsMoreThanTheyHold(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	_, err := c.client.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "role-maker"},
		Rules: []rbacv1.PolicyRule{
			{Verbs: []string{"create"}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{"roles", "rolebindings"}},
			{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "role-maker"},
		RoleRef:    rbacv1.RoleRef{Kind: "ClusterRole", Name: "role-maker"},
		Subjects:   []rbacv1.Subject{{Kind: "User", Name: "alice"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	roles := c.clientAs(t, "alice").RbacV1().Roles("default")
	role := func(name, resource string) error {
		_, err := roles.Create(ctx, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: name},
			Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{resource}}}}, metav1.CreateOptions{})
		return err
	}
	if err := role("held", "pods"); err != nil {
		t.Errorf("a rule that is held: %v", err)
	}
	if err := role("more", "secrets"); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "not currently held") {
		t.Errorf("a rule that is not held: %v", err)
	}
	_, err = c.clientAs(t, "alice").RbacV1().RoleBindings("default").Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "b"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "cluster-admin"},
	}, metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("bind cluster-admin: %v, want Forbidden", err)
	}
}

func TestAnonymousSeesHealthAndVersionOnly(t *testing.T) {
	t.Parallel()
	c := start(t)
	client := must(rest.HTTPClientFor(&rest.Config{Host: c.url, TLSClientConfig: rest.TLSClientConfig{CAData: c.auth.CAPEM()}}))
	for path, want := range map[string]int{
		"/healthz": 200, "/livez": 200, "/readyz": 200, "/version": 200,
		"/api/v1/pods": 403, "/metrics": 403, "/openapi/v2": 403,
	} {
		resp, err := client.Get(c.url + path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
}

func TestWrongTokenIsUnauthorized(t *testing.T) {
	t.Parallel()
	c := start(t)
	client := must(kubernetes.NewForConfig(&rest.Config{Host: c.url, BearerToken: "a.b.c", TLSClientConfig: rest.TLSClientConfig{CAData: c.auth.CAPEM()}}))
	if _, err := client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("list: %v, want Unauthorized", err)
	}
}

func TestTokenDiesWithItsPod(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	c.defaultAccount(t)
	pod, err := c.client.CoreV1().Pods("default").Create(ctx, pod("a"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
	}}
	token, err := c.client.CoreV1().ServiceAccounts("default").CreateToken(ctx, "default", req, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	review := func() authenticationv1.TokenReviewStatus {
		t.Helper()
		r, err := c.client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
			Spec: authenticationv1.TokenReviewSpec{Token: token.Status.Token}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Status
	}
	got := review()
	if !got.Authenticated || got.User.Username != "system:serviceaccount:default:default" ||
		got.User.Extra["authentication.kubernetes.io/pod-name"][0] != "a" {
		t.Fatalf("review: %+v", got)
	}
	if err := c.client.CoreV1().Pods("default").Delete(ctx, "a", *metav1.NewDeleteOptions(0)); err != nil {
		t.Fatal(err)
	}
	if got := review(); got.Authenticated {
		t.Errorf("review after the pod went: %+v", got)
	}
}

func TestNodeReachesOnlyWhatItsPodsUse(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	c.defaultAccount(t)
	for _, name := range []string{"used", "other"} {
		if _, err := c.client.CoreV1().Secrets("default").Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	p := pod("a")
	p.Spec.NodeName = "n1"
	p.Spec.Volumes = []corev1.Volume{{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "used"}}}}
	if _, err := c.client.CoreV1().Pods("default").Create(ctx, p, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	get := func(node, secret string) error {
		_, err := c.clientAs(t, "system:node:"+node, "system:nodes").CoreV1().Secrets("default").Get(ctx, secret, metav1.GetOptions{})
		return err
	}
	if err := get("n1", "used"); err != nil {
		t.Errorf("own pod's secret: %v", err)
	}
	if err := get("n1", "other"); !apierrors.IsForbidden(err) {
		t.Errorf("secret of no pod: %v, want Forbidden", err)
	}
	if err := get("n2", "used"); !apierrors.IsForbidden(err) {
		t.Errorf("secret of another node's pod: %v, want Forbidden", err)
	}
	_, err := c.clientAs(t, "system:node:n2", "system:nodes").CoreV1().Nodes().Create(ctx,
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n3"}}, metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("register another node: %v, want Forbidden", err)
	}
}

func TestImpersonation(t *testing.T) {
	t.Parallel()
	c := start(t)
	cfg := c.as(t, "admin", "system:masters")
	cfg.Impersonate = rest.ImpersonationConfig{UserName: "bob"}
	_, err := must(kubernetes.NewForConfig(cfg)).CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `"bob"`) {
		t.Errorf("list as bob: %v, want Forbidden for bob", err)
	}
}

// defaultAccount does what a controller does for each namespace.
func (c *cluster) defaultAccount(t testing.TB) {
	t.Helper()
	_, err := c.Local("test").Create(context.Background(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: "default"}})
	if err != nil {
		t.Fatal(err)
	}
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
}

func TestReviewsKnowSelectors(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	ask := func(res authorizationv1.ResourceAttributes) (authorizationv1.SubjectAccessReviewStatus, error) {
		res.Verb, res.Resource = "list", "pods"
		r, err := c.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{User: "system:node:n1", Groups: []string{"system:nodes"}, ResourceAttributes: &res},
		}, metav1.CreateOptions{})
		if err != nil {
			return authorizationv1.SubjectAccessReviewStatus{}, err
		}
		return r.Status, nil
	}
	fields := func(raw string, reqs ...metav1.FieldSelectorRequirement) authorizationv1.ResourceAttributes {
		return authorizationv1.ResourceAttributes{FieldSelector: &authorizationv1.FieldSelectorAttributes{RawSelector: raw, Requirements: reqs}}
	}
	in := func(values ...string) metav1.FieldSelectorRequirement {
		return metav1.FieldSelectorRequirement{Key: "spec.nodeName", Operator: metav1.FieldSelectorOpIn, Values: values}
	}
	for name, tc := range map[string]struct {
		res          authorizationv1.ResourceAttributes
		allowed      bool
		trouble, err string
	}{
		"all pods":    {},
		"own":         {res: fields("", in("n1")), allowed: true},
		"own as text": {res: fields("spec.nodeName=n1"), allowed: true},
		"foreign":     {res: fields("", in("n2"))},
		"two values":  {res: fields("", in("n1", "n2")), trouble: "must have exactly one value"},
		"not text":    {res: fields("spec.nodeName"), trouble: "parse error"},
		"both forms":  {res: fields("spec.nodeName=n1", in("n1")), err: "spec.resourceAttributes.fieldSelector.rawSelector: Invalid value"},
		"neither":     {res: fields(""), err: "spec.resourceAttributes.fieldSelector.requirements: Required value"},
		"no values":   {res: fields("", in()), err: "spec.resourceAttributes.fieldSelector.requirements[0].values: Required value"},
		"bad label": {res: authorizationv1.ResourceAttributes{LabelSelector: &authorizationv1.LabelSelectorAttributes{
			Requirements: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}}, err: "spec.resourceAttributes.labelSelector.requirements[0].operator: Invalid value"},
	} {
		got, err := ask(tc.res)
		switch {
		case tc.err != "":
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: %v, want %q", name, err, tc.err)
			}
		case err != nil || got.Allowed != tc.allowed || !strings.Contains(got.EvaluationError, tc.trouble) || tc.trouble == "" && strings.Contains(got.EvaluationError, "parse"):
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestRolesAreMendedAtStart(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	roles, bindings := c.client.RbacV1().ClusterRoles(), c.client.RbacV1().ClusterRoleBindings()
	edit := func(name string, fn func(*rbacv1.ClusterRole)) {
		t.Helper()
		role := must(roles.Get(ctx, name, metav1.GetOptions{}))
		fn(role)
		must(roles.Update(ctx, role, metav1.UpdateOptions{}))
	}
	edit("system:discovery", func(r *rbacv1.ClusterRole) {
		r.Rules = []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/mine"}}}
		r.Labels = nil
	})
	edit("system:heapster", func(r *rbacv1.ClusterRole) {
		r.Rules = nil
		r.Annotations = map[string]string{rbacv1.AutoUpdateAnnotationKey: "false"}
	})
	if err := bindings.Delete(ctx, "system:basic-user", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	must(bindings.Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "system:basic-user"},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"}}, metav1.CreateOptions{}))

	c.again(t)
	roles, bindings = c.client.RbacV1().ClusterRoles(), c.client.RbacV1().ClusterRoleBindings()
	role := must(roles.Get(ctx, "system:discovery", metav1.GetOptions{}))
	if len(role.Rules) < 2 || role.Rules[0].NonResourceURLs[0] != "/mine" || role.Labels["kubernetes.io/bootstrapping"] != "rbac-defaults" {
		t.Errorf("role that lacked rules: %+v", role)
	}
	if role := must(roles.Get(ctx, "system:heapster", metav1.GetOptions{})); len(role.Rules) > 0 {
		t.Errorf("role to be left alone: %+v", role)
	}
	if b := must(bindings.Get(ctx, "system:basic-user", metav1.GetOptions{})); b.RoleRef.Name != "system:basic-user" || len(b.Subjects) != 1 {
		t.Errorf("binding to another role: %+v", b)
	}
}
