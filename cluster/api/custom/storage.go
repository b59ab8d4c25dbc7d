package custom

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresource"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/storagebackend"

	"github.com/troupe-run/troupe/actors/objects"
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
		Decorator:               storage.Decorator(o.store),
		EnableGarbageCollection: true,
		DeleteCollectionWorkers: 4,
		ResourcePrefix:          "/" + gr.Group + "/" + gr.Resource,
	}, nil
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
	return r.New().GetObjectKind().GroupVersionKind(), r, nil
}
