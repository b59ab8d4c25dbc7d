package admissionregistration

import (
	"context"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

type validatingHooks = admissionv1.ValidatingWebhookConfiguration

// ValidatingWebhookConfiguration describes admissionregistration.k8s.io/v1
// ValidatingWebhookConfiguration.
func ValidatingWebhookConfiguration() kind.Kind {
	return kind.Kind{
		GVK:        admissionv1.SchemeGroupVersion.WithKind("ValidatingWebhookConfiguration"),
		Resource:   "validatingwebhookconfigurations",
		Singular:   "validatingwebhookconfiguration",
		Categories: []string{"api-extensions"},
		New:        func() kind.Object { return &validatingHooks{} },
		NewList:    func() runtime.Object { return &admissionv1.ValidatingWebhookConfigurationList{} },

		NeedsResourceVersion: true,
		Default: func(obj kind.Object) {
			hooks := obj.(*validatingHooks).Webhooks
			for i := range hooks {
				h := &hooks[i]
				defaultHook(&h.FailurePolicy, &h.MatchPolicy, &h.TimeoutSeconds, &h.NamespaceSelector, &h.ObjectSelector, h.Rules, &h.ClientConfig)
			}
		},
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateHooks(obj.(*validatingHooks).Webhooks, nil)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			return validateHooks(obj.(*validatingHooks).Webhooks, hookExpressions(old.(*validatingHooks).Webhooks))
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*validatingHooks).Webhooks, old.(*validatingHooks).Webhooks)
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Int("Webhooks", "Webhooks indicates the number of webhooks registered in this configuration"),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			c := obj.(*validatingHooks)
			return []any{c.Name, int64(len(c.Webhooks)), table.Since(c.CreationTimestamp)}
		},
	}
}
