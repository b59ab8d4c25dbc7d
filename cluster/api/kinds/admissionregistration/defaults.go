package admissionregistration

import (
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// defaultTimeout is how many seconds a webhook has to answer.
const defaultTimeout = 10

// set fills in what was left out.
func set[T any](field **T, value T) {
	if *field == nil {
		*field = ptr.To(value)
	}
}

func defaultRule(r *admissionv1.Rule) { set(&r.Scope, admissionv1.AllScopes) }

func defaultClient(c *admissionv1.WebhookClientConfig) {
	if c.Service != nil {
		set(&c.Service.Port, 443)
	}
}

func defaultMatchResources(m *admissionv1.MatchResources) {
	if m == nil {
		return
	}
	set(&m.MatchPolicy, admissionv1.Equivalent)
	set(&m.NamespaceSelector, metav1.LabelSelector{})
	set(&m.ObjectSelector, metav1.LabelSelector{})
	for _, rules := range [][]admissionv1.NamedRuleWithOperations{m.ResourceRules, m.ExcludeResourceRules} {
		for i := range rules {
			defaultRule(&rules[i].Rule)
		}
	}
}
