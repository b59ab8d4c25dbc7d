package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/rest"
	"k8s.io/component-base/tracing"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/controllers/autoregister"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/api/aggregator"
	"github.com/troupe-run/troupe/cluster/api/custom"
	"github.com/troupe-run/troupe/cluster/api/service"
	"github.com/troupe-run/troupe/cluster/auth"
	"github.com/troupe-run/troupe/messages"
)

// extensions serves what is not built in: APIs of other servers and custom resources, in this order.
// It is made when the server runs, for parts of it begin to work at once.
type extensions struct {
	remote *aggregator.Server
	custom *custom.Server
	proxy  *auth.FrontProxy
}

// extend makes the extensions.
func (s *Server) extend() (err error) {
	e := &extensions{}
	if e.proxy, err = s.cfg.Authority.FrontProxy(); err != nil {
		return err
	}
	services := service.NewResolver(s.cfg.Store)
	e.remote, err = aggregator.New(aggregator.Config{
		Store: s.cfg.Store, Writer: s.Local(user.APIServerUser), Services: services, Certificate: e.proxy.Client, Local: s.localAPIs(),
		Discovery: s.generic.AggregatedDiscoveryGroupManager.WithSource(aggregated.AggregatorSource),
	})
	if err != nil {
		return err
	}
	e.custom, err = custom.New(custom.Config{
		Store: s.cfg.Store, Writer: s.Local(user.APIServerUser), Admission: s.admission, Authorizer: s.authorizer,
		Services: services, Credentials: webhook.NewDefaultAuthenticationInfoResolverWrapper(nil, nil, rest.CopyConfig(s.loopback), tracing.NewNoopTracerProvider()),
		Discovery:    s.generic.AggregatedDiscoveryGroupManager.WithSource(aggregated.CRDSource),
		WatchTimeout: watchTimeout, MaxRequestBody: maxRequestBody, Changed: e.remote.SetCustom, Clock: s.cfg.Clock,
	})
	if err != nil {
		return err
	}
	s.extensions.Store(e)
	return nil
}

// run keeps the extensions until ctx ends.
func (e *extensions) run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { e.custom.Run(ctx) })
	select { // the versions of custom resources have to be known before APIServices are compared with them
	case <-e.custom.Synced():
	case <-ctx.Done():
	}
	running.Go(func() { e.remote.Run(ctx) })
	running.Wait()
}

// serveExtension answers what nothing built in answers.
func (s *Server) serveExtension(w http.ResponseWriter, r *http.Request) {
	e := s.extensions.Load()
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case e == nil || parts[0] != "apis":
		http.NotFound(w, r)
	case len(parts) == 1:
		e.remote.ServeGroups(w, r)
	case len(parts) == 2:
		e.remote.ServeGroup(w, r, parts[1])
	default:
		if h, ok := e.remote.Remote(schema.GroupVersion{Group: parts[1], Version: parts[2]}); ok {
			h.ServeHTTP(w, r)
			return
		}
		e.custom.ServeHTTP(w, r)
	}
}

// priorities order the groups as Kubernetes does, and the versions within each.
var priorities = map[schema.GroupVersion]aggregator.Priority{
	{Group: "", Version: "v1"}:                             {Group: 18000, Version: 1},
	{Group: "apps", Version: "v1"}:                         {Group: 17800, Version: 15},
	{Group: "events.k8s.io", Version: "v1"}:                {Group: 17750, Version: 15},
	{Group: "authentication.k8s.io", Version: "v1"}:        {Group: 17700, Version: 15},
	{Group: "authorization.k8s.io", Version: "v1"}:         {Group: 17600, Version: 15},
	{Group: "autoscaling", Version: "v1"}:                  {Group: 17500, Version: 15},
	{Group: "autoscaling", Version: "v2"}:                  {Group: 17500, Version: 30},
	{Group: "batch", Version: "v1"}:                        {Group: 17400, Version: 15},
	{Group: "certificates.k8s.io", Version: "v1"}:          {Group: 17300, Version: 15},
	{Group: "networking.k8s.io", Version: "v1"}:            {Group: 17200, Version: 15},
	{Group: "policy", Version: "v1"}:                       {Group: 17100, Version: 15},
	{Group: "rbac.authorization.k8s.io", Version: "v1"}:    {Group: 17000, Version: 15},
	{Group: "storage.k8s.io", Version: "v1"}:               {Group: 16800, Version: 15},
	{Group: "apiextensions.k8s.io", Version: "v1"}:         {Group: 16700, Version: 15},
	{Group: "admissionregistration.k8s.io", Version: "v1"}: {Group: 16700, Version: 15},
	{Group: "scheduling.k8s.io", Version: "v1"}:            {Group: 16600, Version: 15},
	{Group: "coordination.k8s.io", Version: "v1"}:          {Group: 16500, Version: 15},
	{Group: "node.k8s.io", Version: "v1"}:                  {Group: 16300, Version: 15},
	{Group: "discovery.k8s.io", Version: "v1"}:             {Group: 16200, Version: 15},
	{Group: "flowcontrol.apiserver.k8s.io", Version: "v1"}: {Group: 16100, Version: 21},
	{Group: "resource.k8s.io", Version: "v1"}:              {Group: 15200, Version: 20},
}

