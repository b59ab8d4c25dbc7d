package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/auth"
	"github.com/troupe-run/troupe/messages"
)

// tokens serves serviceaccounts/token.
type tokens struct {
	reader objects.Reader
	tokens *auth.Tokens
}

func (*tokens) New() runtime.Object { return &authenticationv1.TokenRequest{} }

// Destroy does nothing: the accounts own the storage.
func (*tokens) Destroy() {}

// GroupVersionKind says that the subresource speaks another kind than service accounts do.
func (*tokens) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")
}

// Create issues a token for the account called name.
func (t *tokens) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc, opts *metav1.CreateOptions) (runtime.Object, error) {
	req, ok := obj.(*authenticationv1.TokenRequest)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a TokenRequest: %T", obj))
	}
	namespace := request.NamespaceValue(ctx)
	sa, ok := objects.Get[*corev1.ServiceAccount](t.reader, messages.KeyOf(messages.ServiceAccounts, namespace, name))
	if !ok {
		return nil, apierrors.NewNotFound(corev1.Resource("serviceaccounts"), name)
	}
	if req.Name != "" && req.Name != name || req.Namespace != "" && req.Namespace != namespace {
		return nil, apierrors.NewBadRequest("name and namespace must match those of the service account")
	}
	if len(req.Spec.Audiences) == 0 {
		req.Spec.Audiences = []string{t.tokens.Issuer()}
	}
	if req.Spec.ExpirationSeconds == nil {
		life := int64(auth.DefaultTokenLife.Seconds())
		req.Spec.ExpirationSeconds = &life
	}
	if errs := validateTokenRequest(req); len(errs) > 0 {
		return nil, apierrors.NewInvalid(authenticationv1.SchemeGroupVersion.WithKind("TokenRequest").GroupKind(), "", errs)
	}
	if validate != nil {
		if err := validate(ctx, req.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	bound, err := t.bound(sa, req.Spec.BoundObjectRef)
	if err != nil {
		return nil, err
	}
	out := req.DeepCopy()
	out.Name, out.Namespace, out.CreationTimestamp = name, namespace, metav1.Now()
	if dryrun.IsDryRun(opts.DryRun) {
		return out, nil
	}
	token, expires, err := t.tokens.Issue(sa, bound, req.Spec.Audiences, t.tokens.LifeOf(req.Spec))
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	out.Status = authenticationv1.TokenRequestStatus{Token: token, ExpirationTimestamp: metav1.NewTime(expires)}
	return out, nil
}

// Token issues a token as serviceaccounts/token does, for callers inside the process that have
// checked already who asks. Errors are those of the API.
func (s *Server) Token(ctx context.Context, namespace, account string, req *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	t := &tokens{reader: s.cfg.Store, tokens: s.tokens}
	out, err := t.Create(request.WithNamespace(ctx, namespace), account, req, nil, &metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	return out.(*authenticationv1.TokenRequest), nil
}

// Tokens makes and checks the tokens of service accounts.
func (s *Server) Tokens() *auth.Tokens { return s.tokens }

// Authorizer says what somebody may do.
func (s *Server) Authorizer() authorizer.Authorizer { return s.authorizer }

// bound finds the object a token shall be bound to.
func (t *tokens) bound(sa *corev1.ServiceAccount, ref *authenticationv1.BoundObjectReference) (auth.Bound, error) {
	var out auth.Bound
	if ref == nil {
		return out, nil
	}
	var uid types.UID
	var gr schema.GroupResource
	switch gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind); gvk {
	case corev1.SchemeGroupVersion.WithKind("Pod"):
		gr = corev1.Resource("pods")
		pod, ok := objects.Get[*corev1.Pod](t.reader, messages.KeyOf(messages.Pods, sa.Namespace, ref.Name))
		if !ok {
			return out, apierrors.NewNotFound(gr, ref.Name)
		}
		if pod.Spec.ServiceAccountName != sa.Name {
			return out, apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", sa.Name))
		}
		out.Pod, uid = pod, pod.UID
		if node, ok := objects.Get[*corev1.Node](t.reader, messages.KeyOf(messages.Nodes, "", pod.Spec.NodeName)); ok {
			out.Node = node
		}
	case corev1.SchemeGroupVersion.WithKind("Secret"):
		gr = corev1.Resource("secrets")
		secret, ok := objects.Get[*corev1.Secret](t.reader, messages.KeyOf(messages.Secrets, sa.Namespace, ref.Name))
		if !ok {
			return out, apierrors.NewNotFound(gr, ref.Name)
		}
		out.Secret, uid = secret, secret.UID
	case corev1.SchemeGroupVersion.WithKind("Node"):
		gr = corev1.Resource("nodes")
		node, ok := objects.Get[*corev1.Node](t.reader, messages.KeyOf(messages.Nodes, "", ref.Name))
		if !ok {
			return out, apierrors.NewNotFound(gr, ref.Name)
		}
		out.Node, uid = node, node.UID
	default:
		return out, apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s", gvk))
	}
	if ref.UID != "" && ref.UID != uid {
		return out, apierrors.NewConflict(gr, ref.Name, fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	return out, nil
}

func validateTokenRequest(req *authenticationv1.TokenRequest) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("spec", "expirationSeconds")
	if s := *req.Spec.ExpirationSeconds; s < int64(auth.MinTokenLife.Seconds()) {
		errs = append(errs, field.Invalid(at, s, "may not specify a duration less than 10 minutes"))
	} else if s > 1<<32 {
		errs = append(errs, field.Invalid(at, s, "may not specify a duration larger than 2^32 seconds"))
	}
	return errs
}

// serveIssuer answers what relying parties ask about the issuer of tokens.
func (s *Server) serveIssuer() error {
	for path, doc := range map[string]struct {
		content any
		mime    string
	}{
		"/.well-known/openid-configuration": {s.tokens.Discovery(), "application/json"},
		"/openid/v1/jwks":                   {s.tokens.KeySet(), "application/jwk-set+json"},
	} {
		body, err := json.Marshal(doc.content)
		if err != nil {
			return fmt.Errorf("encode %s: %w", path, err)
		}
		s.generic.Handler.NonGoRestfulMux.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", doc.mime)
			w.Header().Set("Cache-Control", "public, max-age=3600")
			_, _ = w.Write(body) // a client that went away is nobody's trouble
		}))
	}
	return nil
}

var (
	_ rest.NamedCreater             = (*tokens)(nil)
	_ rest.GroupVersionKindProvider = (*tokens)(nil)
)
