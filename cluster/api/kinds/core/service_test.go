package core

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

// allocators hand out 10.96.0.1, .2, ... and 30000, 30001, ...
type allocators struct {
	ips   map[string]bool
	ports map[int32]bool
}

func newAllocators() *allocators {
	return &allocators{ips: make(map[string]bool), ports: make(map[int32]bool)}
}

func (a *allocators) AllocateIP(_ context.Context, _ networkingv1.ParentReference, _ corev1.IPFamily, ip string) (string, error) {
	for n := 1; ip == ""; n++ {
		if next := fmt.Sprintf("10.96.0.%d", n); !a.ips[next] {
			ip = next
		}
	}
	if !strings.HasPrefix(ip, "10.96.") {
		return "", fmt.Errorf("provided IP is %w", kind.ErrRange)
	}
	if a.ips[ip] {
		return "", fmt.Errorf("provided IP is %w", kind.ErrAllocated)
	}
	a.ips[ip] = true
	return ip, nil
}

func (a *allocators) AllocateNodePort(_ context.Context, port int32) (int32, error) {
	for n := int32(30000); port == 0; n++ {
		if !a.ports[n] {
			port = n
		}
	}
	if a.ports[port] {
		return 0, fmt.Errorf("provided port is %w", kind.ErrAllocated)
	}
	a.ports[port] = true
	return port, nil
}

func (a *allocators) Own(namespace, name string) (string, bool) {
	return "10.96.255.1", namespace == "default" && name == kind.APIService
}

func (a *allocators) ReleaseIP(ip string)              { delete(a.ips, ip) }
func (a *allocators) ReleaseNodePort(port int32)       { delete(a.ports, port) }
func (a *allocators) DefaultIPFamily() corev1.IPFamily { return corev1.IPv4Protocol }

func testService(change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func ofType(t corev1.ServiceType) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Type = t }
}

// createService plays a whole create, hooks included.
func createService(t *testing.T, a *allocators, s *corev1.Service) *corev1.Service {
	t.Helper()
	defaultService(s)
	if _, err := beginServiceCreate(context.Background(), s, a); err != nil {
		t.Fatal(err)
	}
	kindtest.Want(t, kindtest.Create(Service(), s))
	return s
}

func TestServiceDefaultsAndAllocation(t *testing.T) {
	t.Parallel()
	s := createService(t, newAllocators(), testService(ofType(corev1.ServiceTypeNodePort), func(s *corev1.Service) {
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		s.Spec.Ports = []corev1.ServicePort{{Name: "dns", Port: 53, TargetPort: intstr.FromString("dns")}, {Name: "dns-udp", Port: 53, Protocol: corev1.ProtocolUDP}, {Name: "web", Port: 80, NodePort: 30000}}
	}))
	want := corev1.ServiceSpec{
		Type: corev1.ServiceTypeNodePort, Selector: map[string]string{"app": "web"},
		ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"},
		IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicySingleStack),
		SessionAffinity: corev1.ServiceAffinityClientIP, SessionAffinityConfig: &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr.To(int32(10800))}},
		ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster, InternalTrafficPolicy: ptr.To(corev1.ServiceInternalTrafficPolicyCluster),
		Ports: []corev1.ServicePort{
			{Name: "dns", Port: 53, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("dns"), NodePort: 30001},
			{Name: "dns-udp", Port: 53, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromInt32(53), NodePort: 30001},
			{Name: "web", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(80), NodePort: 30000},
		},
	}
	if diff := cmp.Diff(want, s.Spec); diff != "" {
		t.Errorf("service (-want +got):\n%s", diff)
	}
	headless := createService(t, newAllocators(), testService(func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }))
	if diff := cmp.Diff([]string{"None"}, headless.Spec.ClusterIPs); diff != "" {
		t.Error(diff)
	}
	named := createService(t, newAllocators(), testService(ofType(corev1.ServiceTypeExternalName), func(s *corev1.Service) { s.Spec.ExternalName, s.Spec.Ports = "example.com", nil }))
	if named.Spec.ClusterIP != "" || named.Spec.IPFamilyPolicy != nil || named.Spec.InternalTrafficPolicy != nil {
		t.Errorf("external name: %+v", named.Spec)
	}
	balanced := createService(t, newAllocators(), testService(ofType(corev1.ServiceTypeLoadBalancer), func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}))
	if balanced.Spec.HealthCheckNodePort != 30001 || balanced.Spec.Ports[0].NodePort != 30000 || !*balanced.Spec.AllocateLoadBalancerNodePorts {
		t.Errorf("load balancer: %+v", balanced.Spec)
	}
}

