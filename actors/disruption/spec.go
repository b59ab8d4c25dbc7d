package disruption

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

type budgets struct{ controller.Deps }

// Spec returns the controller that keeps the status of budgets.
func Spec(d controller.Deps) controller.Spec {
	b := &budgets{d}
	return controller.Spec{
		Name: "disruption",
		Watches: []controller.Watch{
			{Resource: messages.PodDisruptionBudgets},
			{Resource: messages.Pods, Keys: b.ofPod},
			{Resource: messages.Deployments, Keys: b.ofNamespace},
			{Resource: messages.ReplicaSets, Keys: b.ofNamespace},
		},
		Reconcile: b.reconcile,
	}
}

// StaleSpec returns the controller that takes promises to disrupt a pod back that nobody keeps.
func StaleSpec(d controller.Deps) controller.Spec {
	b := &budgets{d}
	return controller.Spec{
		Name: "stale-disruption",
		Watches: []controller.Watch{{Resource: messages.Pods, Keys: func(ch objects.Change) []messages.Key {
			if p, ok := ch.New.(*corev1.Pod); ok {
				if _, promised := stale(p, d.Clock.Now()); promised {
					return []messages.Key{ch.Key}
				}
			}
			return nil
		}}},
		Reconcile: b.takeBack,
	}
}

// ofPod returns the budgets that count a pod, before and now.
func (b *budgets) ofPod(ch objects.Change) []messages.Key {
	old, _ := ch.Old.(*corev1.Pod)
	pod, _ := ch.New.(*corev1.Pod)
	if old != nil && pod != nil && !matters(old, pod) {
		return nil
	}
	var out []messages.Key
	for _, pdb := range objects.List[*policyv1.PodDisruptionBudget](b.Reader, messages.PodDisruptionBudgets, ch.Key.Namespace) {
		if old != nil && selects(pdb, old) || pod != nil && selects(pdb, pod) {
			out = append(out, messages.KeyOf(messages.PodDisruptionBudgets, pdb.Namespace, pdb.Name))
		}
	}
	return out
}

// matters says whether a budget may come out different after a change of a pod.
func matters(old, pod *corev1.Pod) bool {
	return old.UID != pod.UID || ready(old) != ready(pod) || (old.DeletionTimestamp == nil) != (pod.DeletionTimestamp == nil) ||
		!apiequality.Semantic.DeepEqual(old.Labels, pod.Labels) || !apiequality.Semantic.DeepEqual(metav1.GetControllerOf(old), metav1.GetControllerOf(pod))
}

// ofNamespace returns the budgets beside an owner whose scale or generation changed.
func (b *budgets) ofNamespace(ch objects.Change) []messages.Key {
	if ch.Old != nil && ch.New != nil && ch.Old.GetGeneration() == ch.New.GetGeneration() {
		return nil
	}
	var out []messages.Key
	for _, pdb := range objects.List[*policyv1.PodDisruptionBudget](b.Reader, messages.PodDisruptionBudgets, ch.Key.Namespace) {
		out = append(out, messages.KeyOf(messages.PodDisruptionBudgets, pdb.Namespace, pdb.Name))
	}
	return out
}

func selects(b *policyv1.PodDisruptionBudget, p *corev1.Pod) bool {
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	return err == nil && selector.Matches(labels.Set(p.Labels))
}

func (b *budgets) reconcile(ctx context.Context, key messages.Key) (controller.Result, error) {
	pdb, ok := objects.Get[*policyv1.PodDisruptionBudget](b.Reader, key)
	if !ok || pdb.DeletionTimestamp != nil {
		return controller.Result{}, nil
	}
	var pods []*corev1.Pod
	for _, p := range objects.List[*corev1.Pod](b.Reader, messages.Pods, key.Namespace) {
		if selects(pdb, p) {
			pods = append(pods, p)
		}
	}
	if len(pods) == 0 {
		b.Recorder.Event(pdb, corev1.EventTypeNormal, "NoPods", "No matching pods found")
	}
	now := b.Clock.Now()
	out, s, why := count(pdb, pods, func() scale { return scaleOf(b.Reader, pods) }, now)
	if why != nil {
		b.Recorder.Event(pdb, corev1.EventTypeWarning, "CalculateExpectedPodCountFailed", fmt.Sprintf("Failed to calculate the number of expected pods: %v", why))
		if err := b.write(ctx, key, pdb, failed(pdb, why, now)); err != nil {
			return controller.Result{}, err
		}
		return controller.Result{}, fmt.Errorf("count the pods of %s: %w", key, why)
	}
	if len(s.unmanaged) > 0 {
		b.Recorder.Event(pdb, corev1.EventTypeWarning, "UnmanagedPods", unmanaged(pdb))
	}
	for _, p := range out.undeleted {
		b.Recorder.Event(p, corev1.EventTypeWarning, "NotDeleted", fmt.Sprintf("Pod was expected by PDB %s/%s to be deleted but it wasn't", pdb.Namespace, pdb.Name))
	}
	if err := b.write(ctx, key, pdb, out.status); err != nil {
		return controller.Result{}, err
	}
	if out.again.IsZero() {
		return controller.Result{}, nil
	}
	return controller.Result{After: max(out.again.Sub(now), 1)}, nil
}

// write stores a status unless it is the one there is. An eviction may have been counted meanwhile:
// then the budget is a newer one, and is looked at again.
func (b *budgets) write(ctx context.Context, key messages.Key, pdb *policyv1.PodDisruptionBudget, status policyv1.PodDisruptionBudgetStatus) error {
	if apiequality.Semantic.DeepEqual(pdb.Status, status) {
		return nil
	}
	next := pdb.DeepCopy()
	next.Status = status
	_, err := b.Writer.UpdateStatus(ctx, next)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write the status of %s: %w", key, err)
	}
	return nil
}

func (b *budgets) takeBack(ctx context.Context, key messages.Key) (controller.Result, error) {
	pod, ok := objects.Get[*corev1.Pod](b.Reader, key)
	if !ok {
		return controller.Result{}, nil
	}
	left, promised := stale(pod, b.Clock.Now())
	if !promised || left > 0 {
		return controller.Result{After: left}, nil
	}
	_, err := b.Writer.Mutate(ctx, key, "status", func(o objects.Object) (objects.Object, error) {
		p := o.(*corev1.Pod)
		if left, promised := stale(p, b.Clock.Now()); promised && left == 0 {
			p.Status.Conditions = messages.SetPodCondition(p.Status.Conditions, corev1.PodCondition{
				Type: corev1.DisruptionTarget, Status: corev1.ConditionFalse, ObservedGeneration: p.Generation, LastTransitionTime: metav1.NewTime(b.Clock.Now()),
			})
		}
		return p, nil
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return controller.Result{}, fmt.Errorf("take back the disruption of %s: %w", key, err)
	}
	return controller.Result{}, nil
}
