package core

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

func TestSimpleKindsCreate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		kind kind.Kind
		obj  kind.Object
		want []string
	}{
		{"config map", ConfigMap(), &corev1.ConfigMap{Data: map[string]string{"a.b": "c"}, BinaryData: map[string][]byte{"d": {0}}}, nil},
		{"config map, bad key", ConfigMap(), &corev1.ConfigMap{Data: map[string]string{"a/b": "c"}}, []string{"FieldValueInvalid data[a/b]"}},
		{"config map, key twice", ConfigMap(), &corev1.ConfigMap{Data: map[string]string{"a": "c"}, BinaryData: map[string][]byte{"a": {0}}}, []string{"FieldValueInvalid data[a]"}},
		{"config map too large", ConfigMap(), &corev1.ConfigMap{BinaryData: map[string][]byte{"a": make([]byte, 1<<20+1)}}, []string{"FieldValueTooLong []"}},
		{"secret", Secret(), &corev1.Secret{StringData: map[string]string{"a": "b"}}, nil},
		{"secret, bad key", Secret(), &corev1.Secret{StringData: map[string]string{"..": "b"}}, []string{"FieldValueInvalid data[..]"}},
		{"tls secret", Secret(), &corev1.Secret{Type: corev1.SecretTypeTLS}, []string{"FieldValueRequired data[tls.crt]", "FieldValueRequired data[tls.key]"}},
		{"docker secret", Secret(), &corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{".dockerconfigjson": []byte("{")}}, []string{"FieldValueInvalid data[.dockerconfigjson]"}},
		{"token secret", Secret(), &corev1.Secret{Type: corev1.SecretTypeServiceAccountToken}, []string{"FieldValueRequired metadata.annotations[kubernetes.io/service-account.name]"}},
		{"basic secret", Secret(), &corev1.Secret{Type: corev1.SecretTypeBasicAuth}, []string{"FieldValueRequired data[password]", "FieldValueRequired data[username]"}},
		{"ssh secret", Secret(), &corev1.Secret{Type: corev1.SecretTypeSSHAuth}, []string{"FieldValueRequired data[ssh-privatekey]"}},
		{"namespace", Namespace(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, nil},
		{"namespace, bad finalizer", Namespace(), &corev1.Namespace{Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{"-x"}}}, []string{"FieldValueInvalid spec.finalizers", "FieldValueInvalid spec.finalizers"}},
		{"node", Node(), &corev1.Node{Spec: corev1.NodeSpec{PodCIDR: "10.1.0.0/24", Taints: []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectNoSchedule}}}}, nil},
		{"node, bad", Node(), &corev1.Node{
			Spec:   corev1.NodeSpec{PodCIDRs: []string{"10.1.0.0/24", "10.2.0.0/24"}, Taints: []corev1.Taint{{Key: "a"}, {Key: "a", Effect: "x"}, {Key: "b", Value: " ", Effect: corev1.TaintEffectNoExecute}, {Key: "b", Effect: corev1.TaintEffectNoExecute}}},
			Status: corev1.NodeStatus{Capacity: corev1.ResourceList{"cpu": resource.MustParse("-1")}},
		}, []string{
			"FieldValueInvalid spec.podCIDRs", "FieldValueRequired metadata.taints[0].effect", "FieldValueNotSupported metadata.taints[1].effect",
			"FieldValueInvalid metadata.taints[2].value", "FieldValueDuplicate metadata.taints[3]", "FieldValueInvalid status.capacity.cpu", "FieldValueInvalid status.allocatable.cpu",
		}},
		{"endpoints", Endpoints(), &corev1.Endpoints{Subsets: []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "10.0.0.1"}}, Ports: []corev1.EndpointPort{{Port: 80}}}}}, nil},
		{"endpoints, bad", Endpoints(), &corev1.Endpoints{Subsets: []corev1.EndpointSubset{{}, {NotReadyAddresses: []corev1.EndpointAddress{{IP: "127.0.0.1", Hostname: "a.b"}}, Ports: []corev1.EndpointPort{{Port: 0}, {Name: "a", Port: 80, Protocol: "x"}}}}},
			[]string{"FieldValueRequired subsets[0]", "FieldValueInvalid subsets[1].notReadyAddresses[0].ip", "FieldValueInvalid subsets[1].notReadyAddresses[0].hostname",
				"FieldValueRequired subsets[1].ports[0].name", "FieldValueInvalid subsets[1].ports[0].port", "FieldValueNotSupported subsets[1].ports[1].protocol"}},
		{"event", Event(), &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "a"}, InvolvedObject: corev1.ObjectReference{Namespace: "a"}}, nil},
		{"event of a node", Event(), &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}}, nil},
		{"event elsewhere", Event(), &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "a"}, InvolvedObject: corev1.ObjectReference{Namespace: "b"}}, []string{"FieldValueInvalid involvedObject.namespace"}},
		{"new event", Event(), &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}, EventTime: metav1.NowMicro(), ReportingController: "a/b", ReportingInstance: "c", Reason: "Go"}, []string{"FieldValueRequired action"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Create(tc.kind, tc.obj), tc.want...)
		})
	}
}

