package controllertest

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// Kubelet returns a stand-in for scheduler and nodes: after delay a pod runs on "node" and is
// ready when healthy says so, and a pod that is being deleted is gone.
func (w *World) Kubelet(delay time.Duration, healthy func(*corev1.Pod) bool) controller.Spec {
	return controller.Spec{Name: "kubelet", Workers: 1000,
		Watches: []controller.Watch{{Resource: messages.Pods}},
		Reconcile: func(ctx context.Context, key messages.Key) (controller.Result, error) {
			select {
			case <-time.After(delay):
			case <-ctx.Done():
				return controller.Result{}, nil
			}
			pod, ok := objects.Get[*corev1.Pod](w, key)
			switch {
			case !ok:
				return controller.Result{}, nil
			case pod.DeletionTimestamp != nil:
				err := w.Delete(ctx, key, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)})
				if apierrors.IsNotFound(err) {
					err = nil
				}
				return controller.Result{}, err
			case pod.Spec.NodeName != "":
				return controller.Result{}, nil
			}
			if err := w.Bind(ctx, key.Namespace, key.Name, string(pod.UID), "node"); err != nil {
				return controller.Result{}, err
			}
			_, err := w.Mutate(ctx, key, "status", func(o objects.Object) (objects.Object, error) {
				p := o.(*corev1.Pod)
				p.Status.Phase = corev1.PodRunning
				if healthy == nil || healthy(p) {
					p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
				}
				return p, nil
			})
			return controller.Result{}, err
		}}
}
