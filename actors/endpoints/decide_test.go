package endpoints

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

func service(change ...func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "svc"},
		Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.9", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080), Protocol: corev1.ProtocolTCP}}},
	}
	for _, fn := range change {
		fn(svc)
	}
	return svc
}

// readyPod is the n-th pod, at 10.0.0.n.
func readyPod(n int, change ...func(*corev1.Pod)) *corev1.Pod {
	ip := fmt.Sprint("10.0.", n/250, ".", n%250)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("p", n), UID: types.UID(fmt.Sprint("u", n)), Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: "n1"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}, {IP: fmt.Sprintf("fd00::%x", n)}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
	for _, fn := range change {
		fn(p)
	}
	return p
}

func unready(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }
func leaving(p *corev1.Pod) { p.DeletionTimestamp = ptr.To(metav1.NewTime(time.Unix(1, 0))) }
func zoneA(string) string   { return "a" }

func TestEndpointOfAPod(t *testing.T) {
	t.Parallel()
	type conditions struct{ ready, serving, terminating bool }
	publish := func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }
	for _, tc := range []struct {
		name string
		svc  *corev1.Service
		pod  *corev1.Pod
		want conditions
	}{
		{"ready", service(), readyPod(1), conditions{true, true, false}},
		{"unready", service(), readyPod(1, unready), conditions{false, false, false}},
		{"leaving but serving", service(), readyPod(1, leaving), conditions{false, true, true}},
		{"published unready", service(publish), readyPod(1, unready), conditions{true, false, false}},
		{"published leaving", service(publish), readyPod(1, leaving), conditions{true, true, true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			e := endpoint(tc.svc, tc.pod, "10.0.0.1", "a")
			got := conditions{*e.Conditions.Ready, *e.Conditions.Serving, *e.Conditions.Terminating}
			if got != tc.want || *e.NodeName != "n1" || *e.Zone != "a" || e.TargetRef.UID != "u1" || e.Hostname != nil {
				t.Errorf("got %+v of %+v", got, e)
			}
		})
	}
}

func TestHostnameNeedsTheServicesSubdomain(t *testing.T) {
	t.Parallel()
	pod := readyPod(1, func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "web-0", "web" })
	if got := hostname(service(), pod); got != "web-0" {
		t.Errorf("got %q", got)
	}
	pod.Spec.Subdomain = "other"
	if got := hostname(service(), pod); got != "" {
		t.Errorf("got %q for another subdomain", got)
	}
}

func TestPort(t *testing.T) {
	t.Parallel()
	pod := readyPod(1, func(p *corev1.Pod) {
		p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}, {Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP}}}}
		p.Spec.InitContainers = []corev1.Container{
			{Ports: []corev1.ContainerPort{{Name: "init", ContainerPort: 1}}},
			{RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways), Ports: []corev1.ContainerPort{{Name: "side", ContainerPort: 2}}}}
	})
	for _, tc := range []struct {
		name string
		port corev1.ServicePort
		want int32
		ok   bool
	}{
		{"number", corev1.ServicePort{Port: 80, TargetPort: intstr.FromInt32(9)}, 9, true},
		{"unset is the port itself", corev1.ServicePort{Port: 80}, 80, true},
		{"name", corev1.ServicePort{Port: 80, TargetPort: intstr.FromString("web")}, 8080, true},
		{"name of another protocol", corev1.ServicePort{Port: 80, TargetPort: intstr.FromString("dns")}, 0, false},
		{"sidecar", corev1.ServicePort{Port: 80, TargetPort: intstr.FromString("side")}, 2, true},
		{"init container", corev1.ServicePort{Port: 80, TargetPort: intstr.FromString("init")}, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got, ok := port(pod, tc.port); got != tc.want || ok != tc.ok {
				t.Errorf("got %d, %v", got, ok)
			}
		})
	}
}

// shape tells of each group how many endpoints it has.
func shape(g grouped) map[string]int {
	out := make(map[string]int)
	for _, key := range g.order {
		out[key] = len(g.byKey[key].endpoints)
	}
	return out
}

