package api

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/authorization/union"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericfilters "k8s.io/apiserver/pkg/server/filters"
	"k8s.io/apiserver/pkg/util/flowcontrol"
	"k8s.io/client-go/rest"

	apiadmission "github.com/troupe-run/troupe/cluster/api/admission"
	"github.com/troupe-run/troupe/cluster/api/alloc"
	"github.com/troupe-run/troupe/cluster/api/informers"
	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/service"
	"github.com/troupe-run/troupe/cluster/auth"
	"github.com/troupe-run/troupe/messages"
)

const (
	// watchTimeout is the shortest time after which a watch without a timeout of its own ends; the
	// generic handlers take up to twice as long, at random, so that not all clients return at once.
	watchTimeout = 30 * time.Minute
	// maxRequestBody is what a request may carry; one object is limited by the store.
	maxRequestBody = 3 << 20
	// kubernetesVersion is the release whose API is served.
	kubernetesVersion = "v1.36.6"
)

// Server is the API server of one cluster.
type Server struct {
	cfg           Config
	log           *slog.Logger
	codecs        codecs
	generic       *genericapiserver.GenericAPIServer
	schemas       *lazySchemas
	tokens        *auth.Tokens
	rbac          *auth.RBAC
	authenticator *auth.Authenticator
	authorizer    authorizer.Authorizer
	rules         authorizer.RuleResolver
	admission     *apiadmission.Plugins
	interfaces    admission.ObjectInterfaces
	alloc         *alloc.Allocator
	claims        *claims // nil when IPAddresses are not served
	resources     map[messages.Resource]*resource
	byType        map[reflect.Type]*resource
	versions      []schema.GroupVersion // that are built in
	extensions    atomic.Pointer[extensions]
	factory       *informers.Factory
	mapper        *mapper
	audit         *auditing // nil when nothing is written down
	fairness      flowcontrol.Interface
	recorder      *recorder
	loopback      *rest.Config
	ready         chan struct{}
}

// resource is one served kind with all its writers.
type resource struct {
	kind *kind.Kind
	// store is nil for kinds that are answered and not stored.
	store  *registry
	subs   map[string]*subresource
	target *target
}

