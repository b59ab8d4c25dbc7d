package api

import (
	"context"
	"fmt"

	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/registry/generic"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	storageerr "k8s.io/apiserver/pkg/storage/errors"
	"k8s.io/apiserver/pkg/storage/names"
	"k8s.io/apiserver/pkg/storage/storagebackend"

	apiadmission "github.com/troupe-run/troupe/cluster/api/admission"
	"github.com/troupe-run/troupe/cluster/api/kind"
	statestorage "github.com/troupe-run/troupe/cluster/state/storage"
)

// registry is one stored kind as the generic machinery serves it.
type registry struct {
	*genericregistry.Store
	kind *kind.Kind
	deps any
	// plainJSON is the encoder for which answers share the objects' JSON; empty for none.
	plainJSON runtime.Identifier
}

// newRegistry wraps the kind's rules around its storage.
func newRegistry(k *kind.Kind, c codecs, back storage.Interface, deps any) (*registry, error) {
	gr := schema.GroupResource{Group: k.GVK.Group, Resource: k.Resource}
	strat := strategy{ObjectTyper: c.scheme, NameGenerator: names.SimpleNameGenerator, kind: k}
	r := &registry{kind: k, deps: deps}
	store := &genericregistry.Store{
		NewFunc:                   func() runtime.Object { return k.New() },
		NewListFunc:               k.NewList,
		DefaultQualifiedResource:  gr,
		SingularQualifiedResource: schema.GroupResource{Group: k.GVK.Group, Resource: k.Singular},
		PredicateFunc:             predicates(k),
		CreateStrategy:            strat,
		UpdateStrategy:            strat,
		DeleteStrategy:            strat,
		ResetFieldsStrategy:       strat,
		TableConvertor:            newTables(k),
		Storage:                   genericregistry.DryRunnableStorage{Storage: back, Codec: c.factory.LegacyCodec(k.GVK.GroupVersion())},
		StorageVersioner:          k.GVK.GroupVersion(),
		// The generic registry answers a delete with the object while finalizers hold it and with a
		// Status once it is gone; so do we.
	}
	if h := k.Hooks; h != nil {
		store.BeginCreate, store.BeginUpdate = r.beginCreate, r.beginUpdate
		if h.AfterDelete != nil {
			store.AfterDelete = func(obj runtime.Object, opts *metav1.DeleteOptions) {
				if len(opts.DryRun) == 0 {
					h.AfterDelete(obj.(kind.Object), deps)
				}
			}
		}
	}
	if k.Finalize != nil {
		store.ShouldDeleteDuringUpdate = func(_ context.Context, _ string, obj, _ runtime.Object) bool {
			return !k.Finalize.Pending(obj.(kind.Object))
		}
	}
	err := store.CompleteWithOptions(&generic.StoreOptions{
		RESTOptions: generic.RESTOptions{
			StorageConfig:           &storagebackend.ConfigForResource{GroupResource: gr},
			ResourcePrefix:          prefix(gr),
			EnableGarbageCollection: true,
			DeleteCollectionWorkers: 4,
		},
		AttrFunc: attributes(k),
	})
	if err != nil {
		return nil, fmt.Errorf("assemble registry of %s: %w", gr, err)
	}
	r.Store = store
	if _, own := back.(*statestorage.Storage); own {
		r.plainJSON = plainJSON(c, k.GVK.GroupVersion())
	}
	return r, nil
}

// prefix is the storage key root of a resource; the storage of cluster/state maps it to subjects.
func prefix(gr schema.GroupResource) string {
	if gr.Group == "" {
		return "/core/" + gr.Resource
	}
	return "/" + gr.Group + "/" + gr.Resource
}

// attributes returns what label and field selectors are matched against.
func attributes(k *kind.Kind) storage.AttrFunc {
	return func(obj runtime.Object) (labels.Set, fields.Set, error) {
		o, ok := obj.(kind.Object)
		if !ok {
			return nil, nil, fmt.Errorf("%T is not a %s", obj, k.GVK.Kind)
		}
		set := fields.Set{"metadata.name": o.GetName()}
		if k.Namespaced {
			set["metadata.namespace"] = o.GetNamespace()
		}
		if k.Fields != nil {
			for name, value := range k.Fields(o) {
				set[name] = value
			}
		}
		return o.GetLabels(), set, nil
	}
}

