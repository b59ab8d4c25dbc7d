package auth

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	apiserver "k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/request/websocket"
	requestx509 "k8s.io/apiserver/pkg/authentication/request/x509"
	tokenunion "k8s.io/apiserver/pkg/authentication/token/union"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/objects"
)

// AuthnConfig says whom an API server knows.
type AuthnConfig struct {
	// Authority signs the client certificates that are known, and Tokens those of service accounts.
	// Required.
	Authority *Authority
	Tokens    *Tokens
	// Reader finds bootstrap tokens. Required.
	Reader objects.Reader
	// File is an AuthenticationConfiguration of apiserver.config.k8s.io: issuers of JSON web tokens
	// and how far strangers get. It is read again when it changes. Empty means none.
	File string
	// ClientCA is a file of further authorities whose client certificates are known, in PEM. It is
	// read again when it changes. Empty means none.
	ClientCA string
	// Clock paces the looks at File. Required.
	Clock clock.WithTicker
	// Log gets what an operator should know. Required.
	Log *slog.Logger
}

// Authenticator tells who sent a request: by client certificate, by a token (also in the WebSocket
// protocol header, for browsers), or as system:anonymous, whom RBAC lets see health and version.
type Authenticator struct {
	cfg      AuthnConfig
	known    authenticator.Request
	clientCA *dynamiccertificates.DynamicFileCAContent
	// content is File as it was read last.
	content []byte
	// strangers, and issuers once Run has begun, follow File.
	strangers atomic.Pointer[apiserver.AnonymousAuthConfig]
	issuers   atomic.Pointer[issuers]
}

// NewAuthenticator reads the files, but asks no issuer for its keys yet: that is for Run.
func NewAuthenticator(cfg AuthnConfig) (*Authenticator, error) {
	a := &Authenticator{cfg: cfg}
	a.strangers.Store(&apiserver.AnonymousAuthConfig{Enabled: true})
	a.issuers.Store(&issuers{})
	if cfg.File != "" {
		if _, _, err := a.read(); err != nil {
			return nil, err
		}
	}
	certs := []authenticator.Request{newCertCache(requestx509.NewDynamic(a.ownCA, requestx509.CommonNameUserConversion), cfg.Clock)}
	if cfg.ClientCA != "" {
		var err error
		if a.clientCA, err = dynamiccertificates.NewDynamicCAContentFromFile("client-ca", cfg.ClientCA); err != nil {
			return nil, fmt.Errorf("read client authorities: %w", err)
		}
		certs = append(certs, requestx509.NewDynamic(a.clientCA.VerifyOptions, requestx509.CommonNameUserConversion))
	}
	tokens := tokenunion.New(cfg.Tokens, &bootstrapTokens{cfg.Reader, cfg.Clock},
		authenticator.TokenFunc(func(ctx context.Context, token string) (*authenticator.Response, bool, error) {
			return a.issuers.Load().AuthenticateToken(ctx, token)
		}))
	a.known = group.NewAuthenticatedGroupAdder(union.New(append(certs,
		bearertoken.New(tokens), websocket.NewProtocolAuthenticator(tokens))...))
	return a, nil
}

// AuthenticateRequest implements authenticator.Request.
func (a *Authenticator) AuthenticateRequest(req *http.Request) (*authenticator.Response, bool, error) {
	resp, ok, err := a.known.AuthenticateRequest(req)
	if ok || err != nil {
		return resp, ok, err
	}
	strangers := a.strangers.Load()
	if !strangers.Enabled {
		return nil, false, nil
	}
	return anonymous.NewAuthenticator(strangers.Conditions).AuthenticateRequest(req)
}

// Run follows the files until ctx ends.
func (a *Authenticator) Run(ctx context.Context) {
	var started sync.WaitGroup
	if a.clientCA != nil {
		started.Go(func() { a.clientCA.Run(ctx, 1) })
	}
	if a.cfg.File != "" {
		a.follow(ctx)
	}
	started.Wait()
}

// ClientCAs returns the authorities that clients are told their certificates may be of.
func (a *Authenticator) ClientCAs() *x509.CertPool {
	pool := a.cfg.Authority.Pool()
	if a.clientCA != nil {
		pool.AppendCertsFromPEM(a.clientCA.CurrentCABundleContent())
	}
	return pool
}

func (a *Authenticator) ownCA() (x509.VerifyOptions, bool) {
	return x509.VerifyOptions{
		Roots:       a.cfg.Authority.pool,
		CurrentTime: a.cfg.Authority.clock.Now(),
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, true
}

// lookAgain is how often a file that may have changed is looked at.
const lookAgain = 30 * time.Second

var _ authenticator.Request = (*Authenticator)(nil)
