package auth

import (
	"crypto/sha256"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/utils/clock"
)

const (
	// knownCerts is how many certificates are remembered, knownFor for how long.
	knownCerts = 1024
	knownFor   = time.Minute
)

// certCache spares requests the check of a signature that was good a moment ago, which costs more
// than answering a small read. It is for authorities that are never replaced and revoke nothing.
type certCache struct {
	verify authenticator.Request
	clock  clock.PassiveClock
	known  *cache.LRUExpireCache // digest of a certificate -> *authenticator.Response
}

func newCertCache(verify authenticator.Request, clock clock.PassiveClock) *certCache {
	return &certCache{verify: verify, clock: clock, known: cache.NewLRUExpireCacheWithClock(knownCerts, clock)}
}

// AuthenticateRequest implements authenticator.Request.
func (c *certCache) AuthenticateRequest(req *http.Request) (*authenticator.Response, bool, error) {
	if req.TLS == nil || len(req.TLS.PeerCertificates) != 1 {
		return c.verify.AuthenticateRequest(req)
	}
	cert := req.TLS.PeerCertificates[0]
	id := sha256.Sum256(cert.Raw)
	if known, ok := c.known.Get(id); ok && !c.clock.Now().After(cert.NotAfter) {
		return known.(*authenticator.Response), true, nil
	}
	resp, ok, err := c.verify.AuthenticateRequest(req)
	if ok && err == nil {
		c.known.Add(id, resp, knownFor)
	}
	return resp, ok, err
}

var _ authenticator.Request = (*certCache)(nil)
