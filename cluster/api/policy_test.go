package api_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	registration "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api"
)

func aboutConfigMaps() *registration.MatchResources {
	return &registration.MatchResources{ResourceRules: []registration.NamedRuleWithOperations{{RuleWithOperations: onConfigMaps("CREATE")[0]}}}
}

// bind makes a policy for what has the label to=<name>, and its binding.
func (c *cluster) policy(t *testing.T, name string, spec registration.ValidatingAdmissionPolicySpec, binding registration.ValidatingAdmissionPolicyBindingSpec) {
	t.Helper()
	spec.MatchConstraints = aboutConfigMaps()
	spec.MatchConstraints.ObjectSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"to": name}}
	binding.PolicyName = name
	r := c.client.AdmissionregistrationV1()
	if _, err := r.ValidatingAdmissionPolicies().Create(t.Context(), &registration.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ValidatingAdmissionPolicyBindings().Create(t.Context(), &registration.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: binding}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Request
  resources: [{group: "", resources: [configmaps]}]
- level: None
`

func TestValidatingPolicies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	logged := filepath.Join(dir, "log", "audit.log")
	if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), []byte(auditPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	c := start(t, func(cfg *api.Config) {
		cfg.Audit = api.Audit{PolicyFile: filepath.Join(dir, "policy.yaml"), LogPath: logged, MaxSize: 1}
	})
	ctx := t.Context()
	deny := registration.ValidatingAdmissionPolicyBindingSpec{ValidationActions: []registration.ValidationAction{registration.Deny}}
	param := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "limits"}, Data: map[string]string{"max": "2"}}
	if _, err := c.client.CoreV1().ConfigMaps("default").Create(ctx, param, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	byParam := func(name string, missing registration.ParameterNotFoundActionType) registration.ValidatingAdmissionPolicyBindingSpec {
		b := deny
		b.ParamRef = &registration.ParamRef{Name: name, ParameterNotFoundAction: &missing}
		return b
	}
	size := registration.ValidatingAdmissionPolicySpec{ParamKind: &registration.ParamKind{APIVersion: "v1", Kind: "ConfigMap"},
		Variables:   []registration.Variable{{Name: "max", Expression: "params == null ? 0 : int(params.data.max)"}},
		Validations: []registration.Validation{{Expression: "object.data.size() < variables.max", MessageExpression: "'at most ' + string(variables.max)", Reason: ptr.To(metav1.StatusReasonInvalid)}}}
	c.policy(t, "params", size, byParam("limits", registration.DenyAction))
	c.policy(t, "missing", size, byParam("none", registration.DenyAction))
	c.policy(t, "missing-fine", size, byParam("none", registration.AllowAction))
	c.policy(t, "may", registration.ValidatingAdmissionPolicySpec{Validations: []registration.Validation{{
		Expression: `authorizer.group("").resource("pods").namespace("default").check("fly").allowed()`, Message: "you cannot fly"}}}, deny)
	loops := strings.Repeat("[1,2,3,4,5,6,7,8,9,10].all(x, ", 8) + "true" + strings.Repeat(")", 8)
	c.policy(t, "bomb", registration.ValidatingAdmissionPolicySpec{Validations: []registration.Validation{{Expression: loops}}}, deny)
	c.policy(t, "warn", registration.ValidatingAdmissionPolicySpec{Validations: []registration.Validation{{Expression: "false", Message: "better not"}},
		AuditAnnotations: []registration.AuditAnnotation{{Key: "who", ValueExpression: "'it was ' + object.metadata.name"}}},
		registration.ValidatingAdmissionPolicyBindingSpec{ValidationActions: []registration.ValidationAction{registration.Warn, registration.Audit}})
	// As in Kubernetes policies take a moment to be known; the last one is known with all others.
	c.policy(t, "known", registration.ValidatingAdmissionPolicySpec{Validations: []registration.Validation{{Expression: "false"}}}, deny)
	eventually(t, func() bool {
		_, err := c.configMap(t, "known", map[string]string{"to": "known"}, metav1.DryRunAll)
		return err != nil
	})
	for name, tc := range map[string]struct{ to, err string }{
		"free":         {"nobody", ""},
		"params":       {"params", ""},
		"missing":      {"missing", "ValidatingAdmissionPolicy 'missing' with binding 'missing' denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"},
		"missing-fine": {"missing-fine", ""},
		"bomb":         {"bomb", "operation cancelled: actual cost limit exceeded"},
		"warn":         {"warn", ""},
	} {
		_, err := c.configMap(t, name, map[string]string{"to": tc.to})
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s: error %v, want %q", name, err, tc.err)
		}
	}
	large := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "large", Labels: map[string]string{"to": "params"}}, Data: map[string]string{"a": "", "b": ""}}
	if _, err := c.client.CoreV1().ConfigMaps("default").Create(ctx, large, metav1.CreateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "at most 2") {
		t.Errorf("too large: %v", err)
	}
	editor := kubernetes.NewForConfigOrDie(c.as(t, "joe", "system:masters"))
	if _, err := editor.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "fly", Labels: map[string]string{"to": "may"}}}, metav1.CreateOptions{}); err != nil {
		t.Errorf("who may do everything may fly: %v", err)
	}
	c.stop()
	event := findEvent(t, logged, "warn")
	for key, want := range map[string]string{"warn/who": "it was warn", "validation.policy.admission.k8s.io/validation_failure": "better not"} {
		if !strings.Contains(event.Annotations[key], want) {
			t.Errorf("annotation %s is %q, want %q", key, event.Annotations[key], want)
		}
	}
	if event.Level != auditv1.LevelRequest || event.RequestObject == nil || event.User.Username == "" || event.ResponseStatus.Code != 201 {
		t.Errorf("event %+v", event)
	}
}

// findEvent reads the event about the creation of one config map from an audit log.
func findEvent(t *testing.T, path, name string) auditv1.Event {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	var found *auditv1.Event
	for lines.Scan() {
		var e auditv1.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("line %q: %v", lines.Text(), err)
		}
		if e.ObjectRef == nil || e.ObjectRef.Resource != "configmaps" {
			t.Errorf("an event that the policy leaves out: %s", lines.Text())
			continue
		}
		if e.Verb == "create" && e.ObjectRef.Name == name {
			found = &e
		}
	}
	if found == nil {
		t.Fatalf("no event about %s", name)
	}
	return *found
}

func TestPoliciesAreTypeChecked(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	c.policy(t, "odd", registration.ValidatingAdmissionPolicySpec{Validations: []registration.Validation{{Expression: "object.nonsense == 1"}}},
		registration.ValidatingAdmissionPolicyBindingSpec{ValidationActions: []registration.ValidationAction{registration.Deny}})
	eventually(t, func() bool {
		p, err := c.client.AdmissionregistrationV1().ValidatingAdmissionPolicies().Get(ctx, "odd", metav1.GetOptions{})
		return err == nil && p.Status.ObservedGeneration == p.Generation && p.Status.TypeChecking != nil &&
			len(p.Status.TypeChecking.ExpressionWarnings) == 1 && strings.Contains(p.Status.TypeChecking.ExpressionWarnings[0].Warning, "undefined field 'nonsense'")
	})
}

func TestMutatingPolicies(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	r := c.client.AdmissionregistrationV1()
	p := &registration.MutatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "label"}, Spec: registration.MutatingAdmissionPolicySpec{
		MatchConstraints: aboutConfigMaps(), ReinvocationPolicy: registration.NeverReinvocationPolicy,
		Mutations: []registration.Mutation{
			{PatchType: registration.PatchTypeJSONPatch, JSONPatch: &registration.JSONPatch{Expression: `[JSONPatch{op: "add", path: "/data/patched", value: object.metadata.name}]`}},
			{PatchType: registration.PatchTypeApplyConfiguration, ApplyConfiguration: &registration.ApplyConfiguration{Expression: `Object{metadata: Object.metadata{labels: {"applied": "yes"}}}`}},
		}}}
	if _, err := r.MutatingAdmissionPolicies().Create(ctx, p, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.MutatingAdmissionPolicyBindings().Create(ctx, &registration.MutatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "label"},
		Spec: registration.MutatingAdmissionPolicyBindingSpec{PolicyName: "label"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// As in Kubernetes the policy and the schemas that it needs take a moment to be known.
	eventually(t, func() bool {
		cm, err := c.configMap(t, "known", nil, metav1.DryRunAll)
		return err == nil && len(cm.Labels) > 0
	})
	cm, err := c.configMap(t, "one", nil)
	if err != nil {
		t.Fatal(err)
	}
	if cm.Data["patched"] != "one" || cm.Labels["applied"] != "yes" {
		t.Errorf("data %v, labels %v", cm.Data, cm.Labels)
	}
}

func TestAuditSettingsAreChecked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, tc := range map[string]struct {
		audit api.Audit
		err   string
	}{
		"none":      {api.Audit{}, ""},
		"good":      {api.Audit{PolicyFile: write("good", auditPolicy), LogPath: "-"}, ""},
		"no policy": {api.Audit{LogPath: "x"}, "without a policy file nothing would be written"},
		"missing":   {api.Audit{PolicyFile: filepath.Join(dir, "no")}, "no such file"},
		"no rules":  {api.Audit{PolicyFile: write("empty", "apiVersion: audit.k8s.io/v1\nkind: Policy\n")}, "loaded illegal policy with 0 rules"},
		"no yaml":   {api.Audit{PolicyFile: write("odd", "a: [b\nc")}, "audit policy " + filepath.Join(dir, "odd")},
		"level":     {api.Audit{PolicyFile: write("level", "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Loud}]\n")}, `Unsupported value: "Loud"`},
		"negative":  {api.Audit{MaxAge: -1}, "the largest age is -1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := tc.audit.Check()
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Fatalf("error %v, want %q", err, tc.err)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %v", err)
			}
		})
	}
}

// TestParamsOfPoliciesMustBeReadable: by the message of a policy its author would read any object.
func TestParamsOfPoliciesMustBeReadable(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	c.define(t, widgets)
	w := c.Local("test")
	must(w.Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "author"}, Rules: []rbacv1.PolicyRule{
		{Verbs: []string{"*"}, APIGroups: []string{registration.GroupName}, Resources: []string{"*"}},
		{Verbs: []string{"get", "list"}, APIGroups: []string{"example.com"}, Resources: []string{"widgets"}},
	}}))
	must(w.Create(ctx, bindTo("author", "ann")))
	must(w.Create(ctx, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "one"}, Rules: []rbacv1.PolicyRule{
		{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{"mine"}}}}))
	must(w.Create(ctx, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "one"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "one"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "ann"}}}))
	admin, ann := c.client.AdmissionregistrationV1(), c.clientAs(t, "ann").AdmissionregistrationV1()

	validating := func(name string, kind *registration.ParamKind) *registration.ValidatingAdmissionPolicy {
		return &registration.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: registration.ValidatingAdmissionPolicySpec{
			ParamKind: kind, MatchConstraints: aboutConfigMaps(), Validations: []registration.Validation{{Expression: "true"}}}}
	}
	mutating := func(name string, kind *registration.ParamKind) *registration.MutatingAdmissionPolicy {
		return &registration.MutatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: registration.MutatingAdmissionPolicySpec{
			ParamKind: kind, MatchConstraints: aboutConfigMaps(), ReinvocationPolicy: registration.NeverReinvocationPolicy, Mutations: []registration.Mutation{{
				PatchType: registration.PatchTypeApplyConfiguration, ApplyConfiguration: &registration.ApplyConfiguration{Expression: "Object{}"}}}}}
	}
	refused := func(what string, err error, path, text string) {
		t.Helper()
		var status apierrors.APIStatus
		if !apierrors.IsInvalid(err) || !errors.As(err, &status) || status.Status().Details == nil || len(status.Status().Details.Causes) != 1 {
			t.Errorf("%s: %v, want one cause", what, err)
			return
		}
		if cause := status.Status().Details.Causes[0]; cause.Field != path || cause.Type != metav1.CauseTypeForbidden || !strings.Contains(cause.Message, text) {
			t.Errorf("%s: %+v, want %s: %s", what, cause, path, text)
		}
	}
	secrets, custom, unknown := &registration.ParamKind{APIVersion: "v1", Kind: "Secret"}, &registration.ParamKind{APIVersion: "example.com/v1", Kind: "Widget"}, &registration.ParamKind{APIVersion: "example.com/v1", Kind: "Gadget"}
	const all = `must have "get" permission on all objects of the referenced paramKind (kind=Secret, apiVersion=v1)`

	_, err := ann.ValidatingAdmissionPolicies().Create(ctx, validating("secrets", secrets), metav1.CreateOptions{})
	refused("a policy on secrets", err, "spec.paramKind", all)
	_, err = ann.MutatingAdmissionPolicies().Create(ctx, mutating("secrets", secrets), metav1.CreateOptions{})
	refused("a mutating policy on secrets", err, "spec.paramKind", all)
	_, err = ann.ValidatingAdmissionPolicies().Create(ctx, validating("unknown", unknown), metav1.CreateOptions{})
	refused("a policy on a kind that nobody knows", err, "spec.paramKind", "kind=Gadget")
	must(ann.ValidatingAdmissionPolicies().Create(ctx, validating("widgets", custom), metav1.CreateOptions{}))
	_, err = ann.ValidatingAdmissionPolicies().Patch(ctx, "widgets", types.MergePatchType, []byte(`{"spec":{"paramKind":{"apiVersion":"v1","kind":"Secret"}}}`), metav1.PatchOptions{})
	refused("a policy that goes over to secrets", err, "spec.paramKind", all)
	must(admin.ValidatingAdmissionPolicies().Create(ctx, validating("secrets", secrets), metav1.CreateOptions{}))
	if _, err = ann.ValidatingAdmissionPolicies().Patch(ctx, "secrets", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{}); err != nil {
		t.Errorf("a policy whose parameters stay: %v", err)
	}
	must(admin.MutatingAdmissionPolicies().Create(ctx, mutating("secrets", secrets), metav1.CreateOptions{}))

	ref := func(namespace, name string) *registration.ParamRef {
		r := &registration.ParamRef{Namespace: namespace, Name: name, ParameterNotFoundAction: ptr.To(registration.DenyAction)}
		if name == "" {
			r.Selector = &metav1.LabelSelector{}
		}
		return r
	}
	for _, tc := range []struct{ policy, namespace, name, err string }{
		{"secrets", "default", "mine", ""},
		{"secrets", "default", "yours", `does not have "get" permission on the object referenced by paramRef`},
		{"secrets", "kube-system", "mine", `does not have "get" permission`},
		{"secrets", "", "mine", `does not have "get" permission`},
		{"secrets", "default", "", `does not have "list" permission`},
		{"widgets", "", "any", ""},
		{"widgets", "", "", ""},
		{"none", "default", "mine", `does not have "get" permission`},
	} {
		what := fmt.Sprintf("binding of %s to %s/%s", tc.policy, tc.namespace, tc.name)
		_, err := ann.ValidatingAdmissionPolicyBindings().Create(ctx, &registration.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{GenerateName: "b-"},
			Spec: registration.ValidatingAdmissionPolicyBindingSpec{PolicyName: tc.policy, ParamRef: ref(tc.namespace, tc.name), ValidationActions: []registration.ValidationAction{registration.Audit}}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if tc.err == "" && err != nil {
			t.Errorf("%s: %v", what, err)
		} else if tc.err != "" {
			refused(what, err, "spec.paramRef", tc.err)
		}
		if tc.policy != "secrets" {
			continue
		}
		_, err = ann.MutatingAdmissionPolicyBindings().Create(ctx, &registration.MutatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{GenerateName: "b-"},
			Spec: registration.MutatingAdmissionPolicyBindingSpec{PolicyName: tc.policy, ParamRef: ref(tc.namespace, tc.name)}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if tc.err == "" && err != nil {
			t.Errorf("mutating %s: %v", what, err)
		} else if tc.err != "" {
			refused("mutating "+what, err, "spec.paramRef", tc.err)
		}
	}
}
