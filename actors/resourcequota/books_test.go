package resourcequota

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	quota "k8s.io/apiserver/pkg/quota/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/controller/controllertest"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/messages"
)

func list(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

// limits is a quota whose use was counted once, when there was nothing.
func limits(pairs ...string) *corev1.ResourceQuota {
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: list(pairs...)}}
	q.Status = corev1.ResourceQuotaStatus{Hard: q.Spec.Hard.DeepCopy(), Used: corev1.ResourceList{}}
	for name := range q.Spec.Hard {
		q.Status.Used[name] = resource.Quantity{}
	}
	return q
}

func pod(name string, requests, limits corev1.ResourceList) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "c", Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits}}}}}
}

func attributes(obj, old objects.Object, res schema.GroupVersionResource, sub string, dry bool) admission.Attributes {
	op := admission.Create
	var was runtime.Object
	if old != nil {
		op, was = admission.Update, old
	}
	return admission.NewAttributesRecord(obj, was, schema.GroupVersionKind{}, "ns", obj.GetName(), res, sub, op, nil, dry, &user.DefaultInfo{})
}

var podsVersion = corev1.SchemeGroupVersion.WithResource("pods")

func wantUsed(t *testing.T, s *objectstest.Store, want corev1.ResourceList) {
	t.Helper()
	if q := objectstest.Must[*corev1.ResourceQuota](t, s, messages.KeyOf(Quotas, "ns", "q")); !quota.Equals(q.Status.Used, want) {
		t.Errorf("used %v, want %v", q.Status.Used, want)
	}
}

