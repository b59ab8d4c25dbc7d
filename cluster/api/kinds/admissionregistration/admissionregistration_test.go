package admissionregistration

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

func rule(resources ...string) admissionv1.RuleWithOperations {
	return admissionv1.RuleWithOperations{Operations: []admissionv1.OperationType{"CREATE"},
		Rule: admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: resources}}
}

func hook(change func(*admissionv1.ValidatingWebhook)) *validatingHooks {
	h := admissionv1.ValidatingWebhook{Name: "a.example.com", Rules: []admissionv1.RuleWithOperations{rule("pods")},
		SideEffects: ptr.To(admissionv1.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"},
		ClientConfig: admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: "ns", Name: "svc"}}}
	if change != nil {
		change(&h)
	}
	return &validatingHooks{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Webhooks: []admissionv1.ValidatingWebhook{h}}
}

func TestHooksAreDefaulted(t *testing.T) {
	t.Parallel()
	c := hook(nil)
	kindtest.Want(t, kindtest.Create(ValidatingWebhookConfiguration(), c))
	h := c.Webhooks[0]
	got := []any{*h.FailurePolicy, *h.MatchPolicy, *h.TimeoutSeconds, *h.NamespaceSelector, *h.ObjectSelector, *h.Rules[0].Scope, *h.ClientConfig.Service.Port}
	want := []any{admissionv1.Fail, admissionv1.Equivalent, int32(10), metav1.LabelSelector{}, metav1.LabelSelector{}, admissionv1.AllScopes, int32(443)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]any{"c", int64(1), "<unknown>"}, ValidatingWebhookConfiguration().Row(c)); diff != "" {
		t.Error(diff)
	}
	m := &mutatingHooks{Webhooks: []admissionv1.MutatingWebhook{{}}}
	MutatingWebhookConfiguration().Default(m)
	if *m.Webhooks[0].ReinvocationPolicy != admissionv1.NeverReinvocationPolicy {
		t.Error(*m.Webhooks[0].ReinvocationPolicy)
	}
	*m.Webhooks[0].ReinvocationPolicy = "Often"
	if errs := kindtest.Errors(kindtest.Create(MutatingWebhookConfiguration(), m)); !strings.Contains(strings.Join(errs, "\n"), "FieldValueNotSupported webhooks[0].reinvocationPolicy") {
		t.Error(errs)
	}
}