func TestServiceAllocationFails(t *testing.T) {
	t.Parallel()
	a := newAllocators()
	createService(t, a, testService(ofType(corev1.ServiceTypeNodePort)))
	for _, tc := range []struct {
		name   string
		change func(*corev1.Service)
		want   string
	}{
		{"address taken", func(s *corev1.Service) { s.Spec.ClusterIP = "10.96.0.1" }, `spec.clusterIPs: Invalid value: ["10.96.0.1"]: failed to allocate IP 10.96.0.1: provided IP is already allocated`},
		{"address outside", func(s *corev1.Service) { s.Spec.ClusterIP = "10.0.0.1" }, `failed to allocate IP 10.0.0.1: provided IP is not in the valid range`},
		{"port taken", func(s *corev1.Service) { s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30000 }, `spec.ports[0].nodePort: Invalid value: 30000: provided port is already allocated`},
		{"two families", func(s *corev1.Service) { s.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack) }, `this cluster is not configured for dual-stack services`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := testService(tc.change)
			defaultService(s)
			if _, err := beginServiceCreate(context.Background(), s, a); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
			if len(a.ips) != 1 || len(a.ports) != 1 {
				t.Errorf("leaked: %v %v", a.ips, a.ports)
			}
		})
	}
}

func TestServiceTransitions(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		old      func(*corev1.Service)
		change   func(*corev1.Service)
		want     []string
		ip       string
		port     int32
		ips, ups int // addresses and ports held in the end
	}{
		{"applied again without what was allocated", ofType(corev1.ServiceTypeNodePort), func(s *corev1.Service) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.Ports[0].NodePort = "", nil, 0
		}, nil, "10.96.0.1", 30000, 1, 1},
		{"to node port", ofType(corev1.ServiceTypeClusterIP), ofType(corev1.ServiceTypeNodePort), nil, "10.96.0.1", 30000, 1, 1},
		{"to cluster IP", ofType(corev1.ServiceTypeNodePort), ofType(corev1.ServiceTypeClusterIP), nil, "10.96.0.1", 0, 1, 0},
		{"to external name", ofType(corev1.ServiceTypeNodePort), func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.com"
		}, nil, "", 0, 0, 0},
		{"from external name", func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.com"
		},
			ofType(corev1.ServiceTypeClusterIP), nil, "10.96.0.1", 0, 1, 0},
		{"other node port", ofType(corev1.ServiceTypeNodePort), func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 31000 }, nil, "10.96.0.1", 31000, 1, 1},
		{"load balancer to cluster IP", func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
		}, ofType(corev1.ServiceTypeClusterIP), nil, "10.96.0.1", 0, 1, 0},
		{"other address", ofType(corev1.ServiceTypeClusterIP), func(s *corev1.Service) { s.Spec.ClusterIP = "10.96.0.9" },
			[]string{"FieldValueInvalid spec.clusterIPs[0]"}, "10.96.0.9", 0, 1, 0},
		{"headless to address", func(s *corev1.Service) { s.Spec.ClusterIP = "None" }, func(s *corev1.Service) { s.Spec.ClusterIP = "10.96.0.9" },
			[]string{"FieldValueInvalid spec.clusterIPs[0]"}, "10.96.0.9", 0, 0, 0},
		{"headless, of another family", func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.Selector = "None", nil }, func(s *corev1.Service) {
			s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
		}, nil, "None", 0, 0, 0},
		{"health check elsewhere", func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
		}, func(s *corev1.Service) { s.Spec.HealthCheckNodePort = 31000 }, []string{"FieldValueForbidden spec.healthCheckNodePort"}, "10.96.0.1", 30000, 1, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a := newAllocators()
			old := createService(t, a, testService(tc.old))
			s := old.DeepCopy()
			tc.change(s)
			defaultService(s)
			if _, err := beginServiceUpdate(context.Background(), s, old, a); err != nil {
				t.Fatal(err)
			}
			kindtest.Want(t, kindtest.Update(Service(), s, old), tc.want...)
			if len(tc.want) == 0 {
				afterServiceUpdate(s, old, a)
			}
			if s.Spec.ClusterIP != tc.ip || s.Spec.Ports[0].NodePort != tc.port || len(a.ips) != tc.ips || len(a.ports) != tc.ups {
				t.Errorf("%s:%d holding %v %v", s.Spec.ClusterIP, s.Spec.Ports[0].NodePort, a.ips, a.ports)
			}
			if len(tc.want) > 0 {
				return
			}
			if afterServiceDelete(s, a); len(a.ips)+len(a.ports) > 0 {
				t.Errorf("kept after delete: %v %v", a.ips, a.ports)
			}
		})
	}
}

