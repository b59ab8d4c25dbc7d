package service

import (
	"net/url"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/apiserver/pkg/util/webhook"
	listers "k8s.io/client-go/listers/core/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/cluster/state/informer"
	"github.com/troupe-run/troupe/messages"
)

// Resolver turns the name and port of a Service into an address.
type Resolver struct {
	services listers.ServiceLister
	slices   slices
}

// NewResolver returns a resolver on the Services of a store.
func NewResolver(store *state.Store) *Resolver {
	return &Resolver{
		services: listers.NewServiceLister(informer.New(store, messages.Services).GetIndexer()),
		slices:   slices{store},
	}
}

// ResolveEndpoint returns an https URL of an endpoint that is ready, drawn among those there are.
// The errors are Kubernetes': NotFound without the Service, ServiceUnavailable without an endpoint.
func (r *Resolver) ResolveEndpoint(namespace, name string, port int32) (*url.URL, error) {
	if svc, err := r.services.Services(namespace).Get(name); err == nil && svc.Spec.Type == corev1.ServiceTypeExternalName {
		return proxy.ResolveCluster(r.services, namespace, name, port)
	}
	return proxy.ResolveEndpoint(r.services, r.slices, namespace, name, port)
}

// Slices returns the endpoints of a Service.
func Slices(reader objects.Reader, namespace, name string) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for _, slice := range objects.List[*discoveryv1.EndpointSlice](reader, messages.EndpointSlices, namespace) {
		if slice.Labels[discoveryv1.LabelServiceName] == name {
			out = append(out, slice)
		}
	}
	return out
}

// slices finds the endpoints of Services.
type slices struct{ reader objects.Reader }

func (s slices) GetEndpointSlices(namespace, name string) ([]*discoveryv1.EndpointSlice, error) {
	return Slices(s.reader, namespace, name), nil
}

var (
	_ webhook.ServiceResolver   = (*Resolver)(nil)
	_ proxy.EndpointSliceGetter = slices{}
)
