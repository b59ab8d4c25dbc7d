package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"

	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/resourcequota"
	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/auth"
	"github.com/troupe-run/troupe/cluster/state"
)

// Config says what a server serves and how it is reached.
type Config struct {
	// Store keeps the cluster's objects. Required.
	Store *state.Store
	// Events keeps Event objects, off the path of all others. Nil means Store keeps them too.
	Events *state.Store
	// Kinds are what is served. Required.
	Kinds []kind.Kind
	// Authority signs and checks certificates and tokens. Required.
	Authority *auth.Authority

	// Listener accepts API connections; the server closes it. Required.
	Listener net.Listener
	// Also are further listeners, such as one on an address that pods can reach.
	Also []net.Listener
	// Insecure serves plain HTTP, for listeners that only this process can reach.
	Insecure bool
	// Dial reaches Listener from within the process. Nil dials the listener's address.
	Dial func(ctx context.Context) (net.Conn, error)
	// Hosts are names and addresses in the serving certificate besides the well-known ones.
	Hosts []string
	// Advertise is where the endpoints of the Service "kubernetes" point. The zero value means the
	// listener's address, if it has one.
	Advertise netip.AddrPort

	// NodeDial opens a connection to a node's HTTP surface, for logs, exec, attach and
	// port-forward. Nil answers those with ServiceUnavailable.
	NodeDial func(ctx context.Context, node string) (net.Conn, error)
	// Heartbeats tells when nodes were heard, which is what the Leases of nodes are made of. Nil means
	// that only stored Leases are served.
	Heartbeats Heartbeats
	// ServiceCIDR is where cluster IPs are taken from. The zero value means 10.96.0.0/16.
	ServiceCIDR netip.Prefix
	// DNS is the address in ServiceCIDR that nodes answer names on; no Service gets it. The zero
	// value means none.
	DNS netip.Addr
	// ClusterDomain ends the DNS names of services. Empty means cluster.local.
	ClusterDomain string
	// Authentication is a file with an AuthenticationConfiguration, and ClientCA one with further
	// authorities of client certificates; see auth.AuthnConfig. Empty means none.
	Authentication, ClientCA string
	// TLSCert and TLSKey are files with a serving certificate from elsewhere and its key, in PEM,
	// read again when they change; loopback and the names within the cluster keep the authority's.
	// Empty means certificates of the authority alone.
	TLSCert, TLSKey string
	// MaxWatches is how many watches one user may have at a time. 0 means 10,000.
	MaxWatches int
	// Issuer is the issuer of service account tokens. Empty means auth.DefaultIssuer.
	Issuer string
	// Version is added to Kubernetes' version in /version, as build metadata. Empty adds nothing.
	Version string
	// Checks are health checks by name besides the server's own; a failing one makes /healthz,
	// /livez and /readyz fail.
	Checks map[string]func() error
	// Components are the checks behind ComponentStatus, by the names of Kubernetes' components.
	Components map[string]func() error

	// Audit says what is written down of requests. The zero value means nothing.
	Audit Audit
	// Books count what quotas limit; the controller of quotas has to share them. Nil makes new ones.
	Books *resourcequota.Books
	// Clock is the source of time for what the server writes. Nil means the real one.
	Clock clock.WithTicker
	// Log gets what an operator should know. Required.
	Log *slog.Logger
}

// defaultServiceCIDR is Kubernetes' customary range.
var defaultServiceCIDR = netip.MustParsePrefix("10.96.0.0/16")

// Check reports everything that is wrong with the configuration.
func (c Config) Check() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New("api: "+what+" is required"))
		}
	}
	need(c.Store != nil, "a store")
	need(len(c.Kinds) > 0, "a kind")
	need(c.Authority != nil, "an authority")
	need(c.Listener != nil, "a listener")
	need(c.Log != nil, "a logger")
	if (c.TLSCert == "") != (c.TLSKey == "") {
		errs = append(errs, errors.New("api: a serving certificate and its key go together"))
	}
	if c.ServiceCIDR.IsValid() && c.ServiceCIDR.Masked() != c.ServiceCIDR {
		errs = append(errs, errors.New("api: the service range "+c.ServiceCIDR.String()+" has host bits set"))
	}
	errs = append(errs, c.Audit.Check())
	return errors.Join(errs...)
}

func (c *Config) complete() {
	if !c.ServiceCIDR.IsValid() {
		c.ServiceCIDR = defaultServiceCIDR
	}
	if c.Events == nil {
		c.Events = c.Store
	}
	if c.ClusterDomain == "" {
		c.ClusterDomain = "cluster.local"
	}
	if c.Issuer == "" {
		c.Issuer = auth.DefaultIssuer
	}
	if c.MaxWatches == 0 {
		c.MaxWatches = defaultMaxWatches
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if c.Books == nil {
		c.Books = resourcequota.NewBooks(c.Store, c.Clock)
	}
	if c.Dial == nil {
		addr := c.Listener.Addr()
		c.Dial = func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, addr.Network(), addr.String())
		}
	}
	if !c.Advertise.IsValid() {
		if a, err := netip.ParseAddrPort(c.Listener.Addr().String()); err == nil {
			c.Advertise = a
		}
	}
}
