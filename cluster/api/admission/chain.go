package admission

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
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
	// Clock paces the wait for a service account. Required.
	Clock clock.WithTicker
}

// Chain returns all plugins, in the order in which Kubernetes runs them.
func Chain(cfg Config) admission.Interface {
	return admission.NewChainHandler(
		newLifecycle(cfg.Reader),
		newNodeRestriction(cfg.Reader),
		newTaintNodes(),
		newServiceAccounts(cfg),
		newPriority(cfg.Reader),
		newTolerations(),
		newEscalation(cfg.Escalation),
	)
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
