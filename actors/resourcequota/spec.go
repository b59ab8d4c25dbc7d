package resourcequota

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

const (
	// resync is when a quota is counted again though nothing seemed to change.
	resync = 5 * time.Minute
	// pause keeps the deletion of many objects from being counted one by one.
	pause = 200 * time.Millisecond
)

// Spec returns the controller that keeps the status of quotas.
func Spec(d controller.Deps, b *Books) controller.Spec {
	return controller.Spec{
		Name: "resourcequota",
		Watches: []controller.Watch{
			{Resource: Quotas, Keys: changedQuota},
			{Keys: func(c objects.Change) []messages.Key {
				if !frees(c) {
					return nil
				}
				var keys []messages.Key
				for _, q := range d.Reader.List(Quotas, c.Key.Namespace) {
					keys = append(keys, messages.KeyOf(Quotas, q.GetNamespace(), q.GetName()))
				}
				return keys
			}},
		},
		Every: pause,
		Reconcile: func(ctx context.Context, key messages.Key) (controller.Result, error) {
			if _, ok := d.Reader.Get(key); !ok {
				return controller.Result{}, nil
			}
			return controller.Result{After: resync}, b.Recalculate(ctx, d.Writer, key)
		},
	}
}

// changedQuota leaves out what admission wrote.
func changedQuota(c objects.Change) []messages.Key {
	q, ok := c.New.(*corev1.ResourceQuota)
	if !ok {
		return nil
	}
	if old, ok := c.Old.(*corev1.ResourceQuota); ok && apiequality.Semantic.DeepEqual(old.Spec, q.Spec) {
		return nil
	}
	return []messages.Key{c.Key}
}

// frees says whether a change may have made something free. What uses more was charged.
func frees(c objects.Change) bool {
	if c.Key.Namespace == "" || c.Old == nil || c.Key.Resource == messages.Events {
		return false
	}
	switch old := c.Old.(type) {
	case *corev1.Pod:
		pod, ok := c.New.(*corev1.Pod)
		return !ok || old.Status.Phase != pod.Status.Phase && (pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed) ||
			old.Generation != pod.Generation || (old.DeletionTimestamp == nil) != (pod.DeletionTimestamp == nil)
	case *corev1.Service:
		svc, ok := c.New.(*corev1.Service)
		return !ok || old.Spec.Type != svc.Spec.Type || len(old.Spec.Ports) != len(svc.Spec.Ports)
	case *corev1.PersistentVolumeClaim:
		claim, ok := c.New.(*corev1.PersistentVolumeClaim)
		return !ok || !apiequality.Semantic.DeepEqual(old.Status, claim.Status) || !apiequality.Semantic.DeepEqual(old.Spec, claim.Spec)
	}
	return c.New == nil
}