func TestHooksAreChecked(t *testing.T) {
	t.Parallel()
	k := ValidatingWebhookConfiguration()
	for name, tc := range map[string]struct {
		change func(*admissionv1.ValidatingWebhook)
		want   []string
	}{
		"name":         {func(h *admissionv1.ValidatingWebhook) { h.Name = "short" }, []string{"FieldValueInvalid webhooks[0].name"}},
		"side effects": {func(h *admissionv1.ValidatingWebhook) { h.SideEffects = nil }, []string{"FieldValueRequired webhooks[0].sideEffects"}},
		"some":         {func(h *admissionv1.ValidatingWebhook) { *h.SideEffects = "Some" }, []string{"FieldValueNotSupported webhooks[0].sideEffects"}},
		"timeout":      {func(h *admissionv1.ValidatingWebhook) { h.TimeoutSeconds = ptr.To[int32](31) }, []string{"FieldValueInvalid webhooks[0].timeoutSeconds"}},
		"no client":    {func(h *admissionv1.ValidatingWebhook) { h.ClientConfig.Service = nil }, []string{"FieldValueRequired webhooks[0].clientConfig"}},
		"plain http": {func(h *admissionv1.ValidatingWebhook) {
			h.ClientConfig = admissionv1.WebhookClientConfig{URL: ptr.To("http://x")}
		}, []string{"FieldValueInvalid webhooks[0].clientConfig.url"}},
		"service path":    {func(h *admissionv1.ValidatingWebhook) { h.ClientConfig.Service.Path = ptr.To("/x//y") }, []string{"FieldValueInvalid webhooks[0].clientConfig.service.path"}},
		"no versions":     {func(h *admissionv1.ValidatingWebhook) { h.AdmissionReviewVersions = nil }, []string{"FieldValueRequired webhooks[0].admissionReviewVersions"}},
		"unknown version": {func(h *admissionv1.ValidatingWebhook) { h.AdmissionReviewVersions = []string{"v7"} }, []string{"FieldValueInvalid webhooks[0].admissionReviewVersions"}},
		"no operation":    {func(h *admissionv1.ValidatingWebhook) { h.Rules[0].Operations = nil }, []string{"FieldValueRequired webhooks[0].rules[0].operations"}},
		"star and more":   {func(h *admissionv1.ValidatingWebhook) { h.Rules[0].APIGroups = []string{"*", "apps"} }, []string{"FieldValueInvalid webhooks[0].rules[0].apiGroups"}},
		"covered":         {func(h *admissionv1.ValidatingWebhook) { h.Rules[0].Resources = []string{"pods/*", "pods/status"} }, []string{"FieldValueInvalid webhooks[0].rules[0].resources[1]"}},
		"all and more":    {func(h *admissionv1.ValidatingWebhook) { h.Rules[0].Resources = []string{"*/*", "pods"} }, []string{"FieldValueInvalid webhooks[0].rules[0].resources"}},
		"selector": {func(h *admissionv1.ValidatingWebhook) {
			h.ObjectSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"a b": ""}}
		}, []string{"FieldValueInvalid webhooks[0].objectSelector.matchLabels"}},
		"condition": {func(h *admissionv1.ValidatingWebhook) {
			h.MatchConditions = []admissionv1.MatchCondition{{Name: "a", Expression: "request.nonsense"}, {Name: "a", Expression: "true"}, {Name: "b", Expression: "1"}, {Expression: " "}}
		}, []string{"FieldValueInvalid webhooks[0].matchConditions[0].expression", "FieldValueDuplicate webhooks[0].matchConditions[1].name",
			"FieldValueInvalid webhooks[0].matchConditions[2].expression", "FieldValueRequired webhooks[0].matchConditions[3].expression", "FieldValueRequired webhooks[0].matchConditions[3].name"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Create(k, hook(tc.change)), tc.want...)
		})
	}
	two := hook(nil)
	two.Webhooks = append(two.Webhooks, two.Webhooks[0])
	kindtest.Want(t, kindtest.Create(k, two), "FieldValueDuplicate webhooks[1].name")
}

func constraints() *admissionv1.MatchResources {
	return &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: rule("pods")}}}
}

