package api_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// TestEvictionsKeepTheBudget evicts more pods at once than a budget lets go.
func TestEvictionsKeepTheBudget(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	c.defaultAccount(t)
	w := c.Local("test")
	names := []string{"a", "b", "c", "d", "e", "f"}
	for _, name := range names {
		p := pod(name)
		p.Labels = map[string]string{"app": "web"}
		if _, err := w.Create(ctx, p); err != nil {
			t.Fatal(err)
		}
		_, err := w.Mutate(ctx, messages.KeyOf(messages.Pods, "default", name), "status", func(o objects.Object) (objects.Object, error) {
			o.(*corev1.Pod).Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
			return o, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	budget, err := w.Create(ctx, &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromInt32(4)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}})
	if err != nil {
		t.Fatal(err)
	}
	evict := func(name string) error {
		// The client would wait and try again.
		return c.client.CoreV1().RESTClient().Post().Namespace("default").Resource("pods").Name(name).SubResource("eviction").MaxRetries(0).
			Body(&policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}).Do(ctx).Error()
	}
	if err := evict("a"); !apierrors.IsTooManyRequests(err) || !apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause) {
		t.Errorf("before the budget was worked out: %v, want TooManyRequests", err)
	}
	b := budget.(*policyv1.PodDisruptionBudget).DeepCopy()
	b.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: b.Generation, DisruptionsAllowed: 2, CurrentHealthy: 6, DesiredHealthy: 4, ExpectedPods: 6}
	if _, err := w.UpdateStatus(ctx, b); err != nil {
		t.Fatal(err)
	}
	var gone, kept atomic.Int32
	var g sync.WaitGroup
	for _, name := range names {
		g.Go(func() {
			switch err := evict(name); {
			case err == nil:
				gone.Add(1)
			case apierrors.IsTooManyRequests(err) && strings.HasPrefix(err.Error(), "Cannot evict pod as it would violate the pod's disruption budget."):
				kept.Add(1)
			default:
				t.Errorf("evict %s: %v", name, err)
			}
		})
	}
	g.Wait()
	if gone.Load() != 2 || kept.Load() != 4 {
		t.Errorf("%d evicted, %d kept; want 2 and 4", gone.Load(), kept.Load())
	}
	obj, _ := objects.Get[*policyv1.PodDisruptionBudget](c.store, messages.KeyOf(messages.Resource{Group: "policy", Resource: "poddisruptionbudgets"}, "default", "web"))
	if obj.Status.DisruptionsAllowed != 0 || len(obj.Status.DisruptedPods) != 2 {
		t.Errorf("status %+v", obj.Status)
	}
}
