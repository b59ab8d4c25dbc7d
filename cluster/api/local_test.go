package api_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("condition did not come true in five seconds")
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestLocalWritesFollowTheRules(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	c.defaultAccount(t)
	w := c.Local("test")
	out, err := w.Create(ctx, pod("a"))
	if err != nil {
		t.Fatal(err)
	}
	p := out.(*corev1.Pod)
	if p.Spec.RestartPolicy != corev1.RestartPolicyAlways || p.Spec.ServiceAccountName != "default" || p.Status.Phase != corev1.PodPending {
		t.Errorf("defaults: %+v", p.Spec)
	}
	if len(p.Spec.Tolerations) != 2 || p.Spec.Priority == nil || len(p.Spec.Volumes) != 1 ||
		p.Spec.Containers[0].VolumeMounts[0].MountPath != "/var/run/secrets/kubernetes.io/serviceaccount" {
		t.Errorf("admission: %+v", p.Spec)
	}
	if _, err := w.Create(ctx, pod("a")); !apierrors.IsAlreadyExists(err) {
		t.Errorf("create twice: %v, want AlreadyExists", err)
	}
	bad := pod("b")
	bad.Spec.Containers = nil
	if _, err := w.Create(ctx, bad); !apierrors.IsInvalid(err) {
		t.Errorf("create without containers: %v, want Invalid", err)
	}
	p = p.DeepCopy()
	p.Status.Phase = corev1.PodRunning
	if out, err = w.UpdateStatus(ctx, p); err != nil || out.(*corev1.Pod).Status.Phase != corev1.PodRunning {
		t.Fatalf("update status: %v", err)
	}
	if _, err := w.UpdateStatus(ctx, p); !apierrors.IsConflict(err) {
		t.Errorf("status of an old version: %v, want Conflict", err)
	}
	if err := w.Delete(ctx, messages.KeyOf(messages.Pods, "default", "a"), *metav1.NewDeleteOptions(0)); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.store.Get(messages.KeyOf(messages.Pods, "default", "a")); ok {
		t.Error("the pod is still there")
	}
}

