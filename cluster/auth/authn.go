package auth

import (
	"crypto/x509"

	apiserver "k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/request/websocket"
	requestx509 "k8s.io/apiserver/pkg/authentication/request/x509"
)

// NewAuthenticator tells who sent a request: by client certificate of the authority, by a token
// (also in the WebSocket protocol header, for browsers), or as system:anonymous, which RBAC lets
// see health and version only.
func NewAuthenticator(a *Authority, tokens authenticator.Token) authenticator.Request {
	pool := a.Pool()
	certs := requestx509.NewDynamic(func() (x509.VerifyOptions, bool) {
		return x509.VerifyOptions{
			Roots:       pool,
			CurrentTime: a.clock.Now(),
			KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}, true
	}, requestx509.CommonNameUserConversion)
	known := union.New(certs, bearertoken.New(tokens), websocket.NewProtocolAuthenticator(tokens))
	return union.NewFailOnError(
		group.NewAuthenticatedGroupAdder(known),
		anonymous.NewAuthenticator([]apiserver.AnonymousAuthCondition(nil)),
	)
}
