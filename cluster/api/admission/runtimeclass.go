package admission

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apiserver/pkg/admission"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

var runtimeClasses = messages.Resource{Group: nodev1.GroupName, Resource: "runtimeclasses"}

// runtimeClass gives pods the overhead and the nodes of their runtime class.
type runtimeClass struct {
	*admission.Handler
	reader objects.Reader
}

func newRuntimeClass(reader objects.Reader) *runtimeClass {
	return &runtimeClass{admission.NewHandler(admission.Create), reader}
}

var errOverhead = errors.New("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")

// of returns the pod of a request and its class, nil when it names none.
func (r *runtimeClass) of(a admission.Attributes) (*corev1.Pod, *nodev1.RuntimeClass, error) {
	pod, ok := a.GetObject().(*corev1.Pod)
	if !ok || !is(a, podsResource, "") {
		return nil, nil, nil
	}
	name := pod.Spec.RuntimeClassName
	if name == nil {
		return pod, nil, nil
	}
	class, ok := objects.Get[*nodev1.RuntimeClass](r.reader, messages.KeyOf(runtimeClasses, "", *name))
	if !ok {
		return nil, nil, admission.NewForbidden(a, fmt.Errorf("pod rejected: RuntimeClass %q not found", *name))
	}
	return pod, class, nil
}

// Admit merges what the class says into a new pod.
func (r *runtimeClass) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	pod, class, err := r.of(a)
	if err != nil || class == nil {
		return err
	}
	if o := class.Overhead; o != nil {
		if pod.Spec.Overhead != nil && !apiequality.Semantic.DeepEqual(o.PodFixed, pod.Spec.Overhead) {
			return admission.NewForbidden(a, errOverhead)
		}
		pod.Spec.Overhead = o.PodFixed.DeepCopy()
	}
	if class.Scheduling == nil {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(class.Scheduling.NodeSelector)) {
		want := class.Scheduling.NodeSelector[key]
		if have, ok := pod.Spec.NodeSelector[key]; ok && have != want {
			return admission.NewForbidden(a, fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, want, key, have))
		}
		if pod.Spec.NodeSelector == nil {
			pod.Spec.NodeSelector = make(map[string]string)
		}
		pod.Spec.NodeSelector[key] = want
	}
	for _, t := range class.Scheduling.Tolerations {
		same := func(have corev1.Toleration) bool { return apiequality.Semantic.DeepEqual(have, t) }
		if !slices.ContainsFunc(pod.Spec.Tolerations, same) {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, t)
		}
	}
	return nil
}

// Validate refuses an overhead that is not the class's.
func (r *runtimeClass) Validate(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	pod, class, err := r.of(a)
	switch {
	case err != nil || pod == nil:
		return err
	case class != nil && class.Overhead != nil:
		if !apiequality.Semantic.DeepEqual(class.Overhead.PodFixed, pod.Spec.Overhead) {
			return admission.NewForbidden(a, errOverhead)
		}
	case len(pod.Spec.Overhead) > 0:
		return admission.NewForbidden(a, errors.New("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"))
	}
	return nil
}

var (
	_ admission.MutationInterface   = (*runtimeClass)(nil)
	_ admission.ValidationInterface = (*runtimeClass)(nil)
)