// localAPIs are the APIServices of the versions that are built in. That of APIServices themselves has
// none, as in Kubernetes.
func (s *Server) localAPIs() []*apiregistrationv1.APIService {
	var out []*apiregistrationv1.APIService
	for _, gv := range s.versions {
		if gv.Group == apiregistrationv1.GroupName {
			continue
		}
		p, ok := priorities[gv]
		if !ok {
			p = aggregator.Priority{Group: 15000, Version: 15}
		}
		out = append(out, aggregator.LocalAPIService(gv, p))
	}
	return out
}

// prioritize orders the newer form of discovery like the older one.
func (s *Server) prioritize() {
	for _, svc := range s.localAPIs() {
		gv := metav1.GroupVersion{Group: svc.Spec.Group, Version: svc.Spec.Version}
		s.generic.AggregatedDiscoveryGroupManager.SetGroupVersionPriority(gv, int(svc.Spec.GroupPriorityMinimum), int(svc.Spec.VersionPriority))
	}
	own := metav1.GroupVersion(apiregistrationv1.SchemeGroupVersion)
	s.generic.AggregatedDiscoveryGroupManager.SetGroupVersionPriority(own, 20000, 0)
}

// bootAPIServices registers what is built in.
func (s *Server) bootAPIServices(ctx context.Context, g *errgroup.Group, w objects.Writer) {
	if !s.serves(aggregator.APIServices) {
		return
	}
	for _, svc := range s.localAPIs() {
		svc.Labels = map[string]string{autoregister.AutoRegisterManagedLabel: "onstart"}
		g.Go(func() error { return s.ensure(ctx, w, messages.KeyOf(aggregator.APIServices, "", svc.Name), svc, nil) })
	}
}

// authenticationConfig is the ConfigMap in kube-system that tells aggregated APIs whom to believe.
const authenticationConfig = "extension-apiserver-authentication"

// bootAuthentication writes down how requests that are passed on prove whose they are.
func (s *Server) bootAuthentication(ctx context.Context, w objects.Writer) error {
	if !s.serves(messages.ConfigMaps) {
		return nil
	}
	list := func(values ...string) string {
		out, _ := json.Marshal(values) // strings
		return string(out)
	}
	data := map[string]string{
		"client-ca-file":                     string(s.cfg.Authority.CAPEM()),
		"requestheader-client-ca-file":       string(s.extensions.Load().proxy.CAPEM()),
		"requestheader-allowed-names":        list(auth.FrontProxyName),
		"requestheader-username-headers":     list("X-Remote-User"),
		"requestheader-uid-headers":          list("X-Remote-Uid"),
		"requestheader-group-headers":        list("X-Remote-Group"),
		"requestheader-extra-headers-prefix": list("X-Remote-Extra-"),
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: authenticationConfig}, Data: data}
	return s.ensure(ctx, w, messages.KeyOf(messages.ConfigMaps, cm.Namespace, cm.Name), cm, func(o objects.Object) (objects.Object, bool) {
		have := o.(*corev1.ConfigMap)
		changed := !apiequality.Semantic.DeepEqual(have.Data, data)
		have.Data = data
		return have, changed
	})
}
