package api

import (
	"context"
	"errors"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	storeerr "k8s.io/apiserver/pkg/storage/errors"
	"k8s.io/apiserver/pkg/util/dryrun"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/objects"
	apiadmission "github.com/troupe-run/troupe/cluster/api/admission"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/messages"
)

func typesUID(uid string) types.UID { return types.UID(uid) }

// bind writes a pod's node, once. It goes past the pod's update rules, which forbid just that, and
// is the one write that every pod needs, so it does no more than it must.
func bind(ctx context.Context, pods *registry, reader objects.Reader, clock clock.PassiveClock, b *corev1.Binding, dryRun bool) error {
	key, err := pods.KeyFunc(ctx, b.Name)
	if err != nil {
		return err
	}
	var pre storage.Preconditions
	if b.UID != "" {
		pre.UID = &b.UID
	}
	if b.ResourceVersion != "" {
		pre.ResourceVersion = &b.ResourceVersion
	}
	gr := pods.DefaultQualifiedResource
	err = pods.Storage.GuaranteedUpdate(ctx, key, &corev1.Pod{}, false, &pre, storage.SimpleUpdate(
		func(obj runtime.Object) (runtime.Object, error) {
			pod, ok := obj.(*corev1.Pod)
			if !ok {
				return nil, fmt.Errorf("bind %s: unexpected object %T", key, obj)
			}
			switch {
			case pod.DeletionTimestamp != nil:
				return nil, fmt.Errorf("pod %s is being deleted, cannot be assigned to a host", pod.Name)
			case pod.Spec.NodeName != "":
				return nil, fmt.Errorf("pod %v is already assigned to node %q", pod.Name, pod.Spec.NodeName)
			case len(pod.Spec.SchedulingGates) > 0:
				return nil, fmt.Errorf("pod %v has non-empty .spec.schedulingGates", pod.Name)
			}
			pod.Spec.NodeName = b.Target.Name
			pod.Labels = apiadmission.TopologyLabels(reader, b.Target.Name, pod.Labels)
			if len(b.Annotations) > 0 {
				pod.Annotations = maps.Clone(pod.Annotations)
				if pod.Annotations == nil {
					pod.Annotations = make(map[string]string)
				}
				maps.Copy(pod.Annotations, b.Annotations)
			}
			pod.Status.NominatedNodeName = ""
			pod.Status.Conditions = messages.SetPodCondition(pod.Status.Conditions, corev1.PodCondition{
				Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(clock.Now())})
			return pod, nil
		}), dryRun, nil)
	if err == nil {
		return nil
	}
	err = storeerr.InterpretUpdateError(err, gr, b.Name)
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		return err
	}
	return apierrors.NewConflict(gr, b.Name, err)
}

// validateBinding checks that a binding names a node.
func validateBinding(b *corev1.Binding) field.ErrorList {
	var errs field.ErrorList
	target := field.NewPath("target")
	if b.Target.Kind != "" && b.Target.Kind != "Node" {
		errs = append(errs, field.NotSupported(target.Child("kind"), b.Target.Kind, []string{"Node", "<empty>"}))
	}
	if b.Target.Name == "" {
		errs = append(errs, field.Required(target.Child("name"), ""))
	} else if len(errs) == 0 {
		errs = check.DNSSubdomain(b.Target.Name, target.Child("name"))
	}
	return errs
}

// bindings serves pods/binding and the older bindings collection.
type bindings struct {
	pods   *registry
	reader objects.Reader
	clock  clock.PassiveClock
}

func (b *bindings) New() runtime.Object { return &corev1.Binding{} }

// Destroy does nothing: the pods own the storage.
func (b *bindings) Destroy() {}

// NamespaceScoped is true as for the pods themselves.
func (b *bindings) NamespaceScoped() bool { return true }

func (b *bindings) GetSingularName() string { return "binding" }

// Create assigns the pod called name.
func (b *bindings) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc, opts *metav1.CreateOptions) (runtime.Object, error) {
	in, ok := obj.(*corev1.Binding)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a Binding object: %#v", obj))
	}
	if in.Name != name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Binding object")
	}
	if errs := validateBinding(in); len(errs) > 0 {
		return nil, apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Binding").GroupKind(), name, errs)
	}
	if validate != nil {
		if err := validate(ctx, in.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	if err := bind(ctx, b.pods, b.reader, b.clock, in, dryrun.IsDryRun(opts.DryRun)); err != nil {
		return nil, err
	}
	return &metav1.Status{Status: metav1.StatusSuccess}, nil
}

// oldBindings serves POST bindings, which carries the pod's name in the object only.
type oldBindings struct{ bindings }

// Create assigns the pod that the binding is named for.
func (b *oldBindings) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, opts *metav1.CreateOptions) (runtime.Object, error) {
	in, ok := obj.(*corev1.Binding)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a Binding object: %#v", obj))
	}
	return b.bindings.Create(ctx, in.Name, obj, validate, opts)
}

var (
	_ rest.NamedCreater = (*bindings)(nil)
	_ rest.Creater      = (*oldBindings)(nil)
	_ rest.Scoper       = (*oldBindings)(nil)
)
