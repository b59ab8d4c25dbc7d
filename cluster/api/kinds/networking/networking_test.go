package networking

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

func web(port networkingv1.ServiceBackendPort) networkingv1.IngressBackend {
	return networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "web", Port: port}}
}

func testIngress(change ...func(*networkingv1.Ingress)) *networkingv1.Ingress {
	in := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{
		Host: "a.example.com", IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{
			{Path: "/", PathType: ptr.To(networkingv1.PathTypePrefix), Backend: web(networkingv1.ServiceBackendPort{Number: 80})},
		}}},
	}}}}
	for _, c := range change {
		c(in)
	}
	return in
}

func TestIngress(t *testing.T) {
	t.Parallel()
	k := Ingress()
	path := func(in *networkingv1.Ingress) *networkingv1.HTTPIngressPath { return &in.Spec.Rules[0].HTTP.Paths[0] }
	const at = "spec.rules[0].http.paths[0]."
	for name, tc := range map[string]struct {
		change func(*networkingv1.Ingress)
		want   []string
	}{
		"good":         {func(*networkingv1.Ingress) {}, nil},
		"nothing":      {func(in *networkingv1.Ingress) { in.Spec.Rules = nil }, []string{"FieldValueInvalid spec"}},
		"wildcard":     {func(in *networkingv1.Ingress) { in.Spec.Rules[0].Host = "*.example.com" }, nil},
		"address":      {func(in *networkingv1.Ingress) { in.Spec.Rules[0].Host = "10.0.0.1" }, []string{"FieldValueInvalid spec.rules[0].host"}},
		"no path type": {func(in *networkingv1.Ingress) { path(in).PathType = nil }, []string{"FieldValueRequired " + at + "pathType"}},
		"path type":    {func(in *networkingv1.Ingress) { path(in).PathType = ptr.To(networkingv1.PathType("Regexp")) }, []string{"FieldValueNotSupported " + at + "pathType"}},
		"paths":        {func(in *networkingv1.Ingress) { path(in).Path = "a//b/.." }, []string{"FieldValueInvalid " + at + "path", "FieldValueInvalid " + at + "path", "FieldValueInvalid " + at + "path"}},
		"no paths":     {func(in *networkingv1.Ingress) { in.Spec.Rules[0].HTTP.Paths = nil }, []string{"FieldValueRequired spec.rules[0].http.paths"}},
		"no backend":   {func(in *networkingv1.Ingress) { path(in).Backend = networkingv1.IngressBackend{} }, []string{"FieldValueInvalid " + at + "backend"}},
		"no port":      {func(in *networkingv1.Ingress) { path(in).Backend.Service.Port.Number = 0 }, []string{"FieldValueRequired " + at + "backend"}},
		"two ports":    {func(in *networkingv1.Ingress) { path(in).Backend.Service.Port.Name = "http" }, []string{"FieldValueInvalid " + at + "backend"}},
		"service name": {func(in *networkingv1.Ingress) { path(in).Backend.Service.Name = "a_b" }, []string{"FieldValueInvalid " + at + "backend.service.name"}},
		"tls": {func(in *networkingv1.Ingress) {
			in.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"A"}, SecretName: "B"}}
		}, []string{"FieldValueInvalid spec.tls[0].hosts[0]", "FieldValueInvalid spec.tls[0].secretName"}},
		"two classes": {func(in *networkingv1.Ingress) {
			in.Annotations, in.Spec.IngressClassName = map[string]string{classAnnotation: "a"}, ptr.To("b")
		}, []string{"FieldValueInvalid annotations.kubernetes.io/ingress.class"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Create(k, testIngress(tc.change)), tc.want...)
		})
	}
	in := testIngress(func(in *networkingv1.Ingress) {
		for _, host := range []string{"b", "c", "d", "e"} {
			in.Spec.Rules = append(in.Spec.Rules, networkingv1.IngressRule{Host: host})
		}
		in.Spec.TLS = []networkingv1.IngressTLS{{}}
		in.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: "192.0.2.1"}, {Hostname: "lb"}}
	})
	if diff := cmp.Diff([]any{"web", "<none>", "a.example.com,b,c + 2 more...", "192.0.2.1,lb", "80, 443", "<unknown>"}, k.Row(in)); diff != "" {
		t.Error(diff)
	}
	in.Status.LoadBalancer.Ingress[0].IP, in.Status.LoadBalancer.Ingress[1].Hostname = "x", "192.0.2.1"
	kindtest.Want(t, kindtest.Sub(k.Status, in, in.DeepCopy()), "FieldValueInvalid status.loadBalancer.ingress[0].ip", "FieldValueInvalid status.loadBalancer.ingress[1].hostname")
}

