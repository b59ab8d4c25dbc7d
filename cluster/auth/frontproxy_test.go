package auth

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

func TestFrontProxyHasAnAuthorityOfItsOwn(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakePassiveClock(time.Now())
	a, err := Open(Config{Dir: t.TempDir(), Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.FrontProxy()
	if err != nil {
		t.Fatal(err)
	}
	leaf := func() *x509.Certificate {
		crt, key := p.Client()
		pair, err := tls.X509KeyPair(crt, key)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf
	}
	front := x509.NewCertPool()
	front.AppendCertsFromPEM(p.CAPEM())
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	first := leaf()
	if _, err := first.Verify(x509.VerifyOptions{Roots: front, KeyUsages: usage}); err != nil || first.Subject.CommonName != FrontProxyName {
		t.Errorf("%s: %v", first.Subject, err)
	}
	if _, err := first.Verify(x509.VerifyOptions{Roots: a.Pool(), KeyUsages: usage}); err == nil {
		t.Error("the cluster's authority vouches for it")
	}
	theirs, err := a.Client(FrontProxyName)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Leaf.Verify(x509.VerifyOptions{Roots: front, KeyUsages: usage}); err == nil {
		t.Error("a certificate of the cluster's counts")
	}
	if !bytes.Equal(first.Raw, leaf().Raw) {
		t.Error("it is made anew without need")
	}
	clock.SetTime(first.NotAfter.Add(-renewBefore / 2))
	if second := leaf(); bytes.Equal(first.Raw, second.Raw) || !second.NotAfter.After(first.NotAfter) {
		t.Error("it is not made anew before its end")
	}
	again, err := Open(Config{Dir: a.dir, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	q, err := again.FrontProxy()
	if err != nil || !bytes.Equal(q.CAPEM(), p.CAPEM()) {
		t.Errorf("another authority after a restart: %v", err)
	}
}
