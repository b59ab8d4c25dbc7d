package auth

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync"
)

// APICertificates returns a source of certificates for the API server's tls.Config: the well-known
// names in the cluster, loopback, and whatever hosts (names or addresses) are given besides. The
// certificate lives in memory and is made anew before it ends.
func (a *Authority) APICertificates(clusterDomain string, hosts ...string) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc." + clusterDomain}
	ips := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			ips = append(ips, ip)
		} else if h != "" {
			names = append(names, h)
		}
	}
	first, err := a.Serving("kube-apiserver", names, ips)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	current := &first
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		if current.Leaf.NotAfter.Sub(a.clock.Now()) < renewBefore {
			next, err := a.Serving("kube-apiserver", names, ips)
			if err != nil {
				return nil, err
			}
			current = &next
		}
		return current, nil
	}, nil
}

// BusServerTLS returns what the NATS listener for node agents and subscribers serves with: it wants
// a client certificate of this authority.
func (a *Authority) BusServerTLS(clusterDomain string, hosts ...string) (*tls.Config, error) {
	source, err := a.APICertificates(clusterDomain, hosts...)
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
