package admission

import (
	"context"

	certificatesv1 "k8s.io/api/certificates/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/auth"
)

// Config is what the plugins decide by.
type Config struct {
	// Reader is the state of the cluster. Required.
	Reader objects.Reader
	// Escalation checks what roles and bindings grant. Required.
	Escalation *auth.Escalation
	// Authorizer says who may approve and sign certificates. Required.
	Authorizer authorizer.Authorizer
	// Clock paces the wait for a service account. Required.
	Clock clock.WithTicker
}

// Plugins is the chain of all plugins.
type Plugins struct{ admission.MutationInterface }

// Chain returns all plugins, in the order in which Kubernetes runs them.
func Chain(cfg Config) *Plugins {
	return &Plugins{admission.NewChainHandler(
		newLifecycle(cfg.Reader),
		newLimitRanger(cfg.Reader),
		newNodeRestriction(cfg.Reader),
		newTaintNodes(),
		newServiceAccounts(cfg),
		newPriority(cfg.Reader),
		newTolerations(),
		newCertificates(cfg.Authorizer),
		newEscalation(cfg.Escalation),
	)}
}

// Validate runs the plugins that look at the finished object.
func (p *Plugins) Validate(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	if !Validates(a.GetResource().GroupResource(), a.GetSubresource(), a.GetOperation()) {
		return nil
	}
	v, ok := p.MutationInterface.(admission.ValidationInterface)
	if !ok {
		return nil
	}
	return v.Validate(ctx, a, o)
}

// Validates says whether any plugin looks at finished objects of the resource after such a write.
// The registry copies objects for validating plugins, which the hot path can do without: that of
// pods are updates.
func Validates(res schema.GroupResource, sub string, op admission.Operation) bool {
	switch res {
	case podsResource:
		return op == admission.Create && sub == "" || sub == "resize"
	case claimsResource:
		return true
	}
	return res.Group == rbacv1.GroupName || res.Group == schedulingv1.GroupName || res.Group == certificatesv1.GroupName
}

var (
	podsResource     = schema.GroupResource{Resource: "pods"}
	nodesResource    = schema.GroupResource{Resource: "nodes"}
	accountsResource = schema.GroupResource{Resource: "serviceaccounts"}
	leasesResource   = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}
)

// is says whether the request is for the resource and subresource ("" for none).
func is(a admission.Attributes, res schema.GroupResource, sub string) bool {
	return a.GetSubresource() == sub && a.GetResource().GroupResource() == res
}

var _ admission.ValidationInterface = (*Plugins)(nil)
