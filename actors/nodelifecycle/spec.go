package nodelifecycle

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// lifecycle is the controller; its keys are those of Nodes and of Pods.
type lifecycle struct {
	controller.Deps
}

// Spec returns the controller of nodes' taints and of evictions by them.
func Spec(d controller.Deps) controller.Spec {
	l := &lifecycle{d}
	return controller.Spec{
		Name: "nodelifecycle",
		Watches: []controller.Watch{
			{Resource: messages.Nodes, Keys: l.ofNode},
			{Resource: messages.Pods, Keys: l.ofPod},
		},
		Reconcile: l.reconcile,
	}
}

// ofNode returns the node when its taints may have to change, and its pods when what it means for
// them did.
func (l *lifecycle) ofNode(ch objects.Change) (out []messages.Key) {
	node, _ := ch.New.(*corev1.Node)
	if node == nil {
		return nil
	}
	if !equality.Semantic.DeepEqual(node.Spec.Taints, wantedTaints(node, l.Clock.Now())) {
		out = append(out, ch.Key)
	}
	old, _ := ch.Old.(*corev1.Node)
	if old == nil {
		old = &corev1.Node{}
	}
	if silent(old) == silent(node) && equality.Semantic.DeepEqual(noExecute(old), noExecute(node)) {
		return out
	}
	for _, pod := range objects.Index[*corev1.Pod](l.Reader, messages.Pods, objects.IndexNode, node.Name) {
		out = append(out, messages.KeyOf(messages.Pods, pod.Namespace, pod.Name))
	}
	return out
}

// ofPod returns a pod that came to a node, or is ready, where that is not a matter of course, or
// that bears the mark of a node that was silent.
func (l *lifecycle) ofPod(ch objects.Change) []messages.Key {
	pod, _ := ch.New.(*corev1.Pod)
	if pod == nil || pod.Spec.NodeName == "" || pod.DeletionTimestamp != nil {
		return nil
	}
	old, _ := ch.Old.(*corev1.Pod)
	if old != nil && old.Spec.NodeName == pod.Spec.NodeName && ready(old) == ready(pod) &&
		equality.Semantic.DeepEqual(old.Spec.Tolerations, pod.Spec.Tolerations) {
		return nil
	}
	node, ok := objects.Get[*corev1.Node](l.Reader, messages.KeyOf(messages.Nodes, "", pod.Spec.NodeName))
	if !ok || !silent(node) && len(noExecute(node)) == 0 && !marked(pod) {
		return nil
	}
	return []messages.Key{ch.Key}
}

func (l *lifecycle) reconcile(ctx context.Context, key messages.Key) (controller.Result, error) {
	if key.Resource == messages.Nodes {
		return controller.Result{}, l.taint(ctx, key)
	}
	pod, ok := objects.Get[*corev1.Pod](l.Reader, key)
	if !ok || pod.DeletionTimestamp != nil {
		return controller.Result{}, nil
	}
	node, ok := objects.Get[*corev1.Node](l.Reader, messages.KeyOf(messages.Nodes, "", pod.Spec.NodeName))
	if !ok {
		return controller.Result{}, nil // pods of lost nodes are garbage
	}
	return l.judge(ctx, key, pod, node)
}
