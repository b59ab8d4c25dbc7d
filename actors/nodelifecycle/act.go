package nodelifecycle

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// taint gives a node the taints of its conditions.
func (l *lifecycle) taint(ctx context.Context, key messages.Key) error {
	now := l.Clock.Now()
	var lost bool
	out, err := l.Writer.Mutate(ctx, key, "", func(o objects.Object) (objects.Object, error) {
		node := o.(*corev1.Node)
		next := wantedTaints(node, now)
		lost = unusable(next) && !unusable(node.Spec.Taints)
		if !equality.Semantic.DeepEqual(node.Spec.Taints, next) {
			node.Spec.Taints = next
		}
		return node, nil
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("taint %s: %w", key, err)
	}
	if lost {
		l.Recorder.Event(out, corev1.EventTypeNormal, "NodeNotReady", fmt.Sprintf("Node %s status is now: NodeNotReady", key.Name))
	}
	return nil
}

// unusable says that taints tell of a node that is not ready or not heard of.
func unusable(taints []corev1.Taint) bool {
	return slices.ContainsFunc(taints, func(t corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoExecute && (t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable)
	})
}

// judge does to a pod what its node's state calls for.
func (l *lifecycle) judge(ctx context.Context, key messages.Key, pod *corev1.Pod, node *corev1.Node) (controller.Result, error) {
	var out controller.Result
	var err error
	now := l.Clock.Now()
	switch {
	case silent(node) && ready(pod):
		if err = l.setReady(ctx, key, pod, corev1.ConditionFalse); err == nil {
			l.Recorder.Event(pod, corev1.EventTypeWarning, notReadyReason, "Node is not ready")
		}
	case !silent(node) && marked(pod):
		// The node reports its pods anew when it is back. A report that crossed our mark would be
		// lost with it, so what is left of the mark is taken off again.
		if out.After = backSince(node).Add(grace).Sub(now); out.After <= 0 && readyByItself(pod) {
			err = l.setReady(ctx, key, pod, corev1.ConditionTrue)
		}
	}
	if err != nil {
		return controller.Result{}, err
	}
	due, ok := evictionDue(pod, noExecute(node), now)
	switch left := due.Sub(now); {
	case ok && left <= 0:
		return controller.Result{}, l.evict(ctx, key, pod)
	case ok && (out.After <= 0 || left < out.After):
		out.After = left
	}
	return out, nil
}

// backSince is when a node was last seen to change its mind about being ready.
func backSince(node *corev1.Node) time.Time {
	if c := condition(node, corev1.NodeReady); c != nil {
		return c.LastTransitionTime.Time
	}
	return node.CreationTimestamp.Time
}

// setReady takes a pod that nobody hears of out of its Services, or lets it in again.
func (l *lifecycle) setReady(ctx context.Context, key messages.Key, pod *corev1.Pod, is corev1.ConditionStatus) error {
	_, err := l.Writer.Mutate(ctx, key, "status", func(o objects.Object) (objects.Object, error) {
		p := o.(*corev1.Pod)
		if p.UID != pod.UID || is == corev1.ConditionTrue && !marked(p) {
			return p, nil
		}
		for i := range p.Status.Conditions {
			if c := &p.Status.Conditions[i]; c.Type == corev1.PodReady && c.Status != is {
				c.Status, c.LastTransitionTime, c.Reason, c.Message = is, metav1.NewTime(l.Clock.Now()), "", ""
				if is == corev1.ConditionFalse {
					c.Reason, c.Message = notReadyReason, "Node is not ready"
				}
			}
		}
		return p, nil
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("mark %s as ready %s: %w", key, is, err)
	}
	return nil
}

// evict deletes a pod, with its grace, and says in its status why.
func (l *lifecycle) evict(ctx context.Context, key messages.Key, pod *corev1.Pod) error {
	_, err := l.Writer.Mutate(ctx, key, "status", func(o objects.Object) (objects.Object, error) {
		if p := o.(*corev1.Pod); p.UID == pod.UID {
			p.Status.Conditions = messages.SetPodCondition(p.Status.Conditions, corev1.PodCondition{
				Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByTaintManager",
				Message: "Taint manager: deleting due to NoExecute taint", ObservedGeneration: p.Generation, LastTransitionTime: metav1.NewTime(l.Clock.Now())})
		}
		return o, nil
	})
	if err == nil {
		l.Recorder.Event(pod, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod "+pod.Namespace+"/"+pod.Name)
		err = l.Writer.Delete(ctx, key, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("evict %s: %w", key, err)
	}
	return nil
}
