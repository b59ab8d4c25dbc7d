package aggregator

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apiserver"
	"k8s.io/kube-aggregator/pkg/controllers/autoregister"
	local "k8s.io/kube-aggregator/pkg/controllers/status/local"
	"k8s.io/kube-aggregator/pkg/controllers/status/metrics"
	"k8s.io/kube-aggregator/pkg/controllers/status/remote"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/cluster/state/informer"
	"github.com/troupe-run/troupe/messages"
)

// APIServices is the resource of APIServices.
var APIServices = messages.Resource{Group: apiregistrationv1.GroupName, Resource: "apiservices"}

// Config says how other servers are reached. All fields are required.
type Config struct {
	// Store keeps APIServices, and the Services that they name.
	Store *state.Store
	// Writer writes APIServices and their status.
	Writer objects.Writer
	// Services finds where a Service is to be reached.
	Services webhook.ServiceResolver
	// Certificate returns what the server proves to be itself with, as PEM.
	Certificate func() (crt, key []byte)
	// Discovery gets what remote APIs serve.
	Discovery aggregated.ResourceManager
	// Local are the versions that are served here whatever happens.
	Local []*apiregistrationv1.APIService
}

// Server proxies to remote APIs and keeps APIServices.
type Server struct {
	cfg       Config
	informer  *informer.Informer
	register  autoregister.AutoAPIServiceRegistration
	available *metrics.Metrics
	schemas   atomic.Pointer[schemas] // nil before the first remote API
	run       []func(ctx context.Context)
}

// shared are the metrics of all servers of a process.
var (
	metricsOnce sync.Once
	metricsErr  error
	shared      = metrics.New()
)

// New assembles a server. Some of the library's queues begin to run with it: it must be followed by
// [Server.Run].
func New(cfg Config) (*Server, error) {
	metricsOnce.Do(func() { metricsErr = shared.Register(legacyregistry.Register, legacyregistry.CustomRegister) })
	if metricsErr != nil {
		return nil, fmt.Errorf("register metrics of APIServices: %w", metricsErr)
	}
	s := &Server{cfg: cfg, informer: informer.New(cfg.Store, APIServices), available: shared}
	services, client := apiServices{s.informer}, client{writer: cfg.Writer, store: cfg.Store}
	keeper := autoregister.NewAutoRegisterController(services, client)
	for _, svc := range cfg.Local {
		keeper.AddAPIServiceToSyncOnStart(svc)
	}
	s.register = keeper
	conditions, err := local.New(services, client, s.available)
	if err != nil {
		return nil, fmt.Errorf("assemble conditions of local APIServices: %w", err)
	}
	s.run = []func(context.Context){
		s.informer.RunWithContext,
		func(ctx context.Context) { keeper.Run(2, ctx.Done()) },
		func(ctx context.Context) { conditions.Run(1, ctx.Done()) },
		s.follow,
	}
	return s, nil
}

// Run keeps APIServices until ctx ends. Versions that are served from the start must have been given
// to [Server.SetCustom] before.
func (s *Server) Run(ctx context.Context) {
	var running sync.WaitGroup
	for _, run := range s.run {
		running.Go(func() { run(ctx) })
	}
	running.Wait()
}

// SetCustom registers the versions that custom resources of a group are served in.
func (s *Server) SetCustom(group string, versions []string) {
	wanted := map[string]bool{}
	for _, v := range versions {
		svc := LocalAPIService(schema.GroupVersion{Group: group, Version: v}, apiserverPriority)
		wanted[svc.Name] = true
		s.register.AddAPIServiceToSync(svc)
	}
	for _, svc := range s.all() {
		if svc.Spec.Group == group && svc.Labels[autoregister.AutoRegisterManagedLabel] == "true" && !wanted[svc.Name] {
			s.register.RemoveAPIServiceToSync(svc.Name)
		}
	}
}

// Priority orders groups, and versions of a group: higher ones come first.
type Priority struct{ Group, Version int32 }

// apiserverPriority is what Kubernetes gives to custom resources.
var apiserverPriority = Priority{Group: 1000, Version: 100}

// LocalAPIService says that a version is served here.
func LocalAPIService(gv schema.GroupVersion, p Priority) *apiregistrationv1.APIService {
	return &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: gv.Version + "." + gv.Group},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: gv.Group, Version: gv.Version, GroupPriorityMinimum: p.Group, VersionPriority: p.Version},
	}
}

// all returns the APIServices there are, and those that have yet to be written.
func (s *Server) all() []*apiregistrationv1.APIService {
	out := objects.List[*apiregistrationv1.APIService](s.cfg.Store, APIServices, "")
	for _, svc := range s.cfg.Local {
		if _, ok := s.cfg.Store.Get(messages.KeyOf(APIServices, "", svc.Name)); !ok {
			out = append(out, svc)
		}
	}
	return out
}

// Remote returns what answers for a version at another server; ok is false when there is none.
func (s *Server) Remote(gv schema.GroupVersion) (h http.Handler, ok bool) {
	svc, ok := objects.Get[*apiregistrationv1.APIService](s.cfg.Store, messages.KeyOf(APIServices, "", gv.Version+"."+gv.Group))
	if !ok || svc.Spec.Service == nil {
		return nil, false
	}
	return proxy{s, svc.Name, false}, true
}

// follow starts what watches over remote APIs with the first of them, and tells it of all.
func (s *Server) follow(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	var documents apiserver.DiscoveryAggregationController
	handle, err := s.informer.AddEventHandler(onChange(func(old, now *apiregistrationv1.APIService) {
		was, is := old != nil && old.Spec.Service != nil, now != nil && now.Spec.Service != nil
		if is && documents == nil {
			if documents = s.watchRemote(ctx, &running); documents == nil {
				return
			}
		}
		switch {
		case is:
			h := proxy{s, now.Name, true}
			documents.AddAPIService(now, h)
			s.schemas.Load().set(now, h)
		case was && documents != nil:
			documents.RemoveAPIService(old.Name)
			s.schemas.Load().remove(old.Name)
		}
	}))
	if err != nil { // it is over already
		return
	}
	<-ctx.Done()
	_ = s.informer.RemoveEventHandler(handle)
}

// watchRemote starts what watches over remote APIs: their availability, discovery and schemas. It
// returns nil when that cannot be.
func (s *Server) watchRemote(ctx context.Context, running *sync.WaitGroup) apiserver.DiscoveryAggregationController {
	all, err := newSchemas()
	if err != nil {
		klog.ErrorS(err, "remote APIs are not watched")
		return nil
	}
	services, slices := coreInformers(s.cfg.Store)
	conditions, err := remote.New(apiServices{s.informer}, services, slices, client{writer: s.cfg.Writer, store: s.cfg.Store},
		nil, s.cfg.Certificate, s.cfg.Services, s.available)
	if err != nil {
		klog.ErrorS(err, "remote APIs are not watched")
		return nil
	}
	documents := apiserver.NewDiscoveryManager(s.cfg.Discovery)
	s.schemas.Store(all)
	for _, run := range []func(){
		func() { services.from.RunWithContext(ctx) },
		func() { slices.from.RunWithContext(ctx) },
		func() { conditions.Run(2, ctx.Done()) },
		func() { documents.Run(ctx.Done(), nil) },
		func() { all.run(ctx) },
	} {
		running.Go(run)
	}
	return documents
}