func TestValidatingPolicies(t *testing.T) {
	t.Parallel()
	k := ValidatingAdmissionPolicy()
	for name, tc := range map[string]struct {
		change func(*admissionv1.ValidatingAdmissionPolicySpec)
		want   []string
	}{
		"good": {func(s *admissionv1.ValidatingAdmissionPolicySpec) {
			s.ParamKind = &admissionv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"}
			s.Variables = []admissionv1.Variable{{Name: "a", Expression: "object.metadata.name"}, {Name: "b", Expression: "variables.a + 'x'"}}
			s.Validations = []admissionv1.Validation{{Expression: "variables.b == params.data.x", MessageExpression: "'no ' + variables.b"}}
			s.AuditAnnotations = []admissionv1.AuditAnnotation{{Key: "k", ValueExpression: "string(variables.a)"}}
		}, nil},
		"nothing": {func(s *admissionv1.ValidatingAdmissionPolicySpec) { *s = admissionv1.ValidatingAdmissionPolicySpec{} },
			[]string{"FieldValueRequired spec.matchConstraints", "FieldValueRequired spec.validations", "FieldValueRequired spec.auditAnnotations"}},
		"no rules":     {func(s *admissionv1.ValidatingAdmissionPolicySpec) { s.MatchConstraints.ResourceRules = nil }, []string{"FieldValueRequired spec.matchConstraints.resourceRules"}},
		"not bool":     {func(s *admissionv1.ValidatingAdmissionPolicySpec) { s.Validations[0].Expression = "'a'" }, []string{"FieldValueInvalid spec.validations[0].expression"}},
		"no params":    {func(s *admissionv1.ValidatingAdmissionPolicySpec) { s.Validations[0].Expression = "params.x" }, []string{"FieldValueInvalid spec.validations[0].expression"}},
		"message":      {func(s *admissionv1.ValidatingAdmissionPolicySpec) { s.Validations[0].Message = "a\nb" }, []string{"FieldValueInvalid spec.validations[0].message"}},
		"message code": {func(s *admissionv1.ValidatingAdmissionPolicySpec) { s.Validations[0].MessageExpression = "authorizer" }, []string{"FieldValueInvalid spec.validations[0].messageExpression"}},
		"reason": {func(s *admissionv1.ValidatingAdmissionPolicySpec) {
			s.Validations[0].Reason = ptr.To(metav1.StatusReason("Whim"))
		}, []string{"FieldValueNotSupported spec.validations[0].reason"}},
		"variable name": {func(s *admissionv1.ValidatingAdmissionPolicySpec) {
			s.Variables = []admissionv1.Variable{{Name: "for", Expression: "1"}}
		}, []string{"FieldValueInvalid spec.variables[0].name"}},
		"variable later": {func(s *admissionv1.ValidatingAdmissionPolicySpec) {
			s.Variables = []admissionv1.Variable{{Name: "a", Expression: "variables.b"}}
		}, []string{"FieldValueInvalid spec.variables[0].expression"}},
		"param kind": {func(s *admissionv1.ValidatingAdmissionPolicySpec) {
			s.ParamKind = &admissionv1.ParamKind{APIVersion: "a/b/c", Kind: "A_B"}
		}, []string{"FieldValueInvalid spec.paramKind.apiVersion", "FieldValueInvalid spec.paramKind.kind"}},
		"annotations": {func(s *admissionv1.ValidatingAdmissionPolicySpec) {
			s.AuditAnnotations = []admissionv1.AuditAnnotation{{Key: "a", ValueExpression: "1"}, {Key: "a", ValueExpression: "'x'"}, {Key: "a b"}}
		}, []string{"FieldValueInvalid spec.auditAnnotations[0].valueExpression", "FieldValueDuplicate spec.auditAnnotations[1].key",
			"FieldValueInvalid spec.auditAnnotations[2].key", "FieldValueRequired spec.auditAnnotations[2].valueExpression"}},
		"huge": {func(s *admissionv1.ValidatingAdmissionPolicySpec) {
			s.Validations[0].Expression = strings.Repeat("(", 5000) + "true" + strings.Repeat(")", 5000)
		}, []string{"FieldValueInvalid spec.validations[0].expression"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &validatingPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: admissionv1.ValidatingAdmissionPolicySpec{
				MatchConstraints: constraints(), Validations: []admissionv1.Validation{{Expression: "true"}}}}
			tc.change(&p.Spec)
			kindtest.Want(t, kindtest.Create(k, p), tc.want...)
		})
	}
	p := &validatingPolicy{Status: admissionv1.ValidatingAdmissionPolicyStatus{TypeChecking: &admissionv1.TypeChecking{
		ExpressionWarnings: []admissionv1.ExpressionWarning{{FieldRef: "spec.validations[0]", Warning: "w"}, {FieldRef: "[["}}}}}
	kindtest.Want(t, kindtest.Sub(k.Status, p, &validatingPolicy{}),
		"FieldValueInvalid status.typeChecking.expressionWarnings[1].fieldRef", "FieldValueRequired status.typeChecking.expressionWarnings[1].warning")
}

