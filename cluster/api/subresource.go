package api

import (
	"context"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	apiadmission "github.com/troupe-run/troupe/cluster/api/admission"
	"github.com/troupe-run/troupe/cluster/api/kind"
)

// subresource is a second writer of a kind's objects, such as status.
type subresource struct {
	parent *registry
	store  *genericregistry.Store
}

func newSubresource(parent *registry, name string, sub *kind.Subresource) *subresource {
	store := *parent.Store
	strat := subStrategy{strategy: parent.UpdateStrategy.(strategy), name: name, sub: sub}
	store.UpdateStrategy, store.ResetFieldsStrategy = strat, strat
	store.BeginCreate, store.BeginUpdate = nil, nil
	return &subresource{parent: parent, store: &store}
}

func (s *subresource) New() runtime.Object { return s.parent.New() }

// Destroy does nothing: the parent owns the storage.
func (s *subresource) Destroy() {}

// Get returns the whole object.
func (s *subresource) Get(ctx context.Context, name string, opts *metav1.GetOptions) (runtime.Object, error) {
	return s.store.Get(ctx, name, opts)
}

// Update changes what the subresource owns; it never creates.
func (s *subresource) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc,
	update rest.ValidateObjectUpdateFunc, _ bool, opts *metav1.UpdateOptions) (runtime.Object, bool, error) {
	ctx, settle := apiadmission.WithSettlement(ctx)
	out, created, err := s.store.Update(ctx, name, info, create, update, false, opts)
	settle(err == nil)
	return out, created, err
}

func (s *subresource) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return s.store.GetResetFields()
}

func (s *subresource) ConvertToTable(ctx context.Context, obj, opts runtime.Object) (*metav1.Table, error) {
	return s.store.ConvertToTable(ctx, obj, opts)
}

// scale serves autoscaling/v1 Scale over a kind with replicas.
type scale struct {
	parent *registry
	paths  managedfields.ResourcePathMappings
}

func newScale(parent *registry) *scale {
	return &scale{parent: parent, paths: managedfields.ResourcePathMappings{
		parent.kind.GVK.GroupVersion().String(): fieldpath.MakePathOrDie("spec", "replicas"),
	}}
}

// GroupVersionKind says that this subresource speaks another kind than its parent.
func (s *scale) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return autoscalingv1.SchemeGroupVersion.WithKind("Scale")
}

func (s *scale) New() runtime.Object { return &autoscalingv1.Scale{} }

// Destroy does nothing: the parent owns the storage.
func (s *scale) Destroy() {}

// Get returns the wanted and present replicas of an object.
func (s *scale) Get(ctx context.Context, name string, opts *metav1.GetOptions) (runtime.Object, error) {
	obj, err := s.parent.Get(ctx, name, opts)
	if err != nil {
		return nil, err
	}
	return s.of(obj.(kind.Object)), nil
}

// Update sets the wanted replicas.
func (s *scale) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, _ rest.ValidateObjectFunc,
	update rest.ValidateObjectUpdateFunc, _ bool, opts *metav1.UpdateOptions) (runtime.Object, bool, error) {
	validate := func(ctx context.Context, obj, old runtime.Object) error {
		if update == nil {
			return nil
		}
		return update(ctx, s.of(obj.(kind.Object)), s.of(old.(kind.Object)))
	}
	out, _, err := s.parent.Update(ctx, name, &scaledObject{scale: s, name: name, info: info},
		nil, validate, false, opts)
	if err != nil {
		return nil, false, err
	}
	return s.of(out.(kind.Object)), false, nil
}

func (s *scale) ConvertToTable(ctx context.Context, obj, opts runtime.Object) (*metav1.Table, error) {
	return rest.NewDefaultTableConvertor(s.parent.DefaultQualifiedResource).ConvertToTable(ctx, obj, opts)
}

func (s *scale) of(obj kind.Object) *autoscalingv1.Scale {
	want, have, selector := s.parent.kind.Scale.Get(obj)
	return &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{
			Name: obj.GetName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(),
			ResourceVersion: obj.GetResourceVersion(), CreationTimestamp: obj.GetCreationTimestamp(),
		},
		Spec:   autoscalingv1.ScaleSpec{Replicas: want},
		Status: autoscalingv1.ScaleStatus{Replicas: have, Selector: selector},
	}
}

// scaledObject turns the change of a Scale into a change of the object behind it.
type scaledObject struct {
	scale *scale
	name  string
	info  rest.UpdatedObjectInfo
}

func (u *scaledObject) Preconditions() *metav1.Preconditions { return u.info.Preconditions() }

func (u *scaledObject) UpdatedObject(ctx context.Context, old runtime.Object) (runtime.Object, error) {
	k := u.scale.parent.kind
	parent := old.DeepCopyObject().(kind.Object)
	handler := managedfields.NewScaleHandler(parent.GetManagedFields(), k.GVK.GroupVersion(), u.scale.paths)
	was := u.scale.of(parent)
	var err error
	if was.ManagedFields, err = handler.ToSubresource(); err != nil {
		return nil, fmt.Errorf("read managed fields of %s: %w", u.name, err)
	}
	obj, err := u.info.UpdatedObject(ctx, was)
	if err != nil {
		return nil, err
	}
	next, ok := obj.(*autoscalingv1.Scale)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("expected a Scale, got %T", obj))
	}
	if errs := validateScale(next); len(errs) > 0 {
		return nil, apierrors.NewInvalid(autoscalingv1.SchemeGroupVersion.WithKind("Scale").GroupKind(), u.name, errs)
	}
	if next.ResourceVersion != "" {
		parent.SetResourceVersion(next.ResourceVersion)
	}
	k.Scale.Set(parent, next.Spec.Replicas)
	entries, err := handler.ToParent(next.ManagedFields)
	if err != nil {
		return nil, fmt.Errorf("write managed fields of %s: %w", u.name, err)
	}
	parent.SetManagedFields(entries)
	return parent, nil
}

func validateScale(s *autoscalingv1.Scale) field.ErrorList {
	if s.Spec.Replicas < 0 {
		return field.ErrorList{field.Invalid(field.NewPath("spec", "replicas"), s.Spec.Replicas, "must be greater than or equal to 0")}
	}
	return nil
}

var (
	_ rest.Patcher                  = (*subresource)(nil)
	_ rest.ResetFieldsStrategy      = (*subresource)(nil)
	_ rest.Patcher                  = (*scale)(nil)
	_ rest.GroupVersionKindProvider = (*scale)(nil)
)