func TestWanted(t *testing.T) {
	t.Parallel()
	named := func(n int32) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: n}}}}
		}
	}
	for _, tc := range []struct {
		name string
		svc  *corev1.Service
		pods []*corev1.Pod
		want map[string]int
	}{
		{name: "unready and leaving ones too, ended and addressless not", svc: service(),
			pods: []*corev1.Pod{readyPod(1), readyPod(2, unready), readyPod(3, leaving), readyPod(4, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }), readyPod(5, func(p *corev1.Pod) { p.Status.PodIP, p.Status.PodIPs = "", nil })},
			want: map[string]int{`IPv4 "http" 8080 TCP ""`: 3}},
		{name: "nobody is a group too", svc: service(), want: map[string]int{"IPv4 ": 0}},
		{name: "both families", svc: service(func(s *corev1.Service) { s.Spec.IPFamilies = append(s.Spec.IPFamilies, corev1.IPv6Protocol) }), pods: []*corev1.Pod{readyPod(1)},
			want: map[string]int{`IPv4 "http" 8080 TCP ""`: 1, `IPv6 "http" 8080 TCP ""`: 1}},
		{name: "named ports that differ", svc: service(func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("web") }), pods: []*corev1.Pod{readyPod(1, named(80)), readyPod(2, named(81)), readyPod(3)},
			want: map[string]int{`IPv4 "http" 80 TCP ""`: 1, `IPv4 "http" 81 TCP ""`: 1, "IPv4 ": 1}},
		{name: "headless without ports", svc: service(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.Ports = corev1.ClusterIPNone, nil }), pods: []*corev1.Pod{readyPod(1)},
			want: map[string]int{"IPv4 ": 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, _ := wanted(tc.svc, tc.pods, zoneA)
			if diff := cmp.Diff(tc.want, shape(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLabels(t *testing.T) {
	t.Parallel()
	svc := service(func(s *corev1.Service) {
		s.Spec.ClusterIP, s.Labels = corev1.ClusterIPNone, map[string]string{"team": "a", discoveryv1.LabelManagedBy: "me"}
	})
	_, like := wanted(svc, nil, zoneA)
	want := map[string]string{"team": "a", discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io", discoveryv1.LabelServiceName: "web", corev1.IsHeadlessService: ""}
	if diff := cmp.Diff(want, like.Labels); diff != "" {
		t.Error(diff)
	}
	if ref := like.OwnerReferences[0]; ref.UID != "svc" || ref.Kind != "Service" || !*ref.Controller || like.GenerateName != "web-" {
		t.Errorf("owner %+v, name %s", ref, like.GenerateName)
	}
}

// TestArrange starts with slices of some pods each and says what becomes of them.
func TestArrange(t *testing.T) {
	t.Parallel()
	pods := func(from, to int) (out []*corev1.Pod) {
		for n := from; n < to; n++ {
			out = append(out, readyPod(n))
		}
		return out
	}
	for _, tc := range []struct {
		name   string
		have   [][]*corev1.Pod
		want   []*corev1.Pod
		create []int          // sizes
		update map[string]int // sizes by name
		remove []string
	}{
		{name: "first ones", want: pods(0, 250), create: []int{100, 100, 50}},
		{name: "nobody", create: []int{0}},
		{name: "no change", have: [][]*corev1.Pod{pods(0, 50), pods(50, 90)}, want: pods(0, 90)},
		{name: "one more goes into the fullest with room", have: [][]*corev1.Pod{pods(0, 50), pods(50, 110), pods(110, 210)}, want: pods(0, 211), update: map[string]int{"s1": 61}},
		{name: "one more goes where one leaves", have: [][]*corev1.Pod{pods(1, 50), pods(50, 110)}, want: append(pods(2, 110), readyPod(200)), update: map[string]int{"s0": 49}},
		{name: "more than fit", have: [][]*corev1.Pod{pods(0, 95)}, want: pods(0, 202), update: nil, create: []int{100, 7}},
		{name: "an emptied slice goes", have: [][]*corev1.Pod{pods(0, 50), pods(50, 60)}, want: pods(0, 50), remove: []string{"s1"}},
		{name: "an emptied slice is used again", have: [][]*corev1.Pod{pods(0, 100), pods(100, 101)}, want: append(pods(0, 100), pods(102, 140)...), update: map[string]int{"s1": 38}},
		{name: "the last one leaves a note", have: [][]*corev1.Pod{pods(0, 2)}, create: []int{0}, remove: []string{"s0"}},
		{name: "a change of state", have: [][]*corev1.Pod{pods(0, 2), pods(2, 4)}, want: []*corev1.Pod{readyPod(0), readyPod(1), readyPod(2, unready), readyPod(3)}, update: map[string]int{"s1": 2}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var have []*discoveryv1.EndpointSlice
			for i, p := range tc.have {
				want, like := wanted(service(), p, zoneA)
				slice := newSlice(*want.byKey[want.order[0]], want.byKey[want.order[0]].endpoints, like)
				slice.Name = fmt.Sprint("s", i)
				have = append(have, slice)
			}
			want, like := wanted(service(), tc.want, zoneA)
			got := arrange(have, want, like)
			var create []int
			for _, s := range got.create {
				create = append(create, len(s.Endpoints))
			}
			var update map[string]int
			for _, s := range got.update {
				if update == nil {
					update = make(map[string]int)
				}
				update[s.Name] = len(s.Endpoints)
			}
			var remove []string
			for _, s := range got.remove {
				remove = append(remove, s.Name)
			}
			if diff := cmp.Diff([]any{tc.create, tc.update, tc.remove}, []any{create, update, remove}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWantedV1(t *testing.T) {
	t.Parallel()
	got := wantedV1(service(), []*corev1.Pod{readyPod(2), readyPod(1), readyPod(3, unready), readyPod(4, leaving)})
	ref := func(n int) corev1.EndpointAddress {
		return corev1.EndpointAddress{IP: fmt.Sprint("10.0.0.", n), NodeName: ptr.To("n1"), TargetRef: reference(readyPod(n))}
	}
	want := []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{ref(1), ref(2)}, NotReadyAddresses: []corev1.EndpointAddress{ref(3)},
		Ports: []corev1.EndpointPort{{Name: "http", Port: 8080, Protocol: corev1.ProtocolTCP}}}}
	if diff := cmp.Diff(want, got.Subsets); diff != "" {
		t.Error(diff)
	}
}

func TestWantedV1IsTruncatedReadyOnesFirst(t *testing.T) {
	t.Parallel()
	var pods []*corev1.Pod
	for n := range 1200 {
		p := readyPod(n)
		if n < 500 {
			unready(p)
		}
		pods = append(pods, p)
	}
	got := wantedV1(service(), pods)
	if a, b := len(got.Subsets[0].Addresses), len(got.Subsets[0].NotReadyAddresses); a != 700 || b != 300 || got.Annotations[corev1.EndpointsOverCapacity] != "truncated" {
		t.Errorf("%d ready, %d not, annotations %v", a, b, got.Annotations)
	}
}

func TestMirrored(t *testing.T) {
	t.Parallel()
	ep := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db", UID: "ep", Annotations: map[string]string{"a": "b", corev1.LastAppliedConfigAnnotation: "{}"}},
		Subsets: []corev1.EndpointSubset{
			{Addresses: []corev1.EndpointAddress{{IP: "192.0.2.1", Hostname: "one"}, {IP: "fd00::1"}}, NotReadyAddresses: []corev1.EndpointAddress{{IP: "192.0.2.2"}}, Ports: []corev1.EndpointPort{{Port: 5432}}},
			{Addresses: []corev1.EndpointAddress{{IP: "192.0.2.3"}}, Ports: []corev1.EndpointPort{{Port: 5433}}},
		}}
	got, like := mirrored(ep)
	if diff := cmp.Diff(map[string]int{`IPv4 "" 5432 TCP ""`: 2, `IPv6 "" 5432 TCP ""`: 1, `IPv4 "" 5433 TCP ""`: 1}, shape(got)); diff != "" {
		t.Error(diff)
	}
	first := got.byKey[`IPv4 "" 5432 TCP ""`].endpoints
	if *first[0].Hostname != "one" || !*first[0].Conditions.Ready || *first[1].Conditions.Ready {
		t.Errorf("endpoints %+v", first)
	}
	if diff := cmp.Diff(map[string]string{"a": "b"}, like.Annotations); diff != "" || like.Labels[discoveryv1.LabelManagedBy] != mirroredBy || like.OwnerReferences[0].Kind != "Endpoints" {
		t.Errorf("like %+v %s", like, diff)
	}
}
