package admission

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/api/kinds/scheduling"
	"github.com/troupe-run/troupe/messages"
)

// priorityClasses is the resource of PriorityClass objects.
var priorityClasses = messages.Resource{Group: schedulingv1.GroupName, Resource: "priorityclasses"}

// priority resolves a pod's priority class to its number, keeps one class the default of all, and
// the classes that every cluster has.
type priority struct {
	*admission.Handler
	reader objects.Reader
}

func newPriority(reader objects.Reader) *priority {
	return &priority{admission.NewHandler(admission.Create, admission.Update, admission.Delete), reader}
}

// Admit sets spec.priority and spec.preemptionPolicy of pods.
func (p *priority) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if !is(a, podsResource, "") {
		return nil
	}
	pod, ok := a.GetObject().(*corev1.Pod)
	if !ok {
		return nil
	}
	switch a.GetOperation() {
	case admission.Create:
		return p.resolve(a, pod)
	case admission.Update:
		// Writers that do not know these fields leave them out; they mean no change.
		old, ok := a.GetOldObject().(*corev1.Pod)
		if !ok {
			return nil
		}
		if pod.Spec.Priority == nil {
			pod.Spec.Priority = old.Spec.Priority
		}
		if pod.Spec.PreemptionPolicy == nil {
			pod.Spec.PreemptionPolicy = old.Spec.PreemptionPolicy
		}
	}
	return nil
}

func (p *priority) resolve(a admission.Attributes, pod *corev1.Pod) error {
	value, policy := int32(0), corev1.PreemptLowerPriority
	class, err := p.class(pod.Spec.PriorityClassName)
	if err != nil {
		return admission.NewForbidden(a, err)
	}
	if class != nil {
		pod.Spec.PriorityClassName, value = class.Name, class.Value
		policy = ptr.Deref(class.PreemptionPolicy, policy)
	}
	if have := pod.Spec.Priority; have != nil && *have != value {
		return admission.NewForbidden(a, fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *have, value))
	}
	if have := pod.Spec.PreemptionPolicy; have != nil && *have != policy {
		return admission.NewForbidden(a, fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *have, policy))
	}
	pod.Spec.Priority, pod.Spec.PreemptionPolicy = &value, &policy
	return nil
}

// class returns the class of this name, for "" the default of all or nil when there is none.
func (p *priority) class(name string) (*schedulingv1.PriorityClass, error) {
	if name == "" {
		return p.global(), nil
	}
	if class, ok := objects.Get[*schedulingv1.PriorityClass](p.reader, messages.KeyOf(priorityClasses, "", name)); ok {
		return class, nil
	}
	// The first pods of a cluster may come before the classes that every cluster has.
	for _, class := range scheduling.SystemClasses() {
		if class.Name == name {
			return class, nil
		}
	}
	return nil, fmt.Errorf("no PriorityClass with name %v was found", name)
}

// global is the class of pods that name none. Two may be it for a moment; the lower one counts.
func (p *priority) global() *schedulingv1.PriorityClass {
	var out *schedulingv1.PriorityClass
	for _, class := range objects.List[*schedulingv1.PriorityClass](p.reader, priorityClasses, "") {
		if class.GlobalDefault && (out == nil || class.Value < out.Value) {
			out = class
		}
	}
	return out
}

// Validate refuses a second default and the deletion of what every cluster has.
func (p *priority) Validate(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetResource().Group != priorityClasses.Group || a.GetResource().Resource != priorityClasses.Resource || a.GetSubresource() != "" {
		return nil
	}
	if a.GetOperation() == admission.Delete {
		for _, class := range scheduling.SystemClasses() {
			if class.Name == a.GetName() {
				return apierrors.NewForbidden(a.GetResource().GroupResource(), class.Name, errors.New("this is a system priority class and cannot be deleted"))
			}
		}
		return nil
	}
	class, ok := a.GetObject().(*schedulingv1.PriorityClass)
	if !ok || !class.GlobalDefault {
		return nil
	}
	if have := p.global(); have != nil && have.Name != class.Name {
		return admission.NewForbidden(a, fmt.Errorf("PriorityClass %v is already marked as default. Only one default can exist", have.Name))
	}
	return nil
}

var (
	_ admission.MutationInterface   = (*priority)(nil)
	_ admission.ValidationInterface = (*priority)(nil)
)