func TestMutatingPolicies(t *testing.T) {
	t.Parallel()
	k := MutatingAdmissionPolicy()
	json := func(x string) admissionv1.Mutation {
		return admissionv1.Mutation{PatchType: admissionv1.PatchTypeJSONPatch, JSONPatch: &admissionv1.JSONPatch{Expression: x}}
	}
	apply := func(x string) admissionv1.Mutation {
		return admissionv1.Mutation{PatchType: admissionv1.PatchTypeApplyConfiguration, ApplyConfiguration: &admissionv1.ApplyConfiguration{Expression: x}}
	}
	for name, tc := range map[string]struct {
		change func(*admissionv1.MutatingAdmissionPolicySpec)
		want   []string
	}{
		"good": {func(s *admissionv1.MutatingAdmissionPolicySpec) {
			s.Mutations = []admissionv1.Mutation{json(`[JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("a/b"), value: "c"}]`),
				apply(`Object{metadata: Object.metadata{labels: {"a": "b"}}}`)}
		}, nil},
		"none":         {func(s *admissionv1.MutatingAdmissionPolicySpec) { s.Mutations = nil }, []string{"FieldValueRequired spec.mutations"}},
		"reinvocation": {func(s *admissionv1.MutatingAdmissionPolicySpec) { s.ReinvocationPolicy = "" }, []string{"FieldValueRequired spec.reinvocationPolicy"}},
		"delete": {func(s *admissionv1.MutatingAdmissionPolicySpec) {
			s.MatchConstraints.ResourceRules[0].Operations[0] = "DELETE"
		}, []string{"FieldValueNotSupported spec.matchConstraints.resourceRules.operations"}},
		"no patch": {func(s *admissionv1.MutatingAdmissionPolicySpec) { s.Mutations[0].JSONPatch = nil }, []string{"FieldValueRequired spec.mutations[0].jsonPatch"}},
		"both": {func(s *admissionv1.MutatingAdmissionPolicySpec) {
			s.Mutations[0].ApplyConfiguration = apply("x").ApplyConfiguration
		}, []string{"FieldValueInvalid spec.mutations[0].applyConfiguration"}},
		"type": {func(s *admissionv1.MutatingAdmissionPolicySpec) { s.Mutations[0].PatchType = "Diff" }, []string{"FieldValueNotSupported spec.mutations[0].patchType"}},
		"not a patch": {func(s *admissionv1.MutatingAdmissionPolicySpec) {
			s.Mutations = []admissionv1.Mutation{json("'a'"), apply("")}
		}, []string{"FieldValueInvalid spec.mutations[0].jsonPatch.expression", "FieldValueRequired spec.mutations[1].applyConfiguration.expression"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &mutatingPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: admissionv1.MutatingAdmissionPolicySpec{
				MatchConstraints: constraints(), ReinvocationPolicy: admissionv1.NeverReinvocationPolicy,
				Mutations: []admissionv1.Mutation{json(`[JSONPatch{op: "remove", path: "/a"}]`)}}}
			tc.change(&p.Spec)
			kindtest.Want(t, kindtest.Create(k, p), tc.want...)
		})
	}
}

