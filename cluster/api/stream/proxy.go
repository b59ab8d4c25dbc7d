package stream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/api/service"
	"github.com/troupe-run/troupe/messages"
)

// PodProxy serves pods/proxy.
func (p *Pods) PodProxy() rest.Storage {
	return &proxied{p.podTarget, func() runtime.Object { return &corev1.Pod{} }, func() runtime.Object { return &corev1.PodProxyOptions{} }}
}

// ServiceProxy serves services/proxy.
func (p *Pods) ServiceProxy() rest.Storage {
	return &proxied{p.serviceTarget, func() runtime.Object { return &corev1.Service{} }, func() runtime.Object { return &corev1.ServiceProxyOptions{} }}
}

// NodeProxy serves nodes/proxy.
func (p *Pods) NodeProxy() rest.Storage {
	return &proxied{p.nodeTarget, func() runtime.Object { return &corev1.Node{} }, func() runtime.Object { return &corev1.NodeProxyOptions{} }}
}

// proxied is a subresource that passes requests on.
type proxied struct {
	// find says where a request goes that is for "name", "name:port" or "scheme:name:port".
	find         func(ctx context.Context, id string) (*url.URL, http.RoundTripper, error)
	new, options func() runtime.Object
}

func (p *proxied) New() runtime.Object { return p.new() }

// Destroy does nothing: there is no storage.
func (*proxied) Destroy() {}

// NewConnectOptions says that what follows in the path is the field "path".
func (p *proxied) NewConnectOptions() (runtime.Object, bool, string) {
	return p.options(), true, "path"
}

// ConnectMethods are all that HTTP has.
func (*proxied) ConnectMethods() []string {
	return []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions}
}

// Connect returns the handler that passes the request on, upgrades included.
func (p *proxied) Connect(ctx context.Context, id string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	loc, transport, err := p.find(ctx, id)
	if err != nil {
		return nil, err
	}
	path := ""
	switch o := options.(type) {
	case *corev1.PodProxyOptions:
		path = o.Path
	case *corev1.ServiceProxyOptions:
		path = o.Path
	case *corev1.NodeProxyOptions:
		path = o.Path
	default:
		return nil, fmt.Errorf("invalid options object: %#v", options)
	}
	loc.Path = utilnet.JoinPreservingTrailingSlash(loc.Path, path)
	return proxy.NewUpgradeAwareHandler(loc, transport, true, false, proxy.NewErrorResponder(responder)), nil
}

// podTarget finds a port of a pod: without one, the first that its containers declare.
func (p *Pods) podTarget(ctx context.Context, id string) (*url.URL, http.RoundTripper, error) {
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(id)
	if !ok {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("invalid pod request %q", id))
	}
	pod, err := p.pod(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	if port == "" {
		for i := range pod.Spec.Containers {
			if ports := pod.Spec.Containers[i].Ports; len(ports) > 0 {
				port = strconv.Itoa(int(ports[0].ContainerPort))
				break
			}
		}
	}
	return p.toPod(pod, scheme, port)
}

func (p *Pods) toPod(pod *corev1.Pod, scheme, port string) (*url.URL, http.RoundTripper, error) {
	ip, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil || !ip.IsGlobalUnicast() || pod.Spec.NodeName == "" {
		return nil, nil, apierrors.NewBadRequest("address not allowed")
	}
	transport, err := p.through(pod.Spec.NodeName, pod.Namespace, pod.Name)
	if err != nil {
		return nil, nil, err
	}
	loc := &url.URL{Scheme: scheme, Host: ip.String()}
	switch {
	case port != "":
		loc.Host = net.JoinHostPort(ip.String(), port)
	case ip.Is6():
		loc.Host = "[" + ip.String() + "]"
	}
	return loc, transport, nil
}

// serviceTarget finds an endpoint of a service that is ready, drawn among those there are. A port is
// given by its name, or by its number in the service. Only endpoints that are pods are reached:
// whoever writes endpoints must not lead the server anywhere else.
func (p *Pods) serviceTarget(ctx context.Context, id string) (*url.URL, http.RoundTripper, error) {
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(id)
	if !ok {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("invalid service request %q", id))
	}
	namespace := request.NamespaceValue(ctx)
	svc, ok := objects.Get[*corev1.Service](p.cfg.Reader, messages.KeyOf(messages.Services, namespace, name))
	if !ok {
		return nil, nil, apierrors.NewNotFound(corev1.Resource("services"), name)
	}
	if number, err := strconv.ParseInt(port, 10, 64); err == nil {
		i := slices.IndexFunc(svc.Spec.Ports, func(sp corev1.ServicePort) bool { return int64(sp.Port) == number })
		if i < 0 {
			return nil, nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", number, name))
		}
		port = svc.Spec.Ports[i].Name
	}
	all := service.Slices(p.cfg.Reader, namespace, name)
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, slice := range all {
		i := slices.IndexFunc(slice.Ports, func(sp discoveryv1.EndpointPort) bool { return sp.Port != nil && ptr.Deref(sp.Name, "") == port })
		if i < 0 {
			continue
		}
		for _, e := range rand.Perm(len(slice.Endpoints)) {
			if pod := p.behind(namespace, &slice.Endpoints[e]); pod != nil {
				return p.toPod(pod, scheme, strconv.Itoa(int(*slice.Ports[i].Port)))
			}
		}
	}
	return nil, nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", id))
}

// behind returns the pod that an endpoint is, nil when it is none or not ready.
func (p *Pods) behind(namespace string, e *discoveryv1.Endpoint) *corev1.Pod {
	ref := e.TargetRef
	if !ptr.Deref(e.Conditions.Ready, true) || ref == nil || ref.Kind != "Pod" || ref.Namespace != namespace {
		return nil
	}
	pod, ok := objects.Get[*corev1.Pod](p.cfg.Reader, messages.KeyOf(messages.Pods, namespace, ref.Name))
	if !ok || len(e.Addresses) == 0 || !slices.ContainsFunc(pod.Status.PodIPs, func(ip corev1.PodIP) bool { return ip.IP == e.Addresses[0] }) {
		return nil
	}
	return pod
}

// agentPort is the port of a node's own surface where the node does not say which it is.
const agentPort = 10250

// nodeTarget finds a port of a node: without one, and by that of its agent, the node's own surface.
func (p *Pods) nodeTarget(_ context.Context, id string) (*url.URL, http.RoundTripper, error) {
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(id)
	if !ok {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("invalid node request %q", id))
	}
	node, ok := objects.Get[*corev1.Node](p.cfg.Reader, messages.KeyOf(messages.Nodes, "", name))
	if !ok {
		return nil, nil, apierrors.NewNotFound(corev1.Resource("nodes"), name)
	}
	own := int(node.Status.DaemonEndpoints.KubeletEndpoint.Port)
	if own == 0 {
		own = agentPort
	}
	if port == "" || port == strconv.Itoa(own) {
		transport, err := p.transport(name)
		return &url.URL{Scheme: "http", Host: name}, transport, err
	}
	transport, err := p.through(name, "", "")
	return &url.URL{Scheme: scheme, Host: net.JoinHostPort(name, port)}, transport, err
}

var _ rest.Connecter = (*proxied)(nil)
