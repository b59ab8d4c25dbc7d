package auth

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync"
)

// APICertificates returns a source of certificates for the API server's tls.Config: the well-known
// names in the cluster and whatever hosts are given besides, see [Authority.Certificates].
func (a *Authority) APICertificates(clusterDomain string, hosts ...string) (Certificates, error) {
	return a.Certificates("kube-apiserver", append([]string{"kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc." + clusterDomain}, hosts...)...)
}

// Certificates is a source of certificates, for tls.Config.
type Certificates func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// Certificates returns a source of serving certificates good for loopback and hosts, which are names
// or addresses. The certificate lives in memory and is made anew before it ends.
func (a *Authority) Certificates(name string, hosts ...string) (Certificates, error) {
	names := []string{"localhost"}
	ips := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			ips = append(ips, ip)
		} else if h != "" {
			names = append(names, h)
		}
	}
	first, err := a.Serving(name, names, ips)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	current := &first
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		if current.Leaf.NotAfter.Sub(a.clock.Now()) < renewBefore {
			next, err := a.Serving(name, names, ips)
			if err != nil {
				return nil, err
			}
			current = &next
		}
		return current, nil
	}, nil
}

// BusServerTLS returns what the NATS listener for node agents and subscribers serves with on hosts:
// it wants a client certificate of this authority.
func (a *Authority) BusServerTLS(hosts ...string) (*tls.Config, error) {
	source, err := a.Certificates("nats", hosts...)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: source,
		ClientCAs:      a.Pool(),
		ClientAuth:     tls.RequireAndVerifyClientCert,
	}, nil
}

// ClientTLS returns what a client named user, a member of groups, connects to servers of this
// cluster with.
func (a *Authority) ClientTLS(user string, groups ...string) (*tls.Config, error) {
	crt, err := a.Client(user, groups...)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{crt}, RootCAs: a.Pool()}, nil
}

// HostAddresses returns this machine's addresses, for serving certificates: clients may come by any
// of them.
func HostAddresses() ([]string, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list host addresses: %w", err)
	}
	var out []string
	for _, addr := range addrs {
		if ipnet, ok := addr.(*net.IPNet); ok && ipnet.IP.IsGlobalUnicast() {
			out = append(out, ipnet.IP.String())
		}
	}
	return out, nil
}