func TestSimpleKindsUpdate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		kind     kind.Kind
		old, obj kind.Object
		want     []string
	}{
		{"immutable config map", ConfigMap(), &corev1.ConfigMap{Immutable: ptr.To(true), Data: map[string]string{"a": "b"}}, &corev1.ConfigMap{},
			[]string{"FieldValueForbidden immutable", "FieldValueForbidden data"}},
		{"config map made immutable", ConfigMap(), &corev1.ConfigMap{}, &corev1.ConfigMap{Immutable: ptr.To(true)}, nil},
		{"immutable secret", Secret(), &corev1.Secret{Type: "Opaque", Immutable: ptr.To(true)}, &corev1.Secret{Immutable: ptr.To(true), StringData: map[string]string{"a": "b"}}, []string{"FieldValueForbidden data"}},
		{"secret of another type", Secret(), &corev1.Secret{Type: "Opaque"}, &corev1.Secret{Type: "x/y"}, []string{"FieldValueInvalid type"}},
		{"node moved", Node(), &corev1.Node{Spec: corev1.NodeSpec{PodCIDR: "10.1.0.0/24", PodCIDRs: []string{"10.1.0.0/24"}, ProviderID: "a"}}, &corev1.Node{Spec: corev1.NodeSpec{PodCIDR: "10.2.0.0/24", ProviderID: "b"}},
			[]string{"FieldValueForbidden spec.podCIDRs", "FieldValueForbidden spec.providerID"}},
		{"node cordoned", Node(), &corev1.Node{}, &corev1.Node{Spec: corev1.NodeSpec{PodCIDR: "10.2.0.0/24", Unschedulable: true}}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Update(tc.kind, tc.obj, tc.old), tc.want...)
		})
	}
}

func TestSecretStringData(t *testing.T) {
	t.Parallel()
	s := &corev1.Secret{Data: map[string][]byte{"a": []byte("old"), "b": []byte("kept")}, StringData: map[string]string{"a": "new"}}
	kindtest.Want(t, kindtest.Create(Secret(), s))
	if diff := cmp.Diff(map[string][]byte{"a": []byte("new"), "b": []byte("kept")}, s.Data); diff != "" || s.StringData != nil || s.Type != "Opaque" {
		t.Errorf("%s %v %s", diff, s.StringData, s.Type)
	}
}

