package namespace

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// every is the least distance between two passes over one namespace: while it empties, every
// object that goes would ask for one.
const every = 200 * time.Millisecond

// namespaces is the controller.
type namespaces struct {
	controller.Deps
}

// Spec returns the controller of namespaces.
func Spec(d controller.Deps) controller.Spec {
	n := &namespaces{d}
	return controller.Spec{
		Name:      "namespace",
		Watches:   []controller.Watch{{Keys: n.concerned}},
		Reconcile: n.reconcile,
		Every:     every,
	}
}

// concerned returns the namespace a change belongs to when that is being deleted.
func (n *namespaces) concerned(ch objects.Change) []messages.Key {
	key := ch.Key
	if key.Resource != messages.Namespaces {
		if key.Namespace == "" {
			return nil
		}
		key = messages.KeyOf(messages.Namespaces, "", key.Namespace)
	}
	if ns, ok := objects.Get[*corev1.Namespace](n.Reader, key); ok && ns.DeletionTimestamp != nil {
		return []messages.Key{key}
	}
	return nil
}

func (n *namespaces) reconcile(ctx context.Context, key messages.Key) (controller.Result, error) {
	ns, ok := objects.Get[*corev1.Namespace](n.Reader, key)
	if !ok || ns.DeletionTimestamp == nil || !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		return controller.Result{}, nil
	}
	return controller.Result{}, n.empty(ctx, key, ns)
}