func TestMutateRetriesOnConflict(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	w := c.Local("test")
	if _, err := w.Create(ctx, configMap("a", map[string]string{})); err != nil {
		t.Fatal(err)
	}
	var g sync.WaitGroup
	for i := range 20 {
		g.Go(func() {
			_, err := w.Mutate(ctx, messages.KeyOf(messages.ConfigMaps, "default", "a"), "", func(o objects.Object) (objects.Object, error) {
				cm := o.(*corev1.ConfigMap)
				if cm.Data == nil {
					cm.Data = map[string]string{}
				}
				cm.Data[fmt.Sprint(i)] = ""
				return cm, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	got, _ := c.store.Get(messages.KeyOf(messages.ConfigMaps, "default", "a"))
	if n := len(got.(*corev1.ConfigMap).Data); n != 20 {
		t.Errorf("%d of 20 changes survived", n)
	}
}

func TestBindHappensOnce(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	c.defaultAccount(t)
	w := c.Local("test")
	out, err := w.Create(ctx, pod("a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Bind(ctx, "default", "a", "another-uid", "n1"); !apierrors.IsConflict(err) {
		t.Errorf("bind another uid: %v, want Conflict", err)
	}
	if err := w.Bind(ctx, "default", "a", string(out.GetUID()), "n1"); err != nil {
		t.Fatal(err)
	}
	if err := w.Bind(ctx, "default", "a", string(out.GetUID()), "n2"); !apierrors.IsConflict(err) {
		t.Errorf("bind again: %v, want Conflict", err)
	}
	if err := w.Bind(ctx, "default", "none", "", "n2"); !apierrors.IsNotFound(err) {
		t.Errorf("bind no pod: %v, want NotFound", err)
	}
	got, _ := c.store.Get(messages.KeyOf(messages.Pods, "default", "a"))
	p := got.(*corev1.Pod)
	if p.Spec.NodeName != "n1" || len(p.Status.Conditions) == 0 || p.Status.Conditions[len(p.Status.Conditions)-1].Type != corev1.PodScheduled {
		t.Errorf("bound pod: %q, %+v", p.Spec.NodeName, p.Status.Conditions)
	}
}

// TestAllWritesOrNone goes through admission and validation: one write that is refused keeps the
// others from happening.
func TestAllWritesOrNone(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	w := c.Local("test")
	maps := func(value string) (all []*corev1.ConfigMap) {
		for _, name := range []string{"a", "b"} {
			all = append(all, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string]string{"key": value}})
		}
		return all
	}
	each := func(objs []*corev1.ConfigMap, do func(context.Context, objects.Object) (objects.Object, error)) error {
		var writes []func(context.Context) error
		for _, obj := range objs {
			writes = append(writes, func(ctx context.Context) error {
				_, err := do(ctx, obj)
				return err
			})
		}
		return w.All(ctx, writes...)
	}
	values := func() string {
		out := ""
		for _, obj := range c.store.List(messages.ConfigMaps, "default") {
			if m := obj.(*corev1.ConfigMap); len(m.Name) == 1 {
				out += m.Name + m.Data["key"]
			}
		}
		return out
	}
	bad := maps("1")
	bad[1].Data = map[string]string{"no/key": ""}
	if err := each(bad, w.Create); !apierrors.IsInvalid(err) || values() != "" {
		t.Errorf("one is invalid: %v, now %q", err, values())
	}
	if err := each(maps("1"), w.Create); err != nil || values() != "a1b1" {
		t.Errorf("create: %v, now %q", err, values())
	}
	stale := maps("2")
	stale[1].ResourceVersion = "1"
	if err := each(stale, w.Update); !apierrors.IsConflict(err) || values() != "a1b1" {
		t.Errorf("one is stale: %v, now %q", err, values())
	}
	if err := each(maps("2"), w.Update); err != nil || values() != "a2b2" {
		t.Errorf("update: %v, now %q", err, values())
	}
	a, _ := c.store.Get(messages.KeyOf(messages.ConfigMaps, "default", "a"))
	b, _ := c.store.Get(messages.KeyOf(messages.ConfigMaps, "default", "b"))
	var ra, rb int
	if _, err := fmt.Sscan(a.GetResourceVersion()+" "+b.GetResourceVersion(), &ra, &rb); err != nil || ra-rb != 1 && rb-ra != 1 {
		t.Errorf("revisions %d and %d, %v", ra, rb, err)
	}
}

func TestEvictionRespectsPreconditionsAndDryRun(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	c.defaultAccount(t)
	pods := c.client.CoreV1().Pods("default")
	if _, err := pods.Create(ctx, pod("a"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	evict := func(o *metav1.DeleteOptions) error {
		return pods.EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "a"}, DeleteOptions: o})
	}
	if err := evict(metav1.NewPreconditionDeleteOptions("other")); !apierrors.IsConflict(err) {
		t.Errorf("other uid: %v, want Conflict", err)
	}
	if err := evict(&metav1.DeleteOptions{DryRun: []string{"All"}}); err != nil {
		t.Errorf("dry run: %v", err)
	}
	if _, err := pods.Get(ctx, "a", metav1.GetOptions{}); err != nil {
		t.Errorf("after dry run: %v", err)
	}
	if err := evict(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Get(ctx, "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after eviction: %v, want NotFound", err)
	}
}

func TestServiceAddressesAreUnique(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	service := func(name, ip string, nodePort int32) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, ClusterIP: ip, Ports: []corev1.ServicePort{{Port: 80, NodePort: nodePort}},
		}}
	}
	w := c.Local("test")
	var g sync.WaitGroup
	for i := range 50 {
		g.Go(func() {
			if _, err := w.Create(ctx, service(fmt.Sprint("s", i), "", 0)); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	ips, ports := map[string]bool{}, map[int32]bool{}
	for _, s := range objects.List[*corev1.Service](c.store, messages.Services, "default") {
		ips[s.Spec.ClusterIP] = true
		ports[s.Spec.Ports[0].NodePort] = true
	}
	if len(ips) != 51 || len(ports) != 51 { // the service "kubernetes" has an address and no node port
		t.Errorf("%d addresses and %d ports for 51 services", len(ips), len(ports))
	}
	if !ips["10.96.0.1"] {
		t.Error("the service kubernetes has not the first address")
	}
	made, err := c.client.CoreV1().Services("default").Create(ctx, service("x", "10.96.7.7", 31234), metav1.CreateOptions{})
	if err != nil || made.Spec.ClusterIP != "10.96.7.7" || made.Spec.Ports[0].NodePort != 31234 {
		t.Fatalf("asked for: %v, %v", made, err)
	}
	if _, err := w.Create(ctx, service("y", "10.96.7.7", 0)); !apierrors.IsInvalid(err) {
		t.Errorf("taken address: %v, want Invalid", err)
	}
	if _, err := w.Create(ctx, service("y", "", 31234)); !apierrors.IsInvalid(err) {
		t.Errorf("taken port: %v, want Invalid", err)
	}
	if err := w.Delete(ctx, messages.KeyOf(messages.Services, "default", "x"), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Create(ctx, service("y", "10.96.7.7", 31234)); err != nil {
		t.Errorf("released address: %v", err)
	}
}

func TestRecorderCountsRepeats(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	ns, _ := c.store.Get(messages.KeyOf(messages.Namespaces, "", "default"))
	r := c.Recorder("tester")
	for range 3 {
		r.Event(ns, corev1.EventTypeWarning, "Odd", "something is odd")
	}
	eventually(t, func() bool {
		list, err := c.client.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.kind=Namespace,reason=Odd"})
		return err == nil && len(list.Items) == 1 && list.Items[0].Count == 3 && list.Items[0].Source.Component == "tester"
	})
	r.EventOf(ns, "spec.finalizers", corev1.EventTypeWarning, "Odd", "something is odd") // another event: of a part
	eventually(t, func() bool {
		list, err := c.client.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.fieldPath=spec.finalizers"})
		return err == nil && len(list.Items) == 1 && list.Items[0].Count == 1 && list.Items[0].InvolvedObject.Name == "default"
	})
	newer, err := c.client.EventsV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "reason=Odd"})
	if err != nil || len(newer.Items) != 2 || newer.Items[0].Note != "something is odd" || newer.Items[0].Regarding.Name != "default" {
		t.Errorf("as events.k8s.io/v1: %+v, %v", newer, err)
	}
}

func TestUnknownTypesAreRefusedLocally(t *testing.T) {
	t.Parallel()
	c := start(t)
	_, err := c.Local("test").Create(t.Context(), &discoveryv1.EndpointSlice{})
	if !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) {
		t.Errorf("an empty slice: %v", err)
	}
	_, err = c.Local("test").Mutate(t.Context(), messages.KeyOf(messages.Resource{Group: "x", Resource: "y"}, "", "z"), "", nil)
	if !apierrors.IsNotFound(err) {
		t.Errorf("a resource that is not served: %v, want NotFound", err)
	}
	stop := errors.New("stop")
	if _, err := c.Local("test").Create(t.Context(), configMap("a", nil)); err != nil {
		t.Fatal(err)
	}
	_, err = c.Local("test").Mutate(t.Context(), messages.KeyOf(messages.ConfigMaps, "default", "a"), "", func(objects.Object) (objects.Object, error) {
		return nil, stop
	})
	if !errors.Is(err, stop) {
		t.Errorf("an error of the mutation: %v", err)
	}
}
