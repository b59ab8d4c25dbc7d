package api

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	storeerr "k8s.io/apiserver/pkg/storage/errors"
	"k8s.io/apiserver/pkg/util/dryrun"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/troupe-run/troupe/cluster/api/kind"
)

// finalizing is the registry of a kind with finalizers of its own (namespaces): deletion marks the
// object, and only once nothing holds it does it go. It has no deletion of whole collections.
type finalizing struct {
	registryVerbs
	parent *registry
}

// registryVerbs are what a finalizing kind serves unchanged.
type registryVerbs interface {
	rest.Storage
	rest.Getter
	rest.Lister
	rest.CreaterUpdater
	rest.Watcher
	rest.Scoper
	rest.ShortNamesProvider
	rest.CategoriesProvider
	rest.SingularNameProvider
	GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set
	StorageVersion() runtime.GroupVersioner
}

func newFinalizing(parent *registry) *finalizing { return &finalizing{parent, parent} }

// finalizingCollection is a finalizing that deletes whole collections, too, object by object.
type finalizingCollection struct{ *finalizing }

// DeleteCollection deletes what a list with these options has; one refusal ends it.
func (f finalizingCollection) DeleteCollection(ctx context.Context, validate rest.ValidateObjectFunc, opts *metav1.DeleteOptions, list *metainternal.ListOptions) (runtime.Object, error) {
	found, err := f.List(ctx, list)
	if err != nil {
		return nil, err
	}
	err = meta.EachListItem(found, func(obj runtime.Object) error {
		_, _, err := f.Delete(ctx, obj.(kind.Object).GetName(), validate, opts.DeepCopy())
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	return found, err
}

// Delete marks the object as going, or removes it when nothing holds it any more.
func (f *finalizing) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, opts *metav1.DeleteOptions) (runtime.Object, bool, error) {
	obj, err := f.parent.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, false, err
	}
	current := obj.(kind.Object)
	if opts == nil {
		opts = metav1.NewDeleteOptions(0)
	}
	if opts.Preconditions == nil {
		opts.Preconditions = &metav1.Preconditions{}
	}
	uid := current.GetUID()
	if opts.Preconditions.UID == nil {
		opts.Preconditions.UID = &uid
	} else if *opts.Preconditions.UID != uid {
		return nil, false, apierrors.NewConflict(f.parent.DefaultQualifiedResource, name,
			errors.New("the UID in the precondition does not match the UID in record"))
	}
	if rv := opts.Preconditions.ResourceVersion; rv != nil && *rv != current.GetResourceVersion() {
		return nil, false, apierrors.NewConflict(f.parent.DefaultQualifiedResource, name,
			errors.New("the ResourceVersion in the precondition does not match the ResourceVersion in record"))
	}
	if current.GetDeletionTimestamp() != nil && !f.parent.kind.Finalize.Pending(current) {
		return f.parent.Store.Delete(ctx, name, validate, opts)
	}
	return f.mark(ctx, name, validate, opts)
}

func (f *finalizing) mark(ctx context.Context, name string, validate rest.ValidateObjectFunc, opts *metav1.DeleteOptions) (runtime.Object, bool, error) {
	key, err := f.parent.KeyFunc(ctx, name)
	if err != nil {
		return nil, false, err
	}
	pre := storage.Preconditions{UID: opts.Preconditions.UID, ResourceVersion: opts.Preconditions.ResourceVersion}
	out := f.parent.New()
	err = f.parent.Storage.GuaranteedUpdate(ctx, key, out, false, &pre, storage.SimpleUpdate(
		func(existing runtime.Object) (runtime.Object, error) {
			if err := validate(ctx, existing); err != nil {
				return nil, err
			}
			obj := existing.(kind.Object)
			if obj.GetDeletionTimestamp() == nil {
				now := metav1.Now()
				obj.SetDeletionTimestamp(&now)
			}
			f.parent.kind.Finalize.Mark(obj)
			f.orphan(obj, opts)
			return obj, nil
		}), dryrun.IsDryRun(opts.DryRun), nil)
	if err != nil {
		return nil, false, storeerr.InterpretUpdateError(err, f.parent.DefaultQualifiedResource, name)
	}
	return out, false, nil
}

// orphan writes the propagation policy into metadata.finalizers, where the garbage collector reads it.
func (f *finalizing) orphan(obj kind.Object, opts *metav1.DeleteOptions) {
	want := ""
	switch {
	case opts.PropagationPolicy != nil && *opts.PropagationPolicy == metav1.DeletePropagationOrphan,
		opts.OrphanDependents != nil && *opts.OrphanDependents: //nolint:staticcheck // still part of the API
		want = metav1.FinalizerOrphanDependents
	case opts.PropagationPolicy != nil && *opts.PropagationPolicy == metav1.DeletePropagationForeground:
		want = metav1.FinalizerDeleteDependents
	default:
		return
	}
	kept := []string{want}
	for _, name := range obj.GetFinalizers() {
		if name != metav1.FinalizerOrphanDependents && name != metav1.FinalizerDeleteDependents {
			kept = append(kept, name)
		}
	}
	obj.SetFinalizers(kept)
}

// deleter is what deletes objects of the resource.
func (r *resource) deleter() rest.GracefulDeleter {
	if r.kind.Finalize != nil {
		return newFinalizing(r.store)
	}
	return r.store
}

var (
	_ rest.GracefulDeleter   = (*finalizing)(nil)
	_ rest.CollectionDeleter = finalizingCollection{}
)
