package admissionregistration

import (
	"context"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

type mutatingHooks = admissionv1.MutatingWebhookConfiguration

// MutatingWebhookConfiguration describes admissionregistration.k8s.io/v1
// MutatingWebhookConfiguration.
func MutatingWebhookConfiguration() kind.Kind {
	return kind.Kind{
		GVK:        admissionv1.SchemeGroupVersion.WithKind("MutatingWebhookConfiguration"),
		Resource:   "mutatingwebhookconfigurations",
		Singular:   "mutatingwebhookconfiguration",
		Categories: []string{"api-extensions"},
		New:        func() kind.Object { return &mutatingHooks{} },
		NewList:    func() runtime.Object { return &admissionv1.MutatingWebhookConfigurationList{} },

		NeedsResourceVersion: true,
		Default: func(obj kind.Object) {
			hooks := obj.(*mutatingHooks).Webhooks
			for i := range hooks {
				h := &hooks[i]
				defaultHook(&h.FailurePolicy, &h.MatchPolicy, &h.TimeoutSeconds, &h.NamespaceSelector, &h.ObjectSelector, h.Rules, &h.ClientConfig)
				set(&h.ReinvocationPolicy, admissionv1.NeverReinvocationPolicy)
			}
		},
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateMutatingHooks(obj.(*mutatingHooks), nil)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			return validateMutatingHooks(obj.(*mutatingHooks), hookExpressions(asValidating(old.(*mutatingHooks).Webhooks)))
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*mutatingHooks).Webhooks, old.(*mutatingHooks).Webhooks)
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Int("Webhooks", "Webhooks indicates the number of webhooks registered in this configuration"),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			c := obj.(*mutatingHooks)
			return []any{c.Name, int64(len(c.Webhooks)), table.Since(c.CreationTimestamp)}
		},
	}
}

func validateMutatingHooks(c *mutatingHooks, before []string) field.ErrorList {
	errs := validateHooks(asValidating(c.Webhooks), before)
	for i := range c.Webhooks {
		at := field.NewPath("webhooks").Index(i).Child("reinvocationPolicy")
		errs = append(errs, check.OptionalOneOf(c.Webhooks[i].ReinvocationPolicy, reinvocations, at)...)
	}
	return errs
}

// asValidating returns hooks without what is particular to mutation.
func asValidating(in []admissionv1.MutatingWebhook) []admissionv1.ValidatingWebhook {
	out := make([]admissionv1.ValidatingWebhook, len(in))
	for i := range in {
		h := &in[i]
		out[i] = admissionv1.ValidatingWebhook{Name: h.Name, ClientConfig: h.ClientConfig, Rules: h.Rules, FailurePolicy: h.FailurePolicy,
			MatchPolicy: h.MatchPolicy, NamespaceSelector: h.NamespaceSelector, ObjectSelector: h.ObjectSelector, SideEffects: h.SideEffects,
			TimeoutSeconds: h.TimeoutSeconds, AdmissionReviewVersions: h.AdmissionReviewVersions, MatchConditions: h.MatchConditions}
	}
	return out
}
