package aggregator

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	discoveryinformers "k8s.io/client-go/informers/discovery/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	clientset "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/typed/apiregistration/v1"
	informers "k8s.io/kube-aggregator/pkg/client/informers/externalversions/apiregistration/v1"
	listers "k8s.io/kube-aggregator/pkg/client/listers/apiregistration/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/cluster/state/informer"
	"github.com/troupe-run/troupe/messages"
)

// apiServices lets the library's controllers read APIServices.
type apiServices struct{ from *informer.Informer }

func (a apiServices) Informer() cache.SharedIndexInformer { return a.from }
func (a apiServices) Lister() listers.APIServiceLister {
	return listers.NewAPIServiceLister(a.from.GetIndexer())
}

type services struct{ from *informer.Informer }

func (s services) Informer() cache.SharedIndexInformer { return s.from }
func (s services) Lister() corelisters.ServiceLister {
	return corelisters.NewServiceLister(s.from.GetIndexer())
}

type endpointSlices struct{ from *informer.Informer }

func (e endpointSlices) Informer() cache.SharedIndexInformer { return e.from }
func (e endpointSlices) Lister() discoverylisters.EndpointSliceLister {
	return discoverylisters.NewEndpointSliceLister(e.from.GetIndexer())
}

func coreInformers(store *state.Store) (services, endpointSlices) {
	return services{informer.New(store, messages.Services)}, endpointSlices{informer.New(store, messages.EndpointSlices)}
}

// client lets the library's controllers write APIServices, in the ways that they do.
type client struct {
	clientset.APIServiceInterface
	writer objects.Writer
	store  *state.Store
}

func (c client) APIServices() clientset.APIServiceInterface { return c }

func (c client) Create(ctx context.Context, svc *apiregistrationv1.APIService, _ metav1.CreateOptions) (*apiregistrationv1.APIService, error) {
	return own(c.writer.Create(ctx, svc))
}

func (c client) Update(ctx context.Context, svc *apiregistrationv1.APIService, _ metav1.UpdateOptions) (*apiregistrationv1.APIService, error) {
	return own(c.writer.Update(ctx, svc))
}

func (c client) UpdateStatus(ctx context.Context, svc *apiregistrationv1.APIService, _ metav1.UpdateOptions) (*apiregistrationv1.APIService, error) {
	return own(c.writer.UpdateStatus(ctx, svc))
}

func (c client) Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error {
	return c.writer.Delete(ctx, messages.KeyOf(APIServices, "", name), opts)
}

func (c client) Get(_ context.Context, name string, _ metav1.GetOptions) (*apiregistrationv1.APIService, error) {
	svc, ok := objects.Get[*apiregistrationv1.APIService](c.store, messages.KeyOf(APIServices, "", name))
	if !ok {
		return nil, apierrors.NewNotFound(apiregistrationv1.Resource(APIServices.Resource), name)
	}
	return svc.DeepCopy(), nil
}

// own makes what a writer returned the caller's own.
func own(obj objects.Object, err error) (*apiregistrationv1.APIService, error) {
	if err != nil {
		return nil, err
	}
	return obj.DeepCopyObject().(*apiregistrationv1.APIService), nil
}

// onChange is a handler for any change.
func onChange(fn func(old, now *apiregistrationv1.APIService)) cache.ResourceEventHandler {
	as := func(obj any) *apiregistrationv1.APIService {
		svc, _ := obj.(*apiregistrationv1.APIService)
		return svc
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { fn(nil, as(obj)) },
		UpdateFunc: func(old, now any) { fn(as(old), as(now)) },
		DeleteFunc: func(obj any) { fn(as(obj), nil) },
	}
}

var (
	_ informers.APIServiceInformer             = apiServices{}
	_ coreinformers.ServiceInformer            = services{}
	_ discoveryinformers.EndpointSliceInformer = endpointSlices{}
	_ clientset.APIServicesGetter              = client{}
)
