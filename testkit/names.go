package testkit

import (
	"fmt"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// names resolves what tests call objects. Discovery is asked once, and again about kinds it did
// not know.
type names struct {
	http   *http.Client
	client dynamic.Interface
	mapper *restmapper.DeferredDiscoveryRESTMapper
	expand meta.RESTMapper
}

func newNames(cfg *rest.Config, client *kubernetes.Clientset) (*names, error) {
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, err
	}
	d, err := dynamic.NewForConfigAndClient(cfg, h)
	if err != nil {
		return nil, err
	}
	cached := memory.NewMemCacheClient(client.Discovery())
	m := restmapper.NewDeferredDiscoveryRESTMapper(cached)
	return &names{http: h, client: d, mapper: m, expand: restmapper.NewShortcutExpander(m, cached, nil)}, nil
}

func (n *names) close() { n.http.CloseIdleConnections() }

// find resolves "Kind[.group] [namespace/]name"; the kind may also be a resource or its short
// name, as for kubectl.
func (n *names) find(text string) (dynamic.ResourceInterface, string, error) {
	kind, path, ok := strings.Cut(text, " ")
	if !ok {
		return nil, "", fmt.Errorf("%q does not name an object: write \"Kind namespace/name\"", text)
	}
	namespace, name, ok := strings.Cut(path, "/")
	if !ok {
		namespace, name = "", path
	}
	resource, group, _ := strings.Cut(strings.ToLower(kind), ".")
	gvk, err := n.expand.KindFor(schema.GroupVersionResource{Group: group, Resource: resource})
	if err != nil {
		return nil, "", err
	}
	res, err := n.resource(gvk, namespace)
	return res, name, err
}

// resource is the client of a kind, in a namespace if it has any; "" means the default one.
func (n *names) resource(gvk schema.GroupVersionKind, namespace string) (dynamic.ResourceInterface, error) {
	m, err := n.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, err
	}
	if m.Scope.Name() != meta.RESTScopeNameNamespace {
		return n.client.Resource(m.Resource), nil
	}
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	return n.client.Resource(m.Resource).Namespace(namespace), nil
}