func TestIngressClass(t *testing.T) {
	t.Parallel()
	k := IngressClass()
	c := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: networkingv1.IngressClassSpec{
		Controller: "example.com/ingress", Parameters: &networkingv1.IngressClassParametersReference{APIGroup: ptr.To("example.com"), Kind: "Config", Name: "x"}}}
	kindtest.Want(t, kindtest.Create(k, c))
	if *c.Spec.Parameters.Scope != "Cluster" {
		t.Errorf("scope %s", *c.Spec.Parameters.Scope)
	}
	if diff := cmp.Diff([]any{"c", "example.com/ingress", "Config.example.com/x", "<unknown>"}, k.Row(c)); diff != "" {
		t.Error(diff)
	}
	bad := c.DeepCopy()
	bad.Spec.Controller, bad.Spec.Parameters.Scope = "", ptr.To("Namespace")
	kindtest.Want(t, kindtest.Create(k, bad), "FieldValueRequired spec.controller", "FieldValueRequired spec.parameters.namespace")
	changed := c.DeepCopy()
	changed.Spec.Controller, changed.Spec.Parameters.Namespace = "example.com/other", ptr.To("ns")
	kindtest.Want(t, kindtest.Update(k, changed, c), "FieldValueInvalid spec.controller", "FieldValueForbidden spec.parameters.namespace")
}

func TestNetworkPolicy(t *testing.T) {
	t.Parallel()
	k := NetworkPolicy()
	all := &metav1.LabelSelector{}
	p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: networkingv1.NetworkPolicySpec{
		Egress: []networkingv1.NetworkPolicyEgressRule{{Ports: []networkingv1.NetworkPolicyPort{{Port: ptr.To(intstr.FromInt32(53))}}}},
	}}
	kindtest.Want(t, kindtest.Create(k, p))
	if diff := cmp.Diff([]networkingv1.PolicyType{"Ingress", "Egress"}, p.Spec.PolicyTypes); diff != "" || *p.Spec.Egress[0].Ports[0].Protocol != "TCP" {
		t.Error(diff, p.Spec.Egress[0].Ports[0])
	}
	bad := &networkingv1.NetworkPolicy{Spec: networkingv1.NetworkPolicySpec{
		PolicyTypes: []networkingv1.PolicyType{"Sideways"},
		Ingress: []networkingv1.NetworkPolicyIngressRule{{
			Ports: []networkingv1.NetworkPolicyPort{
				{EndPort: ptr.To[int32](5)}, {Port: ptr.To(intstr.FromInt32(80)), EndPort: ptr.To[int32](5)}, {Port: ptr.To(intstr.FromString("http")), EndPort: ptr.To[int32](5)}},
			From: []networkingv1.NetworkPolicyPeer{
				{}, {PodSelector: all, IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8"}},
				{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8", Except: []string{"10.1.0.0/16", "11.0.0.0/16", "10.0.0.0/8"}}}, {IPBlock: &networkingv1.IPBlock{CIDR: "ten"}}},
		}},
	}}
	kindtest.Want(t, kindtest.Create(k, bad),
		"FieldValueNotSupported spec.policyTypes[0]", "FieldValueInvalid spec.ingress[0].ports[0].endPort", "FieldValueInvalid spec.ingress[0].ports[1].endPort",
		"FieldValueInvalid spec.ingress[0].ports[2].endPort", "FieldValueRequired spec.ingress[0].from[0]", "FieldValueForbidden spec.ingress[0].from[1]",
		"FieldValueInvalid spec.ingress[0].from[2].ipBlock.except[1]", "FieldValueInvalid spec.ingress[0].from[2].ipBlock.except[2]", "FieldValueInvalid spec.ingress[0].from[3].ipBlock.cidr")
}

func TestIPAddress(t *testing.T) {
	t.Parallel()
	k := IPAddress()
	address := func(ref *networkingv1.ParentReference) *networkingv1.IPAddress {
		return &networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "10.0.0.1"}, Spec: networkingv1.IPAddressSpec{ParentRef: ref}}
	}
	good := address(&networkingv1.ParentReference{Resource: "services", Namespace: "default", Name: "web"})
	kindtest.Want(t, kindtest.Create(k, good))
	kindtest.Want(t, kindtest.Create(k, address(nil)), "FieldValueRequired spec.parentRef")
	kindtest.Want(t, kindtest.Create(k, address(&networkingv1.ParentReference{Group: "A", Resource: "a/b"})),
		"FieldValueInvalid spec.parentRef.group", "FieldValueInvalid spec.parentRef.resource", "FieldValueRequired spec.parentRef.name")
	kindtest.Want(t, kindtest.Update(k, address(&networkingv1.ParentReference{Resource: "services", Name: "b"}), good), "FieldValueInvalid spec.parentRef")
	if diff := cmp.Diff([]any{"10.0.0.1", "services/default/web"}, k.Row(good)); diff != "" {
		t.Error(diff)
	}
	for name, ok := range map[string]bool{"10.0.0.1": true, "fd00::1": true, "010.0.0.1": false, "fd00:0::1": false, "web": false} {
		if got := len(k.ValidateName(name, false)) == 0; got != ok {
			t.Errorf("name %s: good %t, want %t", name, got, ok)
		}
	}
}

