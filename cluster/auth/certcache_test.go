package auth

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	testingclock "k8s.io/utils/clock/testing"
)

func TestCertCache(t *testing.T) {
	clock := testingclock.NewFakeClock(time.Unix(1_800_000_000, 0))
	asked, good := 0, true
	c := newCertCache(authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) {
		asked++
		return &authenticator.Response{User: &user.DefaultInfo{Name: "ann"}}, good, nil
	}), clock)
	cert := func(raw string, lives time.Duration) *x509.Certificate {
		return &x509.Certificate{Raw: []byte(raw), NotAfter: clock.Now().Add(lives)}
	}
	ask := func(wantOK bool, wantAsked int, certs ...*x509.Certificate) {
		t.Helper()
		resp, ok, err := c.AuthenticateRequest(&http.Request{TLS: &tls.ConnectionState{PeerCertificates: certs}})
		if err != nil || ok != wantOK || ok && resp.User.GetName() != "ann" || asked != wantAsked {
			t.Errorf("answer %v %v, %d asked, want %v and %d", ok, err, asked, wantOK, wantAsked)
		}
	}
	long, short := cert("long", time.Hour), cert("short", 10*time.Second)
	ask(true, 1, long)
	ask(true, 1, long)
	ask(true, 1, cert("long", time.Hour)) // on another connection
	ask(true, 2, short)
	ask(true, 3, long, short) // with a chain of its own
	clock.Step(20 * time.Second)
	ask(true, 3, long)
	ask(true, 4, short) // has ended meanwhile
	clock.Step(knownFor)
	ask(true, 5, long)
	good = false
	ask(false, 6, cert("bad", time.Hour))
	ask(false, 7, cert("bad", time.Hour)) // a refusal is not remembered
}