func TestBindings(t *testing.T) {
	t.Parallel()
	validating := func(change func(*admissionv1.ValidatingAdmissionPolicyBindingSpec)) kind.Object {
		b := &validatingBinding{Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: "p", ValidationActions: []admissionv1.ValidationAction{"Deny"},
			ParamRef: &admissionv1.ParamRef{Name: "n", ParameterNotFoundAction: ptr.To(admissionv1.DenyAction)}}}
		if change != nil {
			change(&b.Spec)
		}
		return b
	}
	for name, tc := range map[string]struct {
		change func(*admissionv1.ValidatingAdmissionPolicyBindingSpec)
		want   []string
	}{
		"good":      {nil, nil},
		"no policy": {func(s *admissionv1.ValidatingAdmissionPolicyBindingSpec) { s.PolicyName = "" }, []string{"FieldValueRequired spec.policyName"}},
		"no action": {func(s *admissionv1.ValidatingAdmissionPolicyBindingSpec) { s.ValidationActions = nil }, []string{"FieldValueRequired spec.validationActions"}},
		"both": {func(s *admissionv1.ValidatingAdmissionPolicyBindingSpec) {
			s.ValidationActions = []admissionv1.ValidationAction{"Deny", "Warn", "Warn"}
		}, []string{"FieldValueInvalid spec.validationActions", "FieldValueDuplicate spec.validationActions[2]"}},
		"two refs": {func(s *admissionv1.ValidatingAdmissionPolicyBindingSpec) {
			s.ParamRef.Selector = &metav1.LabelSelector{}
		}, []string{"FieldValueForbidden spec.paramRef.name", "FieldValueForbidden spec.paramRef.selector"}},
		"no ref":    {func(s *admissionv1.ValidatingAdmissionPolicyBindingSpec) { s.ParamRef.Name = "" }, []string{"FieldValueRequired spec.paramRef"}},
		"not found": {func(s *admissionv1.ValidatingAdmissionPolicyBindingSpec) { s.ParamRef.ParameterNotFoundAction = nil }, []string{"FieldValueRequired spec.paramRef.parameterNotFoundAction"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Create(ValidatingAdmissionPolicyBinding(), validating(tc.change)), tc.want...)
		})
	}
	m := constraints()
	m.ResourceRules[0].Operations[0] = "DELETE"
	kindtest.Want(t, kindtest.Create(MutatingAdmissionPolicyBinding(), &mutatingBinding{Spec: admissionv1.MutatingAdmissionPolicyBindingSpec{PolicyName: "p", MatchResources: m}}),
		"FieldValueNotSupported spec.matchResources.resourceRules.operations")
	if diff := cmp.Diff([]any{"", "p", "n", "<unknown>"}, ValidatingAdmissionPolicyBinding().Row(validating(nil))); diff != "" {
		t.Error(diff)
	}
}

// TestExpressionsHaveASize: what would take long to compile is refused, unless it is there already.
func TestExpressionsHaveASize(t *testing.T) {
	t.Parallel()
	const refusal = "must not have more than 1000 expressions, or 262144 bytes of them"
	policy := func(validations, text int) *validatingPolicy {
		return &validatingPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: admissionv1.ValidatingAdmissionPolicySpec{
			Validations: slices.Repeat([]admissionv1.Validation{{Expression: strings.Repeat("(", text)}}, validations)}}
	}
	mutations := func(n int) *mutatingPolicy {
		return &mutatingPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: admissionv1.MutatingAdmissionPolicySpec{
			Mutations: slices.Repeat([]admissionv1.Mutation{{PatchType: admissionv1.PatchTypeJSONPatch, JSONPatch: &admissionv1.JSONPatch{Expression: "["}}}, n)}}
	}
	hooks := func(n int) *validatingHooks {
		return hook(func(h *admissionv1.ValidatingWebhook) {
			h.MatchConditions = slices.Repeat([]admissionv1.MatchCondition{{Name: "a", Expression: "("}}, n)
		})
	}
	for name, tc := range map[string]struct {
		kind     kind.Kind
		obj, old kind.Object
		refused  bool
	}{
		"many validations":         {ValidatingAdmissionPolicy(), policy(maxExpressions+1, 1), nil, true},
		"much text":                {ValidatingAdmissionPolicy(), policy(3, maxExpressionText/2), nil, true},
		"not too many":             {ValidatingAdmissionPolicy(), policy(maxExpressions, 1), nil, false},
		"more than before":         {ValidatingAdmissionPolicy(), policy(maxExpressions+1, 1), policy(1, 1), true},
		"too many before":          {ValidatingAdmissionPolicy(), policy(maxExpressions+2, 1), policy(maxExpressions+1, 1), false},
		"many mutations":           {MutatingAdmissionPolicy(), mutations(maxExpressions + 1), nil, true},
		"many conditions of hooks": {ValidatingWebhookConfiguration(), hooks(maxExpressions + 1), nil, true},
	} {
		var got field.ErrorList
		if tc.old == nil {
			got = kindtest.Create(tc.kind, tc.obj)
		} else {
			got = kindtest.Update(tc.kind, tc.obj, tc.old)
		}
		if refused := slices.ContainsFunc(got, func(err *field.Error) bool { return err.Detail == refusal }); refused != tc.refused || refused && len(got) != 1 {
			t.Errorf("%s: refused %v, %d errors", name, refused, len(got))
		}
	}
}
