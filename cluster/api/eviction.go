package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// budgets is the resource of PodDisruptionBudget objects.
var budgets = messages.Resource{Group: policyv1.GroupName, Resource: "poddisruptionbudgets"}

// maxDisrupted bounds how many evicted pods a budget remembers whose deletion its controller has
// not seen yet.
const maxDisrupted = 2000

// evictions serves pods/eviction: a deletion that respects whoever protects the pod.
type evictions struct {
	pods   *registry
	reader objects.Reader
	// budgets writes the status of budgets.
	budgets objects.Writer
	clock   clock.PassiveClock
}

func (*evictions) New() runtime.Object { return &policyv1.Eviction{} }

// Destroy does nothing: the pods own the storage.
func (*evictions) Destroy() {}

// GroupVersionKind says that the subresource speaks another kind than pods do.
func (*evictions) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return policyv1.SchemeGroupVersion.WithKind("Eviction")
}

// Create evicts the pod called name.
func (e *evictions) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc, opts *metav1.CreateOptions) (runtime.Object, error) {
	in, ok := obj.(*policyv1.Eviction)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not an Eviction object: %T", obj))
	}
	if in.Name != name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	if validate != nil {
		if err := validate(ctx, in.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	options := in.DeleteOptions.DeepCopy()
	if options == nil {
		options = &metav1.DeleteOptions{}
	}
	if len(opts.DryRun) > 0 {
		options.DryRun = opts.DryRun
	}
	got, err := e.pods.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	pod, ok := got.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("evict %s: unexpected object %T", name, got)
	}
	if err := e.allow(ctx, pod, options); err != nil {
		return nil, err
	}
	if _, _, err := e.pods.Delete(ctx, name, rest.ValidateAllObjectFunc, options); err != nil {
		return nil, err
	}
	return &metav1.Status{Status: metav1.StatusSuccess}, nil
}

// allow takes the eviction off the budget of the pod, if the pod counts for one.
func (e *evictions) allow(ctx context.Context, pod *corev1.Pod, options *metav1.DeleteOptions) error {
	if done(pod) {
		return nil
	}
	selecting := e.selecting(pod)
	switch len(selecting) {
	case 0:
		return nil
	case 1:
	default:
		return apierrors.NewInternalError(errors.New("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")) //nolint:staticcheck // Kubernetes' words
	}
	budget := selecting[0]
	if !ready(pod) && spare(budget) {
		// Should the pod become ready before it is deleted, it counts after all.
		if options.Preconditions == nil {
			options.Preconditions = &metav1.Preconditions{}
		}
		if options.Preconditions.ResourceVersion == nil {
			options.Preconditions.ResourceVersion = &pod.ResourceVersion
		}
		return nil
	}
	key := messages.KeyOf(budgets, budget.Namespace, budget.Name)
	if dryrun.IsDryRun(options.DryRun) {
		return take(budget.DeepCopy(), pod.Name, e.clock.Now())
	}
	_, err := e.budgets.Mutate(ctx, key, "status", func(obj objects.Object) (objects.Object, error) {
		b, ok := obj.(*policyv1.PodDisruptionBudget)
		if !ok {
			return nil, fmt.Errorf("evict %s: unexpected object %T", pod.Name, obj)
		}
		return b, take(b, pod.Name, e.clock.Now())
	})
	if apierrors.IsNotFound(err) {
		return nil // nobody protects the pod any more
	}
	return err
}

// selecting returns the budgets that count the pod.
func (e *evictions) selecting(pod *corev1.Pod) []*policyv1.PodDisruptionBudget {
	var out []*policyv1.PodDisruptionBudget
	for _, b := range objects.List[*policyv1.PodDisruptionBudget](e.reader, budgets, pod.Namespace) {
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil {
			continue // validation refuses such a selector; whatever it meant, it selects nothing
		}
		if selector.Matches(labels.Set(pod.Labels)) {
			out = append(out, b)
		}
	}
	return out
}

// done says that losing the pod disrupts nothing: it has ended, has not started or is on its way.
func done(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed ||
		pod.Status.Phase == corev1.PodPending || pod.DeletionTimestamp != nil
}

func ready(pod *corev1.Pod) bool {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// spare says that a pod that is not ready may go without being counted: always, or only while
// enough others are healthy.
func spare(b *policyv1.PodDisruptionBudget) bool {
	if ptr.Deref(b.Spec.UnhealthyPodEvictionPolicy, policyv1.IfHealthyBudget) == policyv1.AlwaysAllow {
		return true
	}
	return b.Status.CurrentHealthy >= b.Status.DesiredHealthy && b.Status.DesiredHealthy > 0
}

// take counts an eviction in the status of a budget, or says why it cannot be.
func take(b *policyv1.PodDisruptionBudget, pod string, now time.Time) error {
	if b.Status.ObservedGeneration < b.Generation {
		return tooMany(fmt.Sprintf("The disruption budget %s is still being processed by the server.", b.Name), 10)
	}
	resource := schema.GroupResource{Group: budgets.Group, Resource: "poddisruptionbudget"}
	if b.Status.DisruptionsAllowed < 0 {
		return apierrors.NewForbidden(resource, b.Name, errors.New("pdb disruptions allowed is negative"))
	}
	if len(b.Status.DisruptedPods) > maxDisrupted {
		return apierrors.NewForbidden(resource, b.Name, errors.New("DisruptedPods map too big - too many evictions not confirmed by PDB controller"))
	}
	if b.Status.DisruptionsAllowed == 0 {
		return tooMany(refusal(b), 0)
	}
	b.Status.DisruptionsAllowed--
	if b.Status.DisruptionsAllowed == 0 {
		apimeta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{
			Type: policyv1.DisruptionAllowedCondition, Reason: policyv1.InsufficientPodsReason,
			Status: metav1.ConditionFalse, ObservedGeneration: b.Status.ObservedGeneration,
		})
	}
	// Until the controller has seen the pod go it must not count it as healthy again.
	if b.Status.DisruptedPods == nil {
		b.Status.DisruptedPods = make(map[string]metav1.Time)
	}
	b.Status.DisruptedPods[pod] = metav1.NewTime(now)
	return nil
}

func refusal(b *policyv1.PodDisruptionBudget) string {
	if c := apimeta.FindStatusCondition(b.Status.Conditions, policyv1.DisruptionAllowedCondition); c != nil && c.Status == metav1.ConditionFalse && c.Reason == policyv1.SyncFailedReason {
		return fmt.Sprintf("The disruption budget %s does not allow evicting pods currently because it failed sync: %v", b.Name, c.Message)
	}
	return fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", b.Name, b.Status.DesiredHealthy, b.Status.CurrentHealthy)
}

// tooMany is the answer that makes a client try again later.
func tooMany(cause string, seconds int) error {
	err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", seconds)
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: cause})
	return err
}

var (
	_ rest.NamedCreater             = (*evictions)(nil)
	_ rest.GroupVersionKindProvider = (*evictions)(nil)
)