func predicates(k *kind.Kind) func(labels.Selector, fields.Selector) storage.SelectionPredicate {
	attrs := attributes(k)
	return func(label labels.Selector, field fields.Selector) storage.SelectionPredicate {
		return storage.SelectionPredicate{Label: label, Field: field, GetAttrs: attrs}
	}
}

func (r *registry) ShortNames() []string { return r.kind.ShortNames }
func (r *registry) Categories() []string { return r.kind.Categories }

// Create stores a new object; what hooks allocated for a dry run is given back.
func (r *registry) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, opts *metav1.CreateOptions) (runtime.Object, error) {
	ctx, held := withHeld(ctx)
	ctx, settle := apiadmission.WithSettlement(ctx)
	out, err := r.Store.Create(ctx, obj, validate, opts)
	held.settle(err == nil && len(opts.DryRun) == 0)
	settle(err == nil)
	return out, err
}

// Update replaces an object, retrying on conflict inside of the store; only what the attempt that
// was stored has allocated is kept.
func (r *registry) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc,
	update rest.ValidateObjectUpdateFunc, forceCreate bool, opts *metav1.UpdateOptions) (runtime.Object, bool, error) {
	ctx, held := withHeld(ctx)
	ctx, settle := apiadmission.WithSettlement(ctx)
	out, created, err := r.Store.Update(ctx, name, info, create, update, forceCreate, opts)
	kept := err == nil && len(opts.DryRun) == 0
	held.settle(kept)
	settle(err == nil)
	if h := r.kind.Hooks; kept && !created && h != nil && h.AfterUpdate != nil && held.old != nil {
		if obj, ok := out.(kind.Object); ok {
			h.AfterUpdate(obj, held.old, r.deps)
		}
	}
	return out, created, err
}

// Watch follows the objects; a version that is none is the client's fault.
func (r *registry) Watch(ctx context.Context, opts *metainternal.ListOptions) (watch.Interface, error) {
	w, err := r.Store.Watch(ctx, opts)
	if err != nil {
		return nil, storageerr.InterpretWatchError(err, r.DefaultQualifiedResource, "")
	}
	return w, nil
}

// depsFor keeps what a dry run allocates off the record.
func (r *registry) depsFor(dryRun []string) any {
	if d, ok := r.deps.(interface{ DryRun() any }); ok && len(dryRun) > 0 {
		return d.DryRun()
	}
	return r.deps
}

func (r *registry) beginCreate(ctx context.Context, obj runtime.Object, opts *metav1.CreateOptions) (genericregistry.FinishFunc, error) {
	if r.kind.Hooks.BeginCreate == nil {
		return doNothing, nil
	}
	undo, err := r.kind.Hooks.BeginCreate(ctx, obj.(kind.Object), r.depsFor(opts.DryRun))
	return keep(ctx, undo, nil), err
}

func (r *registry) beginUpdate(ctx context.Context, obj, old runtime.Object, opts *metav1.UpdateOptions) (genericregistry.FinishFunc, error) {
	was := old.(kind.Object)
	if r.kind.Hooks.BeginUpdate == nil {
		return keep(ctx, nil, was), nil
	}
	undo, err := r.kind.Hooks.BeginUpdate(ctx, obj.(kind.Object), was, r.depsFor(opts.DryRun))
	return keep(ctx, undo, was), err
}

func doNothing(context.Context, bool) {}

// held is what the hooks of one write hold until the write has succeeded or failed for good. The
// generic registry tells a hook of success before the store was written, so its word does not count.
type held struct {
	undo func()
	old  kind.Object
}

type heldKey struct{}

func withHeld(ctx context.Context) (context.Context, *held) {
	h := &held{}
	return context.WithValue(ctx, heldKey{}, h), h
}

// keep remembers the undo of this attempt after it has undone the one before.
func keep(ctx context.Context, undo func(), old kind.Object) genericregistry.FinishFunc {
	h, ok := ctx.Value(heldKey{}).(*held)
	if !ok { // a write that did not come through registry; the store's word must do
		return func(_ context.Context, success bool) {
			if !success && undo != nil {
				undo()
			}
		}
	}
	h.settle(false)
	h.undo, h.old = undo, old
	return doNothing
}

func (h *held) settle(keep bool) {
	if !keep && h.undo != nil {
		h.undo()
	}
	h.undo = nil
}

var (
	_ rest.StandardStorage    = (*registry)(nil)
	_ rest.ShortNamesProvider = (*registry)(nil)
	_ rest.CategoriesProvider = (*registry)(nil)
	_ kind.Store              = (*registry)(nil)
)