func TestServiceUndo(t *testing.T) {
	t.Parallel()
	a := newAllocators()
	s := testService(ofType(corev1.ServiceTypeNodePort))
	defaultService(s)
	undo, err := beginServiceCreate(context.Background(), s, a)
	if err != nil {
		t.Fatal(err)
	}
	if undo(); len(a.ips)+len(a.ports) > 0 {
		t.Errorf("still held: %v %v", a.ips, a.ports)
	}
}

func TestServiceValidation(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(*corev1.Service)
		want   []string
	}{
		{"no ports", func(s *corev1.Service) { s.Spec.Ports = nil }, []string{"FieldValueRequired spec.ports"}},
		{"headless without ports", func(s *corev1.Service) { s.Spec.Ports, s.Spec.ClusterIP = nil, "None" }, nil},
		{"ports", func(s *corev1.Service) {
			s.Spec.Ports = []corev1.ServicePort{{Port: 80}, {Name: "b", Port: 80}, {Name: "b", Port: 0, Protocol: "ICMP"}, {Name: "C", Port: 1, NodePort: 30000, TargetPort: intstr.FromString("-")}}
		}, []string{
			"FieldValueRequired spec.ports[0].name", "FieldValueDuplicate spec.ports[1]", "FieldValueDuplicate spec.ports[2].name", "FieldValueInvalid spec.ports[2].port", "FieldValueInvalid spec.ports[2].targetPort",
			"FieldValueNotSupported spec.ports[2].protocol", "FieldValueInvalid spec.ports[3].name", "FieldValueForbidden spec.ports[3].nodePort",
			"FieldValueInvalid spec.ports[3].targetPort", "FieldValueInvalid spec.ports[3].targetPort",
		}},
		{"external name", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }, []string{"FieldValueRequired spec.externalName"}},
		{"type", func(s *corev1.Service) { s.Spec.Type = "Tunnel" }, []string{"FieldValueNotSupported spec.type"}},
		{"headless node port", func(s *corev1.Service) { s.Spec.Type, s.Spec.ClusterIP = corev1.ServiceTypeNodePort, "None" }, []string{"FieldValueInvalid spec.clusterIPs[0]"}},
		{"affinity", func(s *corev1.Service) {
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr.To(int32(86401))}}
		}, []string{"FieldValueInvalid spec.sessionAffinityConfig.clientIP.timeoutSeconds"}},
		{"selector", func(s *corev1.Service) { s.Spec.Selector = map[string]string{"a b": "c"} }, []string{"FieldValueInvalid spec.selector"}},
		{"external IPs", func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"127.0.0.1", "myhost", "1.2.3.4"} }, []string{"FieldValueInvalid spec.externalIPs[0]", "FieldValueInvalid spec.externalIPs[1]"}},
		{"only for load balancers", func(s *corev1.Service) {
			s.Spec.LoadBalancerSourceRanges, s.Spec.LoadBalancerClass, s.Spec.AllocateLoadBalancerNodePorts = []string{"1.2.3.0/24"}, ptr.To("a.b/c"), ptr.To(true)
		}, []string{"FieldValueForbidden spec.LoadBalancerSourceRanges", "FieldValueForbidden spec.loadBalancerClass", "FieldValueForbidden spec.allocateLoadBalancerNodePorts"}},
		{"traffic", func(s *corev1.Service) {
			s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, 30000
			s.Spec.InternalTrafficPolicy, s.Spec.TrafficDistribution = ptr.To(corev1.ServiceInternalTrafficPolicy("x")), ptr.To("PreferFar")
		}, []string{
			"FieldValueInvalid spec.externalTrafficPolicy", "FieldValueInvalid spec.healthCheckNodePort", "FieldValueNotSupported spec.internalTrafficPolicy",
			"FieldValueNotSupported spec.trafficDistribution",
		}},
		{"load balancer to the node agent", func(s *corev1.Service) { s.Spec.Type, s.Spec.Ports[0].Port = corev1.ServiceTypeLoadBalancer, 10250 }, []string{"FieldValueInvalid spec.ports[0]"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Create(Service(), testService(tc.change)), tc.want...)
		})
	}
}