func TestServiceCIDR(t *testing.T) {
	t.Parallel()
	k := ServiceCIDR()
	of := func(cidrs ...string) *networkingv1.ServiceCIDR {
		return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: cidrs}}
	}
	for name, tc := range map[string]struct {
		cidrs []string
		want  []string
	}{
		"one":              {[]string{"10.0.0.0/24"}, nil},
		"both families":    {[]string{"10.0.0.0/24", "fd00::/112"}, nil},
		"none":             {nil, []string{"FieldValueRequired spec.cidrs"}},
		"three":            {[]string{"10.0.0.0/24", "fd00::/112", "10.1.0.0/24"}, []string{"FieldValueInvalid spec.cidrs"}},
		"one family":       {[]string{"10.0.0.0/24", "10.1.0.0/24"}, []string{"FieldValueInvalid spec.cidrs"}},
		"not a range":      {[]string{"10.0.0.0"}, []string{"FieldValueInvalid spec.cidrs[0]"}},
		"with host bits":   {[]string{"10.0.0.1/24"}, []string{"FieldValueInvalid spec.cidrs[0]"}},
		"not as it should": {[]string{"fd00:0::/112"}, []string{"FieldValueInvalid spec.cidrs[0]"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Create(k, of(tc.cidrs...)), tc.want...)
		})
	}
	kindtest.Want(t, kindtest.Update(k, of("10.0.0.0/24", "fd00::/112"), of("10.0.0.0/24")))
	kindtest.Want(t, kindtest.Update(k, of("10.1.0.0/24"), of("10.0.0.0/24")), "FieldValueInvalid spec.cidrs[0]")
	kindtest.Want(t, kindtest.Update(k, of("10.0.0.0/24"), of("10.0.0.0/24", "fd00::/112")), "FieldValueInvalid spec.cidrs")
	if diff := cmp.Diff([]any{"a", "10.0.0.0/24,fd00::/112", "<unknown>"}, k.Row(of("10.0.0.0/24", "fd00::/112"))); diff != "" {
		t.Error(diff)
	}
}
