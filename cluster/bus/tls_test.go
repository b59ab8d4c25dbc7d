package bus_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/messages"
)

// authority signs certificates for one test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	made := a.sign(a.cert)
	a.key = made.PrivateKey.(*ecdsa.PrivateKey)
	a.cert = made.Leaf
	return a
}

func (a *authority) issue(name, org string, usage x509.ExtKeyUsage) tls.Certificate {
	a.t.Helper()
	return a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name, Organization: []string{org}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{usage}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
}

func (a *authority) sign(template *x509.Certificate) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t), newAuthority(t)
	b := start(t, bus.Config{ListenAddr: "127.0.0.1:0", TLS: &tls.Config{
		Certificates: []tls.Certificate{ca.issue("bus", "", x509.ExtKeyUsageServerAuth)},
		ClientCAs:    ca.pool(), ClientAuth: tls.VerifyClientCertIfGiven, MinVersion: tls.VersionTLS13,
	}})
	connect := func(cert *tls.Certificate) (*nats.Conn, error) {
		cfg := &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS13}
		if cert != nil {
			cfg.Certificates = []tls.Certificate{*cert}
		}
		return nats.Connect(b.ClientURL(), nats.Secure(cfg), nats.PermissionErrOnSubscribe(true),
			nats.CustomInboxPrefix(bus.NodeInbox("n1")), nats.NoReconnect(), quiet)
	}

	node := ca.issue("system:node:n1", "system:nodes", x509.ExtKeyUsageClientAuth)
	nc, err := connect(&node)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	serve(t, nc, messages.NodeDown("local", "n1"))
	if _, err := b.Conn().Request(messages.NodeDown("local", "n1"), nil, 5*time.Second); err != nil {
		t.Errorf("request to the node: %v", err)
	}
	sub, err := nc.SubscribeSync(messages.NodeDown("local", "n2"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sub.NextMsg(5 * time.Second); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("subject of another node: %v", err)
	}

	admin := ca.issue("admin", "system:masters", x509.ExtKeyUsageClientAuth)
	if nc, err := connect(&admin); err != nil {
		t.Errorf("administrator: %v", err)
	} else {
		nc.Close()
	}

	server := ca.issue("system:node:n1", "system:nodes", x509.ExtKeyUsageServerAuth)
	other := ca.issue("somebody", "somewhere", x509.ExtKeyUsageClientAuth)
	forged := stranger.issue("admin", "system:masters", x509.ExtKeyUsageClientAuth)
	for name, cert := range map[string]*tls.Certificate{
		"no certificate": nil, "a server's certificate": &server, "no role": &other, "a foreign authority": &forged,
	} {
		if nc, err := connect(cert); err == nil {
			nc.Close()
			t.Errorf("%s was let in", name)
		}
	}
}
