package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/utils/clock"
)

const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 365 * 24 * time.Hour
	// renewBefore is how long before its end a kept certificate is made anew, at the next start.
	renewBefore = 60 * 24 * time.Hour
	// skew lets a peer whose clock is a little slow accept a certificate made just now.
	skew = 5 * time.Minute
)

// Config says where an authority lives.
type Config struct {
	// Dir is the folder that keeps keys and certificates, made with mode 0700. Empty means nothing
	// is kept: the authority is new and dies with the process (tests).
	Dir string
	// Clock stamps certificates and tokens; nil means the real one.
	Clock clock.PassiveClock
}

// Authority is the cluster's root of trust: it signs every certificate and every service account
// token of the cluster.
type Authority struct {
	dir     string
	clock   clock.PassiveClock
	ca      *x509.Certificate
	pool    *x509.CertPool // of ca; never changed
	caKey   crypto.Signer
	caPEM   []byte
	signing *ecdsa.PrivateKey
	front   func() (*FrontProxy, error)
}

// Open reads the authority from its folder, or makes it there on first use.
func Open(cfg Config) (*Authority, error) {
	a := &Authority{dir: cfg.Dir, clock: cfg.Clock}
	if a.clock == nil {
		a.clock = clock.RealClock{}
	}
	if a.dir != "" {
		if err := os.MkdirAll(a.dir, 0o700); err != nil {
			return nil, fmt.Errorf("make authority folder %s: %w", a.dir, err)
		}
	}
	if err := a.openCA(); err != nil {
		return nil, err
	}
	a.pool = a.Pool()
	key, err := a.key("sa.key")
	if err != nil {
		return nil, err
	}
	a.signing = key
	a.front = sync.OnceValues(a.openFrontProxy)
	return a, nil
}

func (a *Authority) openCA() error { return a.openRoot("ca", "troupe") }

// openRoot reads the key and the self-signed certificate that files of this name hold, or makes them.
func (a *Authority) openRoot(file, name string) error {
	key, err := a.key(file + ".key")
	if err != nil {
		return err
	}
	a.caKey = key
	if pem, err := a.read(file + ".crt"); err != nil {
		return err
	} else if pem != nil {
		certs, err := cert.ParseCertsPEM(pem)
		if err != nil {
			return fmt.Errorf("parse %s: %w", filepath.Join(a.dir, file+".crt"), err)
		}
		a.ca, a.caPEM = certs[0], pem
		return nil
	}
	now := a.clock.Now()
	tmpl := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(caLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return fmt.Errorf("sign authority certificate: %w", err)
	}
	if a.ca, err = x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("parse authority certificate: %w", err)
	}
	if a.caPEM, err = cert.EncodeCertificates(a.ca); err != nil {
		return fmt.Errorf("encode authority certificate: %w", err)
	}
	return a.write(file+".crt", a.caPEM)
}

// CAPEM returns the authority's certificate, which clients and pods pin.
func (a *Authority) CAPEM() []byte { return bytes.Clone(a.caPEM) }

// Pool returns the certificate pool that trusts this authority alone.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.ca)
	return p
}

// CAHash is the pin that join tokens carry: the SHA-256 of the authority's public key info.
func (a *Authority) CAHash() string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256(a.ca.RawSubjectPublicKeyInfo))
}

// Serving returns a certificate for servers that answer under the given names and addresses. It
// lives in memory only and is made anew at each start.
func (a *Authority) Serving(name string, dnsNames []string, ips []net.IP) (tls.Certificate, error) {
	return a.leaf(&x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		DNSNames:    dnsNames,
		IPAddresses: ips,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// Client returns a certificate with which a client proves to be user, a member of groups.
func (a *Authority) Client(user string, groups ...string) (tls.Certificate, error) {
	return a.leaf(&x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func (a *Authority) leaf(tmpl *x509.Certificate) (tls.Certificate, error) {
	key, err := newKey()
	if err != nil {
		return tls.Certificate{}, err
	}
	now := a.clock.Now()
	tmpl.SerialNumber = serial()
	tmpl.NotBefore, tmpl.NotAfter = now.Add(-skew), now.Add(leafLife)
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.ca, key.Public(), a.caKey)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("sign certificate of %s: %w", tmpl.Subject.CommonName, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("parse certificate of %s: %w", tmpl.Subject.CommonName, err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// key reads a private key of the folder or makes it there.
func (a *Authority) key(name string) (*ecdsa.PrivateKey, error) {
	pem, err := a.read(name)
	if err != nil {
		return nil, err
	}
	if pem == nil {
		key, err := newKey()
		if err != nil {
			return nil, err
		}
		pem, err := keyutil.MarshalPrivateKeyToPEM(key)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", name, err)
		}
		return key, a.write(name, pem)
	}
	parsed, err := keyutil.ParsePrivateKeyPEM(pem)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", filepath.Join(a.dir, name), err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("parse %s: not an elliptic curve key", filepath.Join(a.dir, name))
	}
	return key, nil
}

func newKey() (*ecdsa.PrivateKey, error) {
	// Elliptic keys take microseconds to make; an RSA key would cost most of the start-up time.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make private key: %w", err)
	}
	return key, nil
}

func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails
	b[0] &= 0x7f           // positive, as RFC 5280 asks
	return new(big.Int).SetBytes(b[:])
}

func (a *Authority) read(name string) ([]byte, error) {
	if a.dir == "" {
		return nil, nil
	}
	b, err := os.ReadFile(filepath.Join(a.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read authority: %w", err)
	}
	return b, nil
}

func (a *Authority) write(name string, b []byte) error {
	if a.dir == "" {
		return nil
	}
	return WriteSecret(filepath.Join(a.dir, name), b)
}

// WriteSecret puts a file in place, whole or not at all, with mode 0600.
func WriteSecret(path string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(tmp.Name())
	if _, err = tmp.Write(b); err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
