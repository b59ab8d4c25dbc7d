package api

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"

	"k8s.io/apiserver/pkg/server/dynamiccertificates"
)

// tls returns what the listener serves with: client certificates are asked for but not demanded,
// since tokens are as good. Certificates are read or made anew before they end, and follow runs
// until ctx ends to see to that.
func (s *Server) tls() (cfg *tls.Config, follow func(ctx context.Context), err error) {
	c := &s.cfg
	hosts := append([]string{c.ServiceCIDR.Addr().Next().String()}, c.Hosts...)
	source, err := c.Authority.APICertificates(c.ClusterDomain, hosts...)
	if err != nil {
		return nil, nil, err
	}
	follow = func(context.Context) {}
	cfg = &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		ClientAuth:     tls.RequestClientCert,
		ClientCAs:      s.authenticator.ClientCAs(),
		GetCertificate: source,
	}
	if c.TLSCert != "" {
		files, err := newFileCertificate(c.TLSCert, c.TLSKey)
		if err != nil {
			return nil, nil, err
		}
		follow = files.follow
		cfg.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			// Pods, and programs on this machine, come by names and addresses of the cluster and
			// trust its own authority.
			if own, err := source(hello); err == nil && own.Leaf.VerifyHostname(asked(hello)) == nil {
				return own, nil
			}
			return files.current.Load(), nil
		}
	}
	if c.ClientCA != "" {
		// Clients choose their certificate by the authorities they are told.
		cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			now := cfg.Clone()
			now.GetConfigForClient = nil
			now.ClientCAs = s.authenticator.ClientCAs()
			return now, nil
		}
	}
	return cfg, follow, nil
}

// asked returns the name or address by which a client comes. Addresses are not sent along.
func asked(hello *tls.ClientHelloInfo) string {
	if hello.ServerName != "" || hello.Conn == nil {
		return hello.ServerName
	}
	host, _, err := net.SplitHostPort(hello.Conn.LocalAddr().String())
	if err != nil {
		return ""
	}
	return host
}

// fileCertificate is a serving certificate in files.
type fileCertificate struct {
	files   *dynamiccertificates.DynamicCertKeyPairContent
	current atomic.Pointer[tls.Certificate]
}

func newFileCertificate(cert, key string) (*fileCertificate, error) {
	files, err := dynamiccertificates.NewDynamicServingContentFromFiles("serving-cert", cert, key)
	if err != nil {
		return nil, fmt.Errorf("read serving certificate: %w", err)
	}
	f := &fileCertificate{files: files}
	files.AddListener(f)
	return f, f.load()
}

func (f *fileCertificate) load() error {
	pair, err := tls.X509KeyPair(f.files.CurrentCertKeyContent())
	if err != nil {
		return fmt.Errorf("parse serving certificate: %w", err)
	}
	f.current.Store(&pair)
	return nil
}

// Enqueue is told that the files have changed; those that do not match were not taken over.
func (f *fileCertificate) Enqueue() { _ = f.load() }

func (f *fileCertificate) follow(ctx context.Context) { f.files.Run(ctx, 1) }

var _ dynamiccertificates.Listener = (*fileCertificate)(nil)
