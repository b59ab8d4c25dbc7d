package cluster

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"time"

	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/cluster/api"
	"github.com/troupe-run/troupe/cluster/bus"
)

// Config says what control plane to start.
type Config struct {
	// DataDir is the folder that keeps state and keys. Empty means that nothing is kept (tests).
	DataDir string
	// Region is the region's name in all subjects. Empty means bus.DefaultRegion.
	Region string
	// Listener accepts connections to the Kubernetes API; the cluster closes it. Required.
	Listener net.Listener
	// Also are further listeners of the API, such as one on an address that pods can reach, and
	// Advertise is where the Service "kubernetes" sends them. The zero value means Listener's address.
	Also      []net.Listener
	Advertise netip.AddrPort
	// Insecure serves the API as plain HTTP, for a Listener that only this process can reach.
	Insecure bool
	// Dial reaches Listener from within the process. Nil dials its address.
	Dial func(ctx context.Context) (net.Conn, error)
	// Outside is a NATS server or cluster to use instead of one in this process. Several control planes
	// with the same keys may share one; one of them leads. Nil means none.
	Outside *bus.Outside
	// Member names this control plane among several; it must never change. Empty means "control".
	Member string
	// MemberAddr is the host:port where the other members of the control plane reach this one, with TLS,
	// and Peers are theirs: three together keep the state. Empty means that this one is alone.
	MemberAddr string
	Peers      []string
	// NATSAddr is the host:port for NATS clients outside the process, with TLS. Empty means none.
	NATSAddr string
	// PodCIDR is where nodes get their pod ranges from, a /24 each. The zero value means 10.244.0.0/16.
	PodCIDR netip.Prefix
	// ServiceCIDR is where services get their addresses from. The zero value means 10.96.0.0/16;
	// its tenth address is the cluster's DNS.
	ServiceCIDR netip.Prefix
	// Domain ends the DNS names of services. Empty means cluster.local.
	Domain string
	// Authentication, ClientCA, TLSCert and TLSKey are files of the API server, see api.Config.
	Authentication, ClientCA, TLSCert, TLSKey string
	// Audit says what is written down of requests; the zero value means nothing.
	Audit api.Audit
	// Version is added to Kubernetes' version as build metadata.
	Version string
	// Off names controllers that shall not run, by the names in the catalog.
	Off []string
	// Seed makes random choices repeatable (placement among equal nodes). 0 means a new one each time.
	Seed uint64
	// Step is told of each part that has started. Nil means nobody is.
	Step func(name, detail string)
	// Clock is the source of time. Nil means the real one.
	Clock clock.WithTicker
	// Log gets what an operator should know. Required.
	Log *slog.Logger
}

// Check reports everything that is wrong with the configuration.
func (c Config) Check() error {
	var errs []error
	if c.Listener == nil {
		errs = append(errs, errors.New("cluster: a listener is required"))
	}
	if c.Log == nil {
		errs = append(errs, errors.New("cluster: a logger is required"))
	}
	if c.MemberAddr != "" && (len(c.Peers) != bus.Replicas-1 || c.Member == "" || c.Outside != nil) {
		errs = append(errs, errors.New("cluster: a member needs a name, the addresses of two others, and no NATS from outside"))
	}
	if c.Outside != nil && c.NATSAddr != "" {
		errs = append(errs, errors.New("cluster: a NATS address to listen on and NATS from outside exclude each other"))
	}
	for _, name := range c.Off {
		if !catalogued(name) {
			errs = append(errs, errors.New("cluster: no controller is called "+name))
		}
	}
	return errors.Join(errs...)
}

func (c *Config) complete() {
	if c.Region == "" {
		c.Region = bus.DefaultRegion
	}
	if !c.PodCIDR.IsValid() {
		c.PodCIDR = netip.MustParsePrefix("10.244.0.0/16")
	}
	if !c.ServiceCIDR.IsValid() {
		c.ServiceCIDR = netip.MustParsePrefix("10.96.0.0/16")
	}
	if c.Member == "" {
		c.Member = "control"
	}
	if c.Domain == "" {
		c.Domain = "cluster.local"
	}
	if c.Seed == 0 {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails, see crypto/rand
		c.Seed = binary.LittleEndian.Uint64(b[:])
	}
	if c.Step == nil {
		c.Step = func(string, string) {}
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
}

func (c *Config) random() *mathrand.Rand { return mathrand.New(mathrand.NewPCG(c.Seed, c.Seed)) }

// dnsAddress is the cluster's DNS: the tenth address of the service range.
func (c *Config) dnsAddress() netip.Addr {
	a := c.ServiceCIDR.Addr()
	for range 10 {
		a = a.Next()
	}
	return a
}

// eventTTL is how long Kubernetes Events are kept.
const eventTTL = time.Hour
