package admission

import (
	"context"

	certificatesv1 "k8s.io/api/certificates/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/resourcequota"
	"github.com/troupe-run/troupe/cluster/auth"
)

// Config is what the plugins decide by.
type Config struct {
	// Reader is the state of the cluster. Required.
	Reader objects.Reader
	// Writer writes into quotas what was charged. Required.
	Writer objects.Writer
	// Books count what quotas limit. Required.
	Books *resourcequota.Books
	// Escalation checks what roles and bindings grant. Required.
	Escalation *auth.Escalation
	// Authorizer says who may approve and sign certificates, and change owners. Required.
	Authorizer authorizer.Authorizer
	// Mapper knows which resource a kind is served as. Required.
	Mapper meta.RESTMapper
	// Outside is what webhooks and policies need, once there are any. Required then.
	Outside *Outside
	// Clock paces the wait for a service account. Required.
	Clock clock.WithTicker
}

// Plugins is the chain of all plugins.
type Plugins struct {
	admission.MutationInterface
	validate admission.ValidationInterface
	// names of the plugins, in their order.
	names    []string
	security *podSecurity
	policies validatingOutside
	webhooks validatingOutside
	books    *resourcequota.Books
}

// Chain returns all plugins, in the order in which Kubernetes runs them.
func Chain(cfg Config) (*Plugins, error) {
	p := &Plugins{books: cfg.Books}
	var err error
	if p.security, err = newPodSecurity(cfg.Reader); err != nil {
		return nil, err
	}
	p.policies, p.webhooks = newValidatingPolicies(cfg), newValidatingWebhooks(cfg)
	var chain []admission.Interface
	for _, plugin := range []struct {
		name string
		admission.Interface
	}{
		{"NamespaceLifecycle", newLifecycle(cfg.Reader)},
		{"LimitRanger", newLimitRanger(cfg.Reader)},
		{"ServiceAccount", newServiceAccounts(cfg)},
		{"NodeRestriction", newNodeRestriction(cfg.Reader)},
		{"TaintNodesByCondition", newTaintNodes()},
		{"PodSecurity", p.security},
		{"Priority", newPriority(cfg.Reader)},
		{"DefaultTolerationSeconds", newTolerations()},
		{"DefaultStorageClass", newStorageClass(cfg.Reader)},
		{"StorageObjectInUseProtection", newInUse()},
		{"OwnerReferencesPermissionEnforcement", newOwners(cfg.Authorizer, cfg.Mapper)},
		{"PersistentVolumeClaimResize", newResize(cfg.Reader)},
		{"RuntimeClass", newRuntimeClass(cfg.Reader)},
		{"CertificateApproval", newApproval(cfg.Authorizer)},
		{"CertificateSigning", newSigning(cfg.Authorizer)},
		{"CertificateSubjectRestriction", newSubjects()},
		{"DefaultIngressClass", newIngressClass(cfg.Reader)},
		{"PodTopologyLabels", newTopology(cfg.Reader)},
		// Kubernetes checks these while it stores roles and policies; to us they are plugins as the others.
		{"RoleEscalation", newEscalation(cfg.Escalation)},
		{"PolicyParams", newParams(cfg)},
		{"MutatingAdmissionPolicy", newMutatingPolicies(cfg)},
		{"MutatingAdmissionWebhook", newMutatingWebhooks(cfg)},
		{"ValidatingAdmissionPolicy", p.policies},
		{"ValidatingAdmissionWebhook", p.webhooks},
		// What is charged last is charged only for what everything else let in.
		{"ResourceQuota", newQuota(cfg.Books, cfg.Writer)},
	} {
		p.names = append(p.names, plugin.name)
		chain = append(chain, plugin.Interface)
	}
	all := admission.NewChainHandler(chain...)
	p.MutationInterface, p.validate = all, all
	return p, nil
}

// Admit runs the plugins that change the object, and all of them again when one that came late
// changed what an earlier one wants to know of.
func (p *Plugins) Admit(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	if err := p.MutationInterface.Admit(ctx, a, o); err != nil {
		return err
	}
	again := a.GetReinvocationContext()
	if !again.ShouldReinvoke() {
		return nil
	}
	again.SetIsReinvoke()
	return p.MutationInterface.Admit(ctx, a, o)
}

// Validate runs the plugins that look at the finished object.
func (p *Plugins) Validate(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	return p.validate.Validate(ctx, a, o)
}

// Validates says whether any plugin looks at finished objects of the resource after such a write by
// the control plane itself. The registry copies objects for validating plugins, which the hot path
// can do without: that of pods are updates.
func (p *Plugins) Validates(res schema.GroupResource, namespace, sub string, op admission.Operation) bool {
	switch {
	case res == podsResource:
		if op == admission.Create && sub == "" || sub == "resize" {
			return true
		}
	case res == claimsResource, res.Group == rbacv1.GroupName, res.Group == schedulingv1.GroupName, res.Group == certificatesv1.GroupName:
		return true
	}
	return p.policies.active() || p.webhooks.active() || p.security.wants(res, namespace) || p.books.Limited(res, namespace)
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
