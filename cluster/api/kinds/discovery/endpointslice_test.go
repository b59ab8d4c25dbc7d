package discovery

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

func TestEndpointSlice(t *testing.T) {
	t.Parallel()
	many := make([]discoveryv1.Endpoint, maxEndpoints+1)
	for _, tc := range []struct {
		name  string
		slice discoveryv1.EndpointSlice
		want  []string
	}{
		{"good", discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, NodeName: ptr.To("n")}}, Ports: []discoveryv1.EndpointPort{{Port: ptr.To(int32(80))}}}, nil},
		{"no type", discoveryv1.EndpointSlice{}, []string{"FieldValueRequired addressType"}},
		{"addresses", discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{
			{}, {Addresses: []string{"fd00::1"}}, {Addresses: []string{"127.0.0.1"}}, {Addresses: []string{"x"}, Hostname: ptr.To("a.b"), NodeName: ptr.To("N")},
		}}, []string{
			"FieldValueRequired endpoints[0].addresses", "FieldValueInvalid endpoints[1].addresses[0]", "FieldValueInvalid endpoints[2].addresses[0]",
			"FieldValueInvalid endpoints[3].addresses[0]", "FieldValueInvalid endpoints[3].hostname", "FieldValueInvalid endpoints[3].nodeName",
		}},
		{"name instead of address", discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeFQDN, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"a.example.com"}}}}, nil},
		{"too many", discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Endpoints: many}, []string{"FieldValueTooMany endpoints"}},
		{"ports", discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{
			{}, {Name: ptr.To(""), Port: ptr.To(int32(0))}, {Name: ptr.To("A_"), Protocol: ptr.To(corev1.Protocol("x"))},
		}}, []string{"FieldValueDuplicate ports[1].name", "FieldValueInvalid ports[2].name", "FieldValueNotSupported ports[2].protocol"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Create(EndpointSlice(), &tc.slice), tc.want...)
		})
	}
	v4, v6 := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4}, &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv6}
	kindtest.Want(t, kindtest.Update(EndpointSlice(), v6, v4), "FieldValueInvalid addressType")
	if !EndpointSlice().SpecChanged(v6, v4) || EndpointSlice().SpecChanged(v4, v4) {
		t.Error("generation")
	}
}

func TestEndpointSliceRow(t *testing.T) {
	t.Parallel()
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "web-x", CreationTimestamp: metav1.NewTime(time.Now().Add(-30 * time.Second))},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}}, {Addresses: []string{"10.0.0.2"}}, {Addresses: []string{"10.0.0.3"}}, {Addresses: []string{"10.0.0.4"}}},
		Ports:       []discoveryv1.EndpointPort{{Port: ptr.To(int32(80))}, {}},
	}
	if diff := cmp.Diff([]any{"web-x", "IPv4", "80,*", "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more...", "30s"}, EndpointSlice().Row(s)); diff != "" {
		t.Error(diff)
	}
}