func TestNamespaceLife(t *testing.T) {
	t.Parallel()
	k := Namespace()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}
	kindtest.Want(t, kindtest.Create(k, ns))
	want := &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"kubernetes.io/metadata.name": "shop"}},
		Spec:       corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{"kubernetes"}}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
	}
	if diff := cmp.Diff(want, ns); diff != "" {
		t.Error(diff)
	}
	sneaky := ns.DeepCopy()
	sneaky.Spec.Finalizers, sneaky.Status.Phase = nil, corev1.NamespaceTerminating
	kindtest.Want(t, kindtest.Update(k, sneaky, ns))
	if diff := cmp.Diff(want, sneaky); diff != "" {
		t.Errorf("an update may change neither finalizers nor phase:\n%s", diff)
	}
	kindtest.Want(t, kindtest.Sub(k.Status, &corev1.Namespace{Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}}, ns), "FieldValueInvalid status.Phase")

	k.Finalize.Mark(ns)
	if !k.Finalize.Pending(ns) || ns.Status.Phase != corev1.NamespaceTerminating {
		t.Errorf("marked namespace: %+v", ns)
	}
	done := ns.DeepCopy()
	done.Spec.Finalizers = nil
	kindtest.Want(t, kindtest.Sub(k.Subresources["finalize"], done, ns))
	if k.Finalize.Pending(done) {
		t.Error("an emptied namespace is still held")
	}
}

func TestServiceAccountSecrets(t *testing.T) {
	t.Parallel()
	sa := &corev1.ServiceAccount{Secrets: []corev1.ObjectReference{{Kind: "Secret", Namespace: "elsewhere", Name: "s"}}}
	ServiceAccount().PrepareForCreate(context.Background(), sa)
	if diff := cmp.Diff([]corev1.ObjectReference{{Name: "s"}}, sa.Secrets); diff != "" {
		t.Error(diff)
	}
}

func TestSimpleKindsRow(t *testing.T) {
	t.Parallel()
	ago := metav1.NewTime(time.Now().Add(-5 * time.Minute))
	meta := metav1.ObjectMeta{Name: "n", CreationTimestamp: ago}
	for _, tc := range []struct {
		kind kind.Kind
		obj  kind.Object
		want []any
	}{
		{ConfigMap(), &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"a": ""}, BinaryData: map[string][]byte{"b": nil}}, []any{"n", int64(2), "5m"}},
		{Secret(), &corev1.Secret{ObjectMeta: meta, Type: "Opaque", Data: map[string][]byte{"b": nil}}, []any{"n", "Opaque", int64(1), "5m"}},
		{Namespace(), &corev1.Namespace{ObjectMeta: meta, Status: corev1.NamespaceStatus{Phase: "Active"}}, []any{"n", "Active", "5m"}},
		{ServiceAccount(), &corev1.ServiceAccount{ObjectMeta: meta}, []any{"n", "5m"}},
		{Node(), &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n", CreationTimestamp: ago, Labels: map[string]string{"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": ""}},
			Spec:       corev1.NodeSpec{Unschedulable: true},
			Status: corev1.NodeStatus{
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
				Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}},
				NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: "v1.36.0", OSImage: "Debian", KernelVersion: "6.1"},
			},
		}, []any{"n", "Ready,SchedulingDisabled", "control-plane,worker", "5m", "v1.36.0", "10.0.0.1", "<none>", "Debian", "6.1", "<unknown>"}},
		{Endpoints(), &corev1.Endpoints{ObjectMeta: meta, Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: "10.0.0.1"}, {IP: "10.0.0.2"}}, Ports: []corev1.EndpointPort{{Port: 80}, {Port: 81}},
		}}}, []any{"n", "10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more...", "5m"}},
		{Event(), &corev1.Event{
			ObjectMeta: meta, InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "web"}, Type: "Normal", Reason: "Pulled", Message: "ok\n",
			FirstTimestamp: ago, Source: corev1.EventSource{Component: "kubelet", Host: "node-1"},
		}, []any{"5m", "Normal", "Pulled", "pod/web", "", "kubelet, node-1", "ok", "5m", int64(1), "n"}},
	} {
		if diff := cmp.Diff(tc.want, tc.kind.Row(tc.obj)); diff != "" {
			t.Errorf("%s: %s", tc.kind.Resource, diff)
		}
	}
}
