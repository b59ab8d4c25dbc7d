package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/nats-io/nats.go"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/messages"
)

// dnsPort is where pods ask for names.
const dnsPort = 53

// Config of a proxy.
type Config struct {
	// Stage is where the proxy's actors live. Required by Start.
	Stage *stage.System
	// Conn is the node's connection; the proxy neither opens nor closes it. Required by Start.
	Conn *nats.Conn
	// Region and Node name where this proxy runs. Required.
	Region, Node string
	// PodCIDRs are the networks of all pods of the cluster, at most one per IP family.
	PodCIDRs []netip.Prefix
	// ServiceCIDRs are the networks of cluster IPs. Required.
	ServiceCIDRs []netip.Prefix
	// Bridge is the interface that the pods of this node hang on; empty means there is none.
	Bridge string
	// DNSAddresses are where DNS answers; the node gets them on an interface of our own. Empty
	// means the tenth address of each service network.
	DNSAddresses []netip.Addr
	// Link is the name of that interface; empty means "troupe-dns".
	Link string
	// Domain is the cluster's DNS domain; empty means "cluster.local".
	Domain string
	// ResolvConf names the resolvers for foreign names; empty means /etc/resolv.conf.
	ResolvConf string
	// Report is told why the rules could not be written, and nil once they could. It must not
	// block; nil means nobody wants to know.
	Report func(error)
	// Log gets what a person should know. Required.
	Log *slog.Logger
}

// Check reports every problem of the configuration.
func (c Config) Check() error {
	var errs []error
	for _, need := range []struct {
		what    string
		missing bool
	}{
		{"stage", c.Stage == nil}, {"connection", c.Conn == nil}, {"region", c.Region == ""},
		{"node", c.Node == ""}, {"service network", len(c.ServiceCIDRs) == 0}, {"logger", c.Log == nil},
	} {
		if need.missing {
			errs = append(errs, fmt.Errorf("%s is missing: %w", need.what, messages.ErrInvalid))
		}
	}
	if len(c.Link) > 15 {
		errs = append(errs, fmt.Errorf("interface name %q is longer than 15 bytes: %w", c.Link, messages.ErrInvalid))
	}
	return errors.Join(errs...)
}

func (c Config) complete() Config {
	if c.Link == "" {
		c.Link = "troupe-dns"
	}
	if len(c.DNSAddresses) == 0 {
		for _, p := range c.ServiceCIDRs {
			c.DNSAddresses = append(c.DNSAddresses, DNSAddress(p))
		}
	}
	return c
}

// DNSAddress returns the address of a service network at which the cluster's DNS answers: the
// tenth, as is custom.
func DNSAddress(services netip.Prefix) netip.Addr {
	a := services.Masked().Addr()
	for range 10 {
		a = a.Next()
	}
	return a
}
