package namespace

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// empty is one pass: delete what may go now, report, and let the namespace go when nothing is left.
func (n *namespaces) empty(ctx context.Context, key messages.Key, ns *corev1.Namespace) error {
	var failed error
	content := n.content(ns.Name)
	for batch := next(content); len(batch) > 0 && failed == nil; batch = next(content) {
		failed = n.delete(ctx, batch)
		content = n.content(ns.Name)
	}
	if len(content) == 0 && failed == nil {
		return n.release(ctx, key, ns)
	}
	if err := n.report(ctx, key, ns, content, failed); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("empty %s: %w", key, failed)
	}
	return nil // each object that goes brings the next pass
}

func (n *namespaces) content(namespace string) (out []item) {
	for _, res := range n.Reader.Resources() {
		for _, obj := range n.Reader.List(res, namespace) {
			out = append(out, item{messages.KeyOf(res, namespace, obj.GetName()), obj})
		}
	}
	return out
}

// delete deletes a batch; one refusal does not keep the others.
func (n *namespaces) delete(ctx context.Context, batch []item) error {
	background := metav1.DeletePropagationBackground
	refused := make([]error, len(batch))
	_, err := controller.SlowStart(ctx, len(batch), func(ctx context.Context, i int) error {
		err := n.Writer.Delete(ctx, batch[i].key, metav1.DeleteOptions{
			PropagationPolicy: &background, Preconditions: metav1.NewUIDPreconditions(string(batch[i].obj.GetUID()))})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			refused[i] = fmt.Errorf("delete %s: %w", batch[i].key, err)
		}
		return nil
	})
	if i := slices.IndexFunc(refused, func(err error) bool { return err != nil }); i >= 0 {
		return refused[i]
	}
	return err
}

func (n *namespaces) report(ctx context.Context, key messages.Key, ns *corev1.Namespace, content []item, failed error) error {
	next := conditions(ns.Status.Conditions, content, failed, n.Clock.Now())
	if ns.Status.Phase == corev1.NamespaceTerminating && equality.Semantic.DeepEqual(next, ns.Status.Conditions) {
		return nil
	}
	_, err := n.Writer.Mutate(ctx, key, "status", func(o objects.Object) (objects.Object, error) {
		if o := o.(*corev1.Namespace); o.UID == ns.UID {
			o.Status.Phase, o.Status.Conditions = corev1.NamespaceTerminating, next
		}
		return o, nil
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("report the status of %s: %w", key, err)
	}
	return nil
}

func (n *namespaces) release(ctx context.Context, key messages.Key, ns *corev1.Namespace) error {
	_, err := n.Writer.Mutate(ctx, key, "finalize", func(o objects.Object) (objects.Object, error) {
		if o := o.(*corev1.Namespace); o.UID == ns.UID {
			o.Spec.Finalizers = slices.DeleteFunc(slices.Clone(o.Spec.Finalizers), func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
		}
		return o, nil
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("finalize %s: %w", key, err)
	}
	return nil
}