func TestServiceRow(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		change func(*corev1.Service)
		want   []any // Type, Cluster-IP, External-IP, Port(s)
	}{
		{ofType(corev1.ServiceTypeClusterIP), []any{"ClusterIP", "10.96.0.1", "<none>", "80/TCP"}},
		{ofType(corev1.ServiceTypeNodePort), []any{"NodePort", "10.96.0.1", "<none>", "80:30000/TCP"}},
		{ofType(corev1.ServiceTypeLoadBalancer), []any{"LoadBalancer", "10.96.0.1", "<pending>", "80:30000/TCP"}},
		{func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalName, s.Spec.Ports = corev1.ServiceTypeExternalName, "example.com", nil
		}, []any{"ExternalName", "<none>", "example.com", "<none>"}},
		{func(s *corev1.Service) { s.Spec.ClusterIP = "None" }, []any{"ClusterIP", "None", "<none>", "80/TCP"}},
	} {
		s := createService(t, newAllocators(), testService(tc.change))
		if diff := cmp.Diff(tc.want, serviceRow(s)[1:5]); diff != "" {
			t.Error(diff)
		}
	}
}

func TestServiceWarnings(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		service corev1.Service
		want    []string
	}{
		"nothing": {corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1"}, SessionAffinity: corev1.ServiceAffinityClientIP}}, nil},
		"headless": {corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "None", ClusterIPs: []string{"None"}, LoadBalancerIP: "1.2.3.4",
			ExternalIPs: []string{"1.2.3.4"}, SessionAffinity: corev1.ServiceAffinityClientIP}},
			[]string{"spec.loadBalancerIP is ignored for headless services", "spec.externalIPs is ignored for headless services", "spec.SessionAffinity is ignored for headless services"}},
		"addresses": {corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1"}, ExternalIPs: []string{"1.2.3.04"},
			LoadBalancerSourceRanges: []string{"10.0.0.1/8"}, ExternalName: "a", TrafficDistribution: ptr.To(corev1.ServiceTrafficDistributionPreferClose)}},
			[]string{`spec.externalIPs[0]: non-standard IP address "1.2.3.04" is invalid: use "1.2.3.4"`,
				"spec.externalIPs is deprecated and may no longer be implemented in some clusters",
				`spec.loadBalancerSourceRanges[0]: CIDR value "10.0.0.1/8" is ambiguous in this context (should be "10.0.0.0/8" or "10.0.0.1/32"?)`,
				`spec.externalName is ignored when spec.type is not "ExternalName"`, `spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"`}},
		"by name": {corev1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"service.kubernetes.io/topology-aware-hints": "auto"}},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "a", ExternalIPs: []string{"1.2.3.4"}}},
			[]string{"annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead", `spec.externalIPs is ignored when spec.type is "ExternalName"`}},
	} {
		if diff := cmp.Diff(tc.want, Service().Warnings(t.Context(), &tc.service, nil)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
