package proxyfeed

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/proto/proxypb"
)

func ptr[T any](v T) *T { return &v }

func TestReduceService(t *testing.T) {
	tests := []struct {
		name   string
		spec   corev1.ServiceSpec
		status corev1.ServiceStatus
		want   *proxypb.Service
	}{
		{"cluster IP",
			corev1.ServiceSpec{ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1", "fd00::1"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080}, {Protocol: corev1.ProtocolUDP, Port: 53}}},
			corev1.ServiceStatus{},
			&proxypb.Service{ClusterIps: []string{"10.96.0.1", "fd00::1"}, Ports: []*proxypb.Port{{Name: "http", Protocol: "TCP", Port: 80, NodePort: 30080}, {Protocol: "UDP", Port: 53}}}},
		{"cluster IP of an old client", corev1.ServiceSpec{ClusterIP: "10.96.0.1"}, corev1.ServiceStatus{}, &proxypb.Service{ClusterIps: []string{"10.96.0.1"}}},
		{"headless", corev1.ServiceSpec{ClusterIP: "None", ClusterIPs: []string{"None"}, PublishNotReadyAddresses: true}, corev1.ServiceStatus{}, &proxypb.Service{Headless: true, PublishNotReady: true}},
		{"external name", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com", ExternalIPs: []string{"192.0.2.1"}}, corev1.ServiceStatus{}, &proxypb.Service{ExternalName: "example.com"}},
		{"affinity by default", corev1.ServiceSpec{SessionAffinity: corev1.ServiceAffinityClientIP}, corev1.ServiceStatus{}, &proxypb.Service{AffinitySeconds: 10800}},
		{"affinity with a time-out",
			corev1.ServiceSpec{SessionAffinity: corev1.ServiceAffinityClientIP, SessionAffinityConfig: &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr(int32(60))}}},
			corev1.ServiceStatus{}, &proxypb.Service{AffinitySeconds: 60}},
		{"policies",
			corev1.ServiceSpec{InternalTrafficPolicy: ptr(corev1.ServiceInternalTrafficPolicyLocal), ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal},
			corev1.ServiceStatus{}, &proxypb.Service{InternalLocal: true, ExternalLocal: true}},
		{"external addresses", corev1.ServiceSpec{ExternalIPs: []string{"192.0.2.1"}},
			corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{
				{IP: "192.0.2.2"}, {Hostname: "lb.example.com"}, {IP: "192.0.2.3", IPMode: ptr(corev1.LoadBalancerIPModeProxy)}}}},
			&proxypb.Service{ExternalIps: []string{"192.0.2.1", "192.0.2.2"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.Name = &proxypb.Name{Namespace: "default", Name: "web"}
			got := reduceService(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: tt.spec, Status: tt.status})
			if diff := cmp.Diff(tt.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestReduceSlice(t *testing.T) {
	in := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(8080))}, {Name: ptr("any")}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.0.0.1"}, Hostname: ptr("pet-0"), NodeName: ptr("node-1")},
			{Addresses: []string{"10.0.0.2"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr(false)}},
			{Addresses: []string{"10.0.0.3"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(true), Terminating: ptr(true)}},
		},
	}
	want := &proxypb.Slice{
		Name: &proxypb.Name{Namespace: "default", Name: "web-1"}, Service: "web",
		Ports: []*proxypb.Port{{Name: "http", Protocol: "TCP", Port: 8080}},
		Endpoints: []*proxypb.Endpoint{
			{Addresses: []string{"10.0.0.1"}, Hostname: "pet-0", Node: "node-1", Ready: true, Serving: true},
			{Addresses: []string{"10.0.0.2"}},
			{Addresses: []string{"10.0.0.3"}, Serving: true, Terminating: true},
		},
	}
	if diff := cmp.Diff(want, reduceSlice(in), protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, change := range map[string]func(*discoveryv1.EndpointSlice){
		"of no service": func(s *discoveryv1.EndpointSlice) { s.Labels = nil },
		"of names":      func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeFQDN },
	} {
		other := in.DeepCopy()
		change(other)
		if got := reduceSlice(other); got != nil {
			t.Errorf("slice %s: %v", name, got)
		}
	}
}
