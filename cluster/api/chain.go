package api

import (
	"errors"
	"io"
	"net/http"
	"os"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/filters/impersonation"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericfilters "k8s.io/apiserver/pkg/server/filters"
	flowcontrolrequest "k8s.io/apiserver/pkg/util/flowcontrol/request"
)

// chain is what a request passes on its way to a handler: the filters of the library in its own order,
// the last one written here is the first one passed. Left out is what most requests would pay for and
// nobody would look at: spans, one for each filter, when nothing is traced, and logs of each request.
// The stock filter that answers for handlers which take too long runs each in a goroutine of its own,
// whose stack grows anew for every request; ours end by themselves when their context does, see timely.
func (s *Server) chain(handler http.Handler, c *genericapiserver.Config) http.Handler {
	handler = filters.WithAuthorization(s.limit(withPlain(handler)), c.Authorization.Authorizer, c.Serializer)
	if c.FlowControl != nil {
		estimate := flowcontrolrequest.NewWorkEstimator(c.StorageObjectCountTracker.Get, watchesAreFree,
			flowcontrolrequest.DefaultWorkEstimatorConfig(), c.FlowControl.GetMaxSeats)
		handler = genericfilters.WithPriorityAndFairness(handler, c.LongRunningFunc, c.FlowControl, estimate, c.RequestTimeout/4)
	}
	handler = impersonation.WithConstrainedImpersonation(handler, c.Authorization.Authorizer, c.Serializer)
	unauthorized := filters.Unauthorized(c.Serializer)
	if s.audit != nil {
		handler = filters.WithAudit(handler, c.AuditBackend, c.AuditPolicyRuleEvaluator, c.LongRunningFunc)
		unauthorized = filters.WithFailedAuthenticationAudit(unauthorized, c.AuditBackend, c.AuditPolicyRuleEvaluator)
	}
	handler = filters.WithAuthentication(handler, c.Authentication.Authenticator, unauthorized, c.Authentication.APIAudiences, c.Authentication.RequestHeaderConfig)
	handler = withWarnings(handler)
	handler = timely(handler)
	handler = filters.WithRequestDeadline(handler, c.AuditBackend, c.AuditPolicyRuleEvaluator, c.LongRunningFunc, c.Serializer, c.RequestTimeout)
	handler = genericfilters.WithWaitGroup(handler, c.LongRunningFunc, c.NonLongRunningRequestWaitGroup)
	handler = filters.WithCacheControl(handler)
	if s.audit != nil {
		handler = filters.WithLatencyTrackers(handler)
	}
	handler = filters.WithRequestInfo(handler, c.RequestInfoResolver)
	handler = filters.WithRequestReceivedTimestamp(handler)
	handler = genericfilters.WithPanicRecovery(handler, c.RequestInfoResolver)
	return roomy(filters.WithAuditInit(handler))
}

// stackRoom is how deep the stack of nearly all requests gets, in bytes.
const stackRoom = 20 << 10

// roomy makes the stack of a request's goroutine large enough at once. Each request over HTTP/2 has a
// new one, that would be doubled four times under way, the last times with all of the chain on it: a
// twentieth of what a request costs.
func roomy(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		growStack(len(r.Method))
		handler.ServeHTTP(w, r)
	})
}

//go:noinline
func growStack(at int) byte {
	var room [stackRoom]byte
	return room[at]
}

// watchesAreFree says that a write is not dearer for the watches on its kind: they are fed from memory,
// by goroutines of their own.
func watchesAreFree(*request.RequestInfo) int { return 0 }

// timely ends the reading of a body with the time that the request has, so that whoever sends slowly
// is answered then.
func timely(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if end, ok := r.Context().Deadline(); ok && r.Body != nil && r.Body != http.NoBody {
			if http.NewResponseController(w).SetReadDeadline(end) == nil {
				r.Body = timelyBody{r.Body}
			}
		}
		handler.ServeHTTP(w, r)
	})
}

type timelyBody struct{ io.ReadCloser }

func (b timelyBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0)
	}
	return n, err
}
