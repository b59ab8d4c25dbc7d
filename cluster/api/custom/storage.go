package custom

import (
	"context"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresource"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/tools/cache"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/api/admission"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/cluster/state/storage"
	"github.com/troupe-run/troupe/messages"
)

// restOptions gives every custom resource its storage.
type restOptions struct{ store *state.Store }

func (o restOptions) GetRESTOptions(gr schema.GroupResource, _ runtime.Object) (generic.RESTOptions, error) {
	return generic.RESTOptions{
		StorageConfig: &storagebackend.ConfigForResource{
			Config:        storagebackend.Config{Codec: unstructured.UnstructuredJSONScheme},
			GroupResource: gr,
		},
		Decorator:               charged(storage.Decorator(o.store)),
		EnableGarbageCollection: true,
		DeleteCollectionWorkers: 4,
		ResourcePrefix:          "/" + gr.Group + "/" + gr.Resource,
	}, nil
}

// charged has a storage tell admission what became of a write: the library's registry has no place
// for that. The context begins in [Server.ServeHTTP] or in [begun].
func charged(make generic.StorageDecorator) generic.StorageDecorator {
	return func(config *storagebackend.ConfigForResource, prefix string, key func(runtime.Object) (string, error), newFunc, newListFunc func() runtime.Object,
		attributes apistorage.AttrFunc, triggers apistorage.IndexerFuncs, indexers *cache.Indexers) (apistorage.Interface, factory.DestroyFunc, error) {
		s, destroy, err := make(config, prefix, key, newFunc, newListFunc, attributes, triggers, indexers)
		return settling{s}, destroy, err
	}
}

type settling struct{ apistorage.Interface }

// Create stores an object.
func (s settling) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	err := s.Interface.Create(ctx, key, obj, out, ttl)
	admission.Settle(ctx, err == nil)
	return err
}

// GuaranteedUpdate stores an object, be it new or not.
func (s settling) GuaranteedUpdate(ctx context.Context, key string, out runtime.Object, ignoreNotFound bool,
	preconditions *apistorage.Preconditions, update apistorage.UpdateFunc, cached runtime.Object) error {
	err := s.Interface.GuaranteedUpdate(ctx, key, out, ignoreNotFound, preconditions, update, cached)
	admission.Settle(ctx, err == nil)
	return err
}

// begun is a registry whose writes are settled.
type begun struct{ Registry }

// Create stores an object.
func (b begun) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, opts *metav1.CreateOptions) (runtime.Object, error) {
	ctx, _ = admission.WithSettlement(ctx)
	return b.Registry.Create(ctx, obj, validate, opts)
}

// Registry is what stores the objects of a custom resource.
type Registry interface {
	rest.Getter
	rest.CreaterUpdater
	rest.GracefulDeleter
}

// Registry returns the kind of a custom resource, as it is stored, and what stores its objects.
func (s *Server) Registry(res messages.Resource) (schema.GroupVersionKind, Registry, error) {
	notFound := apierrors.NewNotFound(schema.GroupResource{Group: res.Group, Resource: res.Resource}, "")
	key := messages.KeyOf(Definitions, "", res.Resource+"."+res.Group)
	crd, ok := objects.Get[*apiextensionsv1.CustomResourceDefinition](s.cfg.Store, key)
	if !ok || !established(crd) {
		return schema.GroupVersionKind{}, nil, notFound
	}
	found, err := s.storage.GetCustomResourceListerCollectionDeleter(crd)
	if err != nil {
		return schema.GroupVersionKind{}, nil, err
	}
	r, ok := found.(*customresource.REST)
	if !ok {
		return schema.GroupVersionKind{}, nil, notFound
	}
	return r.New().GetObjectKind().GroupVersionKind(), begun{r}, nil
}
