package aggregator

import (
	"net/http"
	"net/url"

	"k8s.io/apimachinery/pkg/runtime"
	utilproxy "k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	utilflowcontrol "k8s.io/apiserver/pkg/util/flowcontrol"
	apiserverproxy "k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/client-go/transport"
	"k8s.io/klog/v2"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"
	"k8s.io/kube-aggregator/pkg/controllers/status/remote"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// proxy passes requests on to the Service of an APIService. Transports are client-go's, which keeps
// one for each certificate and name, so that connections are used again.
type proxy struct {
	s      *Server
	name   string
	always bool // also while the API is not held to be available: the server itself asks
}

func (p proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	svc, ok := objects.Get[*apiregistrationv1.APIService](p.s.cfg.Store, messages.KeyOf(APIServices, "", p.name))
	if !ok || svc.Spec.Service == nil {
		http.NotFound(w, r)
		return
	}
	if !p.always && !helper.IsAPIServiceConditionTrue(svc, apiregistrationv1.Available) {
		http.Error(w, "service unavailable", http.StatusServiceUnavailable)
		return
	}
	user, ok := request.UserFrom(r.Context())
	if !ok {
		http.Error(w, "missing user", http.StatusInternalServerError)
		return
	}
	ref := svc.Spec.Service
	port := int32(443)
	if ref.Port != nil {
		port = *ref.Port
	}
	at, err := p.s.cfg.Services.ResolveEndpoint(ref.Namespace, ref.Name, port)
	if err != nil {
		klog.V(2).InfoS("the Service of an API is not to be reached", "apiservice", p.name, "err", err)
		http.Error(w, "service unavailable", http.StatusServiceUnavailable)
		return
	}
	crt, key := p.s.cfg.Certificate()
	base, err := transport.New(remote.BuildTransportConfig(nil, crt, key, svc))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	location := &url.URL{Scheme: "https", Host: at.Host, Path: r.URL.Path, RawQuery: r.URL.Query().Encode()}
	next, cancel := apiserverproxy.NewRequestForProxy(location, r)
	defer cancel()
	upgrade := httpstream.IsUpgradeRequest(r)
	if upgrade { // the connection is dialed past the round tripper that would set them
		transport.SetAuthProxyHeaders(next, user.GetName(), user.GetUID(), user.GetGroups(), user.GetExtra())
	}
	tripper := transport.NewAuthProxyRoundTripper(user.GetName(), user.GetUID(), user.GetGroups(), user.GetExtra(), base)
	h := utilproxy.NewUpgradeAwareHandler(location, tripper, true, upgrade, responder{w})
	utilflowcontrol.RequestDelegated(r.Context())
	h.ServeHTTP(w, next)
}

// responder says what went wrong on the way.
type responder struct{ w http.ResponseWriter }

func (r responder) Object(code int, obj runtime.Object) { responsewriters.WriteRawJSON(code, obj, r.w) }

func (r responder) Error(_ http.ResponseWriter, _ *http.Request, err error) {
	http.Error(r.w, err.Error(), http.StatusServiceUnavailable)
}