func TestWhatIsUsedIsCharged(t *testing.T) {
	t.Parallel()
	deployments := schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	thing := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "x"}}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c"}, Spec: corev1.PersistentVolumeClaimSpec{
		StorageClassName: ptr.To("gold"), Resources: corev1.VolumeResourceRequirements{Requests: list("storage", "5Gi")}}}
	grown, balanced := claim.DeepCopy(), service("LoadBalancer", 2)
	grown.ResourceVersion, claim.ResourceVersion = "2", "1"
	grown.Spec.Resources.Requests = list("storage", "8Gi")
	devices := func(requests ...resourcev1.DeviceRequest) admission.Attributes {
		return attributes(&resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "d"}, Spec: resourcev1.ResourceClaimSpec{
			Devices: resourcev1.DeviceClaim{Requests: requests}}}, nil, resourcev1.SchemeGroupVersion.WithResource("resourceclaims"), "", false)
	}
	exactly := func(class string, n int64) resourcev1.DeviceRequest {
		r := resourcev1.DeviceRequest{Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: class, AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: n}}
		if n == 0 {
			r.Exactly.AllocationMode = resourcev1.DeviceAllocationModeAll
		}
		return r
	}
	anyOf := func(requests ...resourcev1.DeviceRequest) (out resourcev1.DeviceRequest) {
		for _, r := range requests {
			out.FirstAvailable = append(out.FirstAvailable, resourcev1.DeviceSubRequest{DeviceClassName: r.Exactly.DeviceClassName, AllocationMode: r.Exactly.AllocationMode, Count: r.Exactly.Count})
		}
		return out
	}
	const gpus, nets = "gpu.deviceclass.resource.k8s.io/devices", "net.deviceclass.resource.k8s.io/devices"
	for name, tc := range map[string]struct {
		quota *corev1.ResourceQuota
		a     admission.Attributes
		used  corev1.ResourceList
		err   string
	}{
		"a pod": {limits("pods", "1", "requests.cpu", "1", "memory", "1Gi", "limits.cpu", "2"),
			attributes(pod("a", list("cpu", "500m", "memory", "1Gi"), list("cpu", "2")), nil, podsVersion, "", false),
			list("pods", "1", "requests.cpu", "500m", "memory", "1Gi", "limits.cpu", "2"), ""},
		"too much": {limits("requests.cpu", "1"), attributes(pod("a", list("cpu", "1500m"), nil), nil, podsVersion, "", false), list("requests.cpu", "0"),
			`pods "a" is forbidden: exceeded quota: q, requested: requests.cpu=1500m, used: requests.cpu=0, limited: requests.cpu=1`},
		"nothing said": {limits("limits.memory", "1Gi", "cpu", "1"), attributes(pod("a", nil, nil), nil, podsVersion, "", false), list("limits.memory", "0", "cpu", "0"),
			"failed quota: q: must specify cpu for: c; limits.memory for: c"},
		"devices": {limits(gpus, "5", nets, "5", "count/resourceclaims.resource.k8s.io", "1"), devices(exactly("gpu", 2), exactly("gpu", 1), exactly("net", 1)),
			list(gpus, "3", nets, "1", "count/resourceclaims.resource.k8s.io", "1"), ""},
		"devices, one or other": {limits(gpus, "5", nets, "5"), devices(anyOf(exactly("gpu", 2), exactly("gpu", 3), exactly("net", 1))), list(gpus, "3", nets, "1"), ""},
		"all devices": {limits(gpus, "31"), devices(exactly("gpu", 0)), list(gpus, "0"),
			`resourceclaims.resource.k8s.io "d" is forbidden: exceeded quota: q, requested: ` + gpus + `=32, used: ` + gpus + `=0, limited: ` + gpus + `=31`},
		"dry run":      {limits("pods", "1"), attributes(pod("a", nil, nil), nil, podsVersion, "", true), list("pods", "0"), ""},
		"extended":     {limits("requests.example.com/gpu", "1"), attributes(pod("a", list("example.com/gpu", "2"), nil), nil, podsVersion, "", false), list("requests.example.com/gpu", "0"), "exceeded quota"},
		"huge pages":   {limits("hugepages-2Mi", "4Mi"), attributes(pod("a", list("hugepages-2Mi", "4Mi"), nil), nil, podsVersion, "", false), list("hugepages-2Mi", "4Mi"), ""},
		"any resource": {limits("count/deployments.apps", "1"), attributes(thing, nil, deployments, "", false), list("count/deployments.apps", "1"), ""},
		"an alias":     {limits("configmaps", "1"), attributes(thing, nil, corev1.SchemeGroupVersion.WithResource("configmaps"), "", false), list("configmaps", "1"), ""},
		"claims": {limits("requests.storage", "10Gi", "persistentvolumeclaims", "3", "gold.storageclass.storage.k8s.io/requests.storage", "10Gi", "tin.storageclass.storage.k8s.io/requests.storage", "0"),
			attributes(claim, nil, corev1.SchemeGroupVersion.WithResource("persistentvolumeclaims"), "", false),
			list("requests.storage", "5Gi", "persistentvolumeclaims", "1", "gold.storageclass.storage.k8s.io/requests.storage", "5Gi", "tin.storageclass.storage.k8s.io/requests.storage", "0"), ""},
		"a claim grows": {limits("requests.storage", "3Gi"), attributes(grown, claim, corev1.SchemeGroupVersion.WithResource("persistentvolumeclaims"), "", false), list("requests.storage", "3Gi"), ""},
		"node ports":    {limits("services.nodeports", "2", "services.loadbalancers", "1"), attributes(balanced, nil, corev1.SchemeGroupVersion.WithResource("services"), "", false), list("services.nodeports", "2", "services.loadbalancers", "1"), ""},
		"no node ports": {limits("services.nodeports", "0"), attributes(service("NodePort", 1), nil, corev1.SchemeGroupVersion.WithResource("services"), "", false), list("services.nodeports", "0"), "exceeded quota"},
		"status unknown": {func() *corev1.ResourceQuota { q := limits("pods", "1"); q.Status.Used = nil; return q }(), attributes(pod("a", nil, nil), nil, podsVersion, "", false), nil,
			"status unknown for quota: q, resources: pods"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := objectstest.New(clock.RealClock{}, tc.quota)
			_, err := NewBooks(s, clock.RealClock{}).Charge(t.Context(), s, tc.a)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			wantUsed(t, s, tc.used)
		})
	}
}

func service(kind corev1.ServiceType, ports int) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}, Spec: corev1.ServiceSpec{Type: kind, Ports: make([]corev1.ServicePort, ports)}}
}

