package networking

import (
	"context"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// NetworkPolicy describes networking.k8s.io/v1 NetworkPolicy.
func NetworkPolicy() kind.Kind {
	return kind.Kind{
		GVK:        networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy"),
		Resource:   "networkpolicies",
		Singular:   "networkpolicy",
		ShortNames: []string{"netpol"},
		Namespaced: true,
		New:        func() kind.Object { return &networkingv1.NetworkPolicy{} },
		NewList:    func() runtime.Object { return &networkingv1.NetworkPolicyList{} },

		Default: func(obj kind.Object) { defaultPolicy(&obj.(*networkingv1.NetworkPolicy).Spec) },
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validatePolicy(&obj.(*networkingv1.NetworkPolicy).Spec)
		},
		Warnings: func(_ context.Context, obj, _ kind.Object) []string {
			return policyWarnings(&obj.(*networkingv1.NetworkPolicy).Spec)
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*networkingv1.NetworkPolicy).Spec, old.(*networkingv1.NetworkPolicy).Spec)
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Pod-Selector", networkingv1.NetworkPolicySpec{}.SwaggerDoc()["podSelector"]),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			p := obj.(*networkingv1.NetworkPolicy)
			return []any{p.Name, table.Selector(&p.Spec.PodSelector), table.Since(p.CreationTimestamp)}
		},
	}
}

// policyWarnings speaks of ranges that are written in a way that not everybody reads the same.
func policyWarnings(spec *networkingv1.NetworkPolicySpec) []string {
	var out []string
	peers := func(list []networkingv1.NetworkPolicyPeer, path *field.Path) {
		for i := range list {
			b := list[i].IPBlock
			if b == nil {
				continue
			}
			at := path.Index(i).Child("ipBlock")
			out = append(out, validation.GetWarningsForCIDR(at.Child("cidr"), b.CIDR)...)
			for j, except := range b.Except {
				out = append(out, validation.GetWarningsForCIDR(at.Child("except").Index(j), except)...)
			}
		}
	}
	for i := range spec.Ingress {
		peers(spec.Ingress[i].From, specPath.Child("ingress").Index(i).Child("from"))
	}
	for i := range spec.Egress {
		peers(spec.Egress[i].To, specPath.Child("egress").Index(i).Child("to"))
	}
	return out
}

func defaultPolicy(spec *networkingv1.NetworkPolicySpec) {
	ports := func(list []networkingv1.NetworkPolicyPort) {
		for i := range list {
			if list[i].Protocol == nil {
				list[i].Protocol = ptr.To(corev1.ProtocolTCP)
			}
		}
	}
	for i := range spec.Ingress {
		ports(spec.Ingress[i].Ports)
	}
	for i := range spec.Egress {
		ports(spec.Egress[i].Ports)
	}
	if len(spec.PolicyTypes) == 0 {
		spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(spec.Egress) > 0 {
			spec.PolicyTypes = append(spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
	}
}

var policyTypes = sets.New(networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress)

func validatePolicy(spec *networkingv1.NetworkPolicySpec) field.ErrorList {
	errs := metavalidation.ValidateLabelSelector(&spec.PodSelector, metavalidation.LabelSelectorValidationOptions{}, specPath.Child("podSelector"))
	rule := func(ports []networkingv1.NetworkPolicyPort, peers []networkingv1.NetworkPolicyPeer, path *field.Path, peersChild string) {
		for i := range ports {
			errs = append(errs, validatePolicyPort(&ports[i], path.Child("ports").Index(i))...)
		}
		for i := range peers {
			errs = append(errs, validatePeer(&peers[i], path.Child(peersChild).Index(i))...)
		}
	}
	for i := range spec.Ingress {
		rule(spec.Ingress[i].Ports, spec.Ingress[i].From, specPath.Child("ingress").Index(i), "from")
	}
	for i := range spec.Egress {
		rule(spec.Egress[i].Ports, spec.Egress[i].To, specPath.Child("egress").Index(i), "to")
	}
	at := specPath.Child("policyTypes")
	if len(spec.PolicyTypes) > policyTypes.Len() {
		return append(errs, field.Invalid(at, spec.PolicyTypes, "may not specify more than two policyTypes"))
	}
	for i, t := range spec.PolicyTypes {
		errs = append(errs, check.OneOfOrBad(t, policyTypes, at.Index(i))...)
	}
	return errs
}

func validatePolicyPort(p *networkingv1.NetworkPolicyPort, path *field.Path) field.ErrorList {
	errs := check.OptionalOneOf(p.Protocol, protocols, path.Child("protocol"))
	at, end := path.Child("port"), path.Child("endPort")
	switch {
	case p.Port == nil:
		if p.EndPort != nil {
			errs = append(errs, field.Invalid(end, *p.EndPort, "may not be specified when `port` is not specified"))
		}
	case p.Port.Type == intstr.Int:
		errs = append(errs, check.Port(p.Port.IntVal, at)...)
		if p.EndPort != nil {
			if *p.EndPort < p.Port.IntVal {
				errs = append(errs, field.Invalid(end, p.Port.IntVal, "must be greater than or equal to `port`"))
			}
			errs = append(errs, check.Port(*p.EndPort, end)...)
		}
	default:
		if p.EndPort != nil {
			errs = append(errs, field.Invalid(end, *p.EndPort, "may not be specified when `port` is non-numeric"))
		}
		errs = append(errs, check.Invalid(p.Port.StrVal, validation.IsValidPortName(p.Port.StrVal), at)...)
	}
	return errs
}

func validatePeer(p *networkingv1.NetworkPolicyPeer, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	pods := metavalidation.ValidateLabelSelector(p.PodSelector, metavalidation.LabelSelectorValidationOptions{}, path.Child("podSelector"))
	errs = append(errs, pods...)
	errs = append(errs, metavalidation.ValidateLabelSelector(p.NamespaceSelector, metavalidation.LabelSelectorValidationOptions{}, path.Child("namespaceSelector"))...)
	selects := p.PodSelector != nil || p.NamespaceSelector != nil
	switch {
	case p.IPBlock == nil && !selects:
		errs = append(errs, field.Required(path, "must specify a peer"))
	case p.IPBlock != nil && selects:
		errs = append(errs, field.Forbidden(path, "may not specify both ipBlock and another peer"))
	}
	if p.IPBlock != nil {
		errs = append(errs, validateBlock(p.IPBlock, path.Child("ipBlock"))...)
	}
	return errs
}

func validateBlock(b *networkingv1.IPBlock, path *field.Path) field.ErrorList {
	at := path.Child("cidr")
	if b.CIDR == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	errs := validation.IsValidCIDRForLegacyField(at, b.CIDR, false, nil)
	whole, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return errs
	}
	for i, except := range b.Except {
		at := path.Child("except").Index(i)
		errs = append(errs, validation.IsValidCIDRForLegacyField(at, except, false, nil)...)
		if part, err := netip.ParsePrefix(except); err == nil && (!whole.Contains(part.Addr()) || part.Bits() <= whole.Bits()) {
			errs = append(errs, field.Invalid(at, except, "must be a strict subset of `cidr`"))
		}
	}
	return errs
}
