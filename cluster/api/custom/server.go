package custom

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apiextensions-apiserver/pkg/controller/apiapproval"
	"k8s.io/apiextensions-apiserver/pkg/controller/establish"
	"k8s.io/apiextensions-apiserver/pkg/controller/finalizer"
	"k8s.io/apiextensions-apiserver/pkg/controller/nonstructuralschema"
	"k8s.io/apiextensions-apiserver/pkg/controller/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/klog/v2"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/objects"
	apiadmission "github.com/troupe-run/troupe/cluster/api/admission"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/cluster/state/informer"
	"github.com/troupe-run/troupe/messages"
)

// Definitions is the resource of CustomResourceDefinitions.
var Definitions = messages.Resource{Group: apiextensionsv1.GroupName, Resource: "customresourcedefinitions"}

// requestTimeout is how long requests may still use what served a resource before its definition
// changed; as in the generic server.
const requestTimeout = time.Minute

// Config says what to serve custom resources with. All fields are required.
type Config struct {
	// Store keeps definitions and resources.
	Store *state.Store
	// Writer writes the status of definitions.
	Writer objects.Writer
	// Admission and Authorizer decide about requests.
	Admission  admission.Interface
	Authorizer authorizer.Authorizer
	// Services finds conversion webhooks, Credentials what is presented to them.
	Services    webhook.ServiceResolver
	Credentials webhook.AuthenticationInfoResolverWrapper
	// Discovery gets the groups.
	Discovery aggregated.ResourceManager
	// WatchTimeout is the shortest time after which a watch without a timeout of its own ends.
	WatchTimeout time.Duration
	// MaxRequestBody bounds what a request may carry, in bytes.
	MaxRequestBody int64
	// Clock is the source of time.
	Clock clock.WithTicker
	// Changed is called, from one goroutine, for each group whose versions may have changed.
	Changed func(group string, versions []string)
}

// Server serves custom resources.
type Server struct {
	cfg      Config
	informer *informer.Informer
	resource http.Handler // of requests for resources
	storage  finalizer.CRClientGetter
	run      []func(ctx context.Context)
	synced   chan struct{}
	changed  atomic.Pointer[time.Time] // when a definition that may have been used changed last
}

// New assembles a server. Some of the library's queues begin to run with it: it must be followed by
// [Server.Run].
func New(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, informer: informer.New(cfg.Store, Definitions), synced: make(chan struct{})}
	crds, client := definitions{s.informer}, client{writer: cfg.Writer}
	establishing := establish.NewEstablishingController(crds, client)
	handler, err := apiserver.NewCustomResourceDefinitionHandler(
		nil, nil, // discovery is ours: requests for it do not come there
		settled{crds}, http.NotFoundHandler(), restOptions{cfg.Store}, cfg.Admission, establishing,
		cfg.Services, cfg.Credentials, 1, cfg.Authorizer, requestTimeout, cfg.WatchTimeout,
		map[string]*spec.Schema{}, // what resources refer to is in their own schemas
		cfg.MaxRequestBody,
	)
	if err != nil {
		return nil, fmt.Errorf("assemble handler of custom resources: %w", err)
	}
	s.resource, s.storage = handler, handler
	naming := status.NewNamingConditionController(klog.TODO(), crds, client)
	structural := nonstructuralschema.NewConditionController(crds, client)
	approval := apiapproval.NewKubernetesAPIApprovalPolicyConformantConditionController(crds, client)
	finalizing := finalizer.NewCRDFinalizer(crds, client, handler)
	s.run = []func(context.Context){
		s.informer.RunWithContext,
		naming.RunWithContext,
		establishing.RunWithContext,
		func(ctx context.Context) { structural.RunWithContext(1, ctx) },
		func(ctx context.Context) { approval.RunWithContext(1, ctx) },
		func(ctx context.Context) { finalizing.RunWithContext(5, ctx) },
		s.publish,
	}
	return s, nil
}

// Run lets definitions take effect until ctx ends.
func (s *Server) Run(ctx context.Context) {
	var running sync.WaitGroup
	for _, run := range s.run {
		running.Go(func() { run(ctx) })
	}
	running.Wait()
	s.settle()
}

// tearDown is how long the library takes to put away what has served a definition that changed.
const tearDown = time.Second + 50*time.Millisecond

// settle waits for goroutines of the library that began with the last change of a definition.
func (s *Server) settle() {
	last := s.changed.Load()
	if last == nil {
		return
	}
	if left := tearDown - s.cfg.Clock.Since(*last); left > 0 {
		<-s.cfg.Clock.After(left)
	}
}

// Synced is closed when all that is defined at the start is in discovery.
func (s *Server) Synced() <-chan struct{} { return s.synced }

// ServeHTTP answers requests below /apis: for custom resources, and for the discovery of a version.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info, ok := request.RequestInfoFrom(r.Context())
	if ok && info.IsResourceRequest {
		if protobufObject(info, r) {
			responsewriters.ErrorNegotiated(errUnknownFormat, apiserver.Codecs, schema.GroupVersion{Group: info.APIGroup, Version: info.APIVersion}, w, r)
			return
		}
		ctx, _ := apiadmission.WithSettlement(r.Context())
		s.resource.ServeHTTP(w, r.WithContext(ctx))
		return
	}
	if parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/"); len(parts) == 3 {
		s.serveVersion(w, r, schema.GroupVersion{Group: parts[1], Version: parts[2]})
		return
	}
	http.NotFound(w, r)
}

// protobufObject says that a request brings a custom resource in protobuf, which there is no message
// for. The library has a reader for options in protobuf, and would take it for this.
func protobufObject(info *request.RequestInfo, r *http.Request) bool {
	mime, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return mime == runtime.ContentTypeProtobuf && info.Subresource != "scale" && (info.Verb == "create" || info.Verb == "update")
}

// errUnknownFormat is Kubernetes' answer to formats that it does not read.
var errUnknownFormat = &apierrors.StatusError{ErrStatus: metav1.Status{
	Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
	Message: "the body of the request was in an unknown format - accepted media types include: " + runtime.ContentTypeJSON + ", " + runtime.ContentTypeYAML,
}}

// all returns the definitions that are in effect.
func (s *Server) all() []*apiextensionsv1.CustomResourceDefinition {
	var out []*apiextensionsv1.CustomResourceDefinition
	for _, crd := range objects.List[*apiextensionsv1.CustomResourceDefinition](s.cfg.Store, Definitions, "") {
		if established(crd) {
			out = append(out, crd)
		}
	}
	return out
}
