package admission

import (
	"context"
	"fmt"

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

// priority resolves a pod's priority class to its number.
type priority struct {
	*admission.Handler
	reader objects.Reader
}

// The classes every cluster has.
var systemPriorities = map[string]int32{
	"system-cluster-critical": 2000000000,
	"system-node-critical":    2000001000,
}

func newPriority(reader objects.Reader) *priority {
	return &priority{admission.NewHandler(admission.Create), reader}
}

// Admit sets spec.priority and spec.preemptionPolicy.
func (p *priority) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if !is(a, podsResource, "") {
		return nil
	}
	pod, ok := a.GetObject().(*corev1.Pod)
	if !ok {
		return nil
	}
	var value int32
	if name := pod.Spec.PriorityClassName; name != "" {
		if value, ok = systemPriorities[name]; !ok {
			return admission.NewForbidden(a, fmt.Errorf("no PriorityClass with name %v was found", name))
		}
	}
	if pod.Spec.Priority != nil && *pod.Spec.Priority != value {
		return admission.NewForbidden(a, fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *pod.Spec.Priority, value))
	}
	pod.Spec.Priority = &value
	if pod.Spec.PreemptionPolicy == nil {
		pod.Spec.PreemptionPolicy = ptr.To(corev1.PreemptLowerPriority)
	}
	return nil
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
	_ admission.MutationInterface = (*priority)(nil)
	_ admission.MutationInterface = (*taintNodes)(nil)
)