// New assembles a server. It does no I/O besides what Config.Storage does and starts nothing.
func New(cfg Config) (*Server, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	cfg.complete()
	s := &Server{
		cfg: cfg, log: cfg.Log, ready: make(chan struct{}),
		resources: make(map[messages.Resource]*resource), byType: make(map[reflect.Type]*resource),
	}
	var err error
	if s.codecs, err = newCodecs(cfg.Kinds); err != nil {
		return nil, err
	}
	if s.tokens, err = auth.NewTokens(cfg.Authority, cfg.Issuer, cfg.Store); err != nil {
		return nil, err
	}
	s.tokens.OnLegacyUse(s.legacyTokenUsed)
	s.authenticator, err = auth.NewAuthenticator(auth.AuthnConfig{Authority: cfg.Authority, Tokens: s.tokens, Reader: cfg.Store,
		File: cfg.Authentication, ClientCA: cfg.ClientCA, Clock: cfg.Clock, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	s.rbac = auth.NewRBAC(cfg.Store)
	nodes := auth.NewNode(cfg.Store)
	s.authorizer = union.New(authorizerfactory.NewPrivilegedGroups(user.SystemPrivilegedGroup), nodes, s.rbac)
	s.rules = union.NewRuleResolvers(nodes, s.rbac)
	s.schemas = newLazySchemas(func() (managedfields.TypeConverter, error) { return typeConverter(s.codecs.scheme, s.cfg.Kinds) })
	s.factory = informers.New(cfg.Store, cfg.Kinds)
	s.mapper = newMapper(cfg.Kinds, s.LoopbackConfig, cfg.Clock)
	s.interfaces = admission.NewObjectInterfacesFromScheme(s.codecs.scheme)
	if s.admission, err = apiadmission.Chain(apiadmission.Config{
		Reader: cfg.Store, Writer: s.Local(user.APIServerUser), Books: cfg.Books, Clock: cfg.Clock, Mapper: s.mapper,
		Authorizer: s.authorizer, Escalation: auth.NewEscalation(s.rbac, s.authorizer),
		Outside: &apiadmission.Outside{Factory: s.factory, Loopback: s.LoopbackConfig, Services: service.NewResolver(cfg.Store)},
	}); err != nil {
		return nil, err
	}
	s.alloc = alloc.New(cfg.ServiceCIDR, cfg.Store, cfg.DNS)
	s.loopback = s.loopbackConfig()
	if s.audit, err = cfg.Audit.open(); err != nil {
		return nil, err
	}
	s.fairness = s.newFairness()
	if err := s.assemble(); err != nil {
		return nil, err
	}
	s.recorder = newRecorder(s)
	if s.serves(messages.IPAddresses) {
		s.claims = &claims{
			reader: cfg.Store, feed: cfg.Store, writer: s.Local(user.APIServerUser), alloc: s.alloc, clock: cfg.Clock, log: cfg.Log,
			dirty: make(map[netip.Addr]bool), wake: make(chan struct{}, 1),
		}
		s.alloc.Record(s.claims)
	}
	return s, nil
}

// assemble builds the generic server around the kinds.
func (s *Server) assemble() error {
	c := genericapiserver.NewConfig(s.codecs.factory)
	c.ExternalAddress = s.cfg.Advertise.String()
	if !s.cfg.Advertise.IsValid() {
		c.ExternalAddress = "kubernetes.default.svc:443"
	}
	c.EffectiveVersion = s.version()
	c.EquivalentResourceRegistry = equivalents(s.cfg.Kinds)
	c.LoopbackClientConfig = s.loopback
	c.Authentication.APIAudiences = authenticator.Audiences{s.cfg.Issuer}
	c.Authentication.Authenticator = s.authenticator
	c.Authorization.Authorizer = s.authorizer
	c.LongRunningFunc = genericfilters.BasicLongRunningRequestCheck(
		sets.NewString("watch", "proxy"), sets.NewString("attach", "exec", "proxy", "log", "portforward"))
	// Schemas are served lazily, see schemas.go. Objects are not counted for flow control: lists come
	// from memory.
	c.SkipOpenAPIInstallation = true
	c.EnableDiscovery = false // see install.go
	// The stock checks include one that starts a goroutine for ever.
	checks := s.checks()
	c.HealthzChecks, c.LivezChecks, c.ReadyzChecks = checks, checks, append(checks[:len(checks):len(checks)], s.readyCheck())
	c.DisabledPostStartHooks = sets.NewString("max-in-flight-filter", "storage-object-count-tracker-hook",
		"priority-and-fairness-config-consumer", "priority-and-fairness-filter") // see run.go
	c.AdmissionControl = s.admission
	c.EquivalentResourceRegistry = runtime.NewEquivalentResourceRegistryWithIdentity(equivalent)
	if s.audit != nil {
		c.AuditBackend, c.AuditPolicyRuleEvaluator = s.audit.Backend, s.audit.rules
	}
	if s.fairness != nil { // nil in an interface is not nil
		c.FlowControl = s.fairness
	}
	c.BuildHandlerChainFunc = s.chain
	generic, err := c.Complete(nil).New("troupe", genericapiserver.NewEmptyDelegateWithCustomHandler(http.HandlerFunc(s.serveExtension)))
	if err != nil {
		return fmt.Errorf("assemble generic server: %w", err)
	}
	s.generic = generic
	s.interfaces = objectInterfaces{s.interfaces, generic.EquivalentResourceRegistry}
	storages, order, err := s.storages()
	if err != nil {
		return err
	}
	if err := s.install(storages, order); err != nil {
		return err
	}
	if err := s.serveIssuer(); err != nil {
		return err
	}
	newDocuments(s, kubernetesVersion).install(generic.Handler.NonGoRestfulMux)
	generic.PrepareRun()
	return nil
}

// equivalent says which resources are the same objects: Events have two groups.
func equivalent(r schema.GroupResource) string {
	if r.Resource == messages.Events.Resource && (r.Group == "" || r.Group == eventsv1.GroupName) {
		return messages.Events.Resource
	}
	return r.String()
}

// objectInterfaces are those of the scheme, with the resources that are served under two names.
type objectInterfaces struct {
	admission.ObjectInterfaces
	mapper runtime.EquivalentResourceMapper
}

func (o objectInterfaces) GetEquivalentResourceMapper() runtime.EquivalentResourceMapper {
	return o.mapper
}

// storages opens the storage of each kind and collects what is served under which path.
func (s *Server) storages() (groupVersions, []schema.GroupVersion, error) {
	out := make(groupVersions)
	var order []schema.GroupVersion
	d := deps{s.alloc, s}
	for i := range s.cfg.Kinds {
		k := &s.cfg.Kinds[i]
		gv := k.GVK.GroupVersion()
		if out[gv] == nil {
			order = append(order, gv)
		}
		if k.Answer != nil {
			answers, err := k.Answer(d)
			if err != nil {
				return nil, nil, err
			}
			out.add(gv, k.Resource, answers)
			continue
		}
		r := &resource{kind: k, subs: make(map[string]*subresource)}
		s.resources[messages.Resource{Group: gv.Group, Resource: k.Resource}] = r
		s.byType[reflect.TypeOf(k.New())] = r
		back, err := s.storage(k)
		if err != nil {
			return nil, nil, fmt.Errorf("open storage of %s: %w", k.GVK, err)
		}
		if r.store, err = newRegistry(k, s.codecs, back, d); err != nil {
			return nil, nil, err
		}
		switch {
		case k.Finalize == nil:
			out.add(gv, k.Resource, r.store)
		case k.Finalize.Collection:
			out.add(gv, k.Resource, finalizingCollection{newFinalizing(r.store)})
		default:
			out.add(gv, k.Resource, newFinalizing(r.store))
		}
		if k.Status != nil {
			r.subs["status"] = newSubresource(r.store, "status", k.Status)
		}
		for name, sub := range k.Subresources {
			r.subs[name] = newSubresource(r.store, name, sub)
		}
		for name, sub := range r.subs {
			out.add(gv, k.Resource+"/"+name, sub)
		}
		r.target = newTarget(r)
		if k.Scale != nil {
			out.add(gv, k.Resource+"/scale", newScale(r.store))
		}
		for name, build := range k.Extra {
			extra, err := build(r.store, d)
			if err != nil {
				return nil, nil, fmt.Errorf("build %s/%s: %w", k.Resource, name, err)
			}
			out.add(gv, k.Resource+"/"+name, extra)
		}
	}
	s.extras(out)
	return out, s.addVersions(out, order), nil
}

// Handler serves the API, with authentication and all that follows.
func (s *Server) Handler() http.Handler { return s.generic.Handler }

// Ready is closed when the server accepts requests and the objects every cluster has exist.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// LoopbackConfig reaches the server from within the process, as an administrator.
func (s *Server) LoopbackConfig() *rest.Config { return rest.CopyConfig(s.loopback) }

func (s *Server) loopbackConfig() *rest.Config {
	scheme := "https"
	tls := rest.TLSClientConfig{CAData: s.cfg.Authority.CAPEM(), ServerName: "localhost"}
	if s.cfg.Insecure {
		scheme, tls = "http", rest.TLSClientConfig{}
	}
	// client-go keeps what dials as the key of its transports: it must not lead to the server, or
	// neither is ever collected.
	dial := s.cfg.Dial
	host := "localhost"
	if s.cfg.Advertise.IsValid() {
		host = s.cfg.Advertise.String()
	}
	return &rest.Config{
		Host:            scheme + "://" + host,
		BearerToken:     uuid.NewString(),
		TLSClientConfig: tls,
		Dial:            func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		QPS:             -1,
	}
}