func TestScopesNarrowAQuota(t *testing.T) {
	t.Parallel()
	plain, best := pod("a", list("cpu", "1"), nil), pod("b", nil, nil)
	short := pod("c", list("cpu", "1"), nil)
	short.Spec.ActiveDeadlineSeconds, short.Spec.PriorityClassName = ptr.To[int64](5), "high"
	far := pod("d", list("cpu", "1"), nil)
	far.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{Namespaces: []string{"x"}}}}}
	in := func(s corev1.ResourceQuotaScope, op corev1.ScopeSelectorOperator, values ...string) corev1.ScopedResourceSelectorRequirement {
		return corev1.ScopedResourceSelectorRequirement{ScopeName: s, Operator: op, Values: values}
	}
	for name, tc := range map[string]struct {
		scope corev1.ScopedResourceSelectorRequirement
		want  string
	}{
		"best effort":     {in(corev1.ResourceQuotaScopeBestEffort, "Exists"), "b"},
		"not best effort": {in(corev1.ResourceQuotaScopeNotBestEffort, "Exists"), "acd"},
		"terminating":     {in(corev1.ResourceQuotaScopeTerminating, "Exists"), "c"},
		"not terminating": {in(corev1.ResourceQuotaScopeNotTerminating, "Exists"), "abd"},
		"class":           {in(corev1.ResourceQuotaScopePriorityClass, "In", "high", "low"), "c"},
		"not class":       {in(corev1.ResourceQuotaScopePriorityClass, "NotIn", "high"), "abd"},
		"any class":       {in(corev1.ResourceQuotaScopePriorityClass, "Exists"), "c"},
		"no class":        {in(corev1.ResourceQuotaScopePriorityClass, "DoesNotExist"), "abd"},
		"far":             {in(corev1.ResourceQuotaScopeCrossNamespacePodAffinity, "Exists"), "d"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := limits("pods", "9")
			q.Spec.ScopeSelector = &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{tc.scope}}
			s := objectstest.New(clock.RealClock{}, q)
			b := NewBooks(s, clock.RealClock{})
			for _, p := range []*corev1.Pod{plain, best, short, far} {
				settle, err := b.Charge(t.Context(), s, attributes(p, nil, podsVersion, "", false))
				if err != nil {
					t.Fatal(err)
				}
				s.Put(p)
				settle(true)
			}
			want := list("pods", fmt.Sprint(len(tc.want)))
			wantUsed(t, s, want)
			s.Put(func() *corev1.ResourceQuota { q := q.DeepCopy(); q.Status.Used = list("pods", "77"); return q }())
			if err := b.Recalculate(t.Context(), s, messages.KeyOf(Quotas, "ns", "q")); err != nil {
				t.Error(err)
			}
			wantUsed(t, s, want)
		})
	}
}

// TestConcurrentChargesAreExact has many clients create pods, some of which come to nothing, while
// the controller counts all the time.
func TestConcurrentChargesAreExact(t *testing.T) {
	t.Parallel()
	const room, clients = 20, 200
	s := objectstest.New(clock.RealClock{}, limits("pods", fmt.Sprint(room)))
	b := NewBooks(s, clock.RealClock{})
	key := messages.KeyOf(Quotas, "ns", "q")
	stop, counted := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(counted)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := b.Recalculate(t.Context(), s, key); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	var wg sync.WaitGroup
	var stored, most atomic.Int64
	for i := range clients {
		wg.Go(func() {
			p := pod(fmt.Sprintf("p-%03d", i), nil, nil)
			settle, err := b.Charge(t.Context(), s, attributes(p, nil, podsVersion, "", false))
			if err != nil {
				if !strings.Contains(err.Error(), "exceeded quota") {
					t.Error(err)
				}
				return
			}
			if i%3 == 0 { // the write fails
				settle(false)
				return
			}
			s.Put(p)
			if n := stored.Add(1); n > most.Load() {
				most.Store(n)
			}
			settle(true)
		})
	}
	wg.Wait()
	close(stop)
	<-counted
	if stored.Load() > room {
		t.Errorf("%d pods where there is room for %d", stored.Load(), room)
	}
	wantUsed(t, s, list("pods", fmt.Sprint(stored.Load())))
	if len(b.spaces) != 0 {
		t.Errorf("%d namespaces are remembered for nothing", len(b.spaces))
	}
}

func TestTheControllerCountsWhatEnds(t *testing.T) {
	t.Parallel()
	q := limits("pods", "5", "count/pods", "5")
	q.Status = corev1.ResourceQuotaStatus{}
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps(), NewBooks(w.Store, clock.RealClock{})))
		w.Settle()
		wantUsed(t, w.Store, list("pods", "2", "count/pods", "2"))
		done := pod("b", nil, nil)
		done.Status.Phase = corev1.PodSucceeded
		w.Put(done)
		w.Settle()
		wantUsed(t, w.Store, list("pods", "1", "count/pods", "2"))
		w.Drop(messages.KeyOf(messages.Pods, "ns", "a"))
		w.Settle()
		wantUsed(t, w.Store, list("pods", "0", "count/pods", "1"))
		w.Writes()
		w.Settle()
		if writes := w.Writes(); len(writes) > 0 {
			t.Errorf("idle, yet it writes: %v", writes)
		}
	}, q, pod("a", nil, nil), pod("b", nil, nil))
}
