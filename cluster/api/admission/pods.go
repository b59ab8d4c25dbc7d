package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// tolerations lets every pod stay for a while on a node that became not ready or unreachable.
type tolerations struct{ *admission.Handler }

// defaultTolerationSeconds is how long that is.
const defaultTolerationSeconds = 300

func newTolerations() *tolerations {
	return &tolerations{admission.NewHandler(admission.Create, admission.Update)}
}

// Admit adds the two tolerations unless the pod has its own for them.
func (t *tolerations) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if !is(a, podsResource, "") {
		return nil
	}
	pod, ok := a.GetObject().(*corev1.Pod)
	if !ok {
		return nil
	}
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if !toleratesNoExecute(pod, key) {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
				Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute,
				TolerationSeconds: ptr.To[int64](defaultTolerationSeconds),
			})
		}
	}
	return nil
}

func toleratesNoExecute(pod *corev1.Pod, key string) bool {
	for _, t := range pod.Spec.Tolerations {
		if (t.Key == key || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
			return true
		}
	}
	return false
}

// taintNodes keeps pods off a new node until it was seen to be ready.
type taintNodes struct{ *admission.Handler }

func newTaintNodes() *taintNodes { return &taintNodes{admission.NewHandler(admission.Create)} }

// Admit adds the taint that the node lifecycle controller takes away.
func (t *taintNodes) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if !is(a, nodesResource, "") {
		return nil
	}
	node, ok := a.GetObject().(*corev1.Node)
	if !ok {
		return nil
	}
	for _, taint := range node.Spec.Taints {
		if taint.Key == corev1.TaintNodeNotReady && taint.Effect == corev1.TaintEffectNoSchedule {
			return nil
		}
	}
	node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule})
	return nil
}

func getPod(reader objects.Reader, namespace, name string) (*corev1.Pod, bool) {
	return objects.Get[*corev1.Pod](reader, messages.KeyOf(messages.Pods, namespace, name))
}

var (
	_ admission.MutationInterface = (*tolerations)(nil)
	_ admission.MutationInterface = (*taintNodes)(nil)
)
