package nodes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/nats-io/nats.go"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/proto/nodepb"
)

// Tokens issues service account tokens.
type Tokens interface {
	// Token issues a token for a service account as the request's spec says, bound object
	// included, and returns the request with its status.
	Token(ctx context.Context, namespace, serviceAccount string, req *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)
}

// Config of the keeper of all nodes.
type Config struct {
	Reader   objects.Reader
	Writer   objects.Writer
	Feed     objects.Feed
	Recorder objects.Recorder
	Tokens   Tokens
	// Conn is the control plane's connection to the bus.
	Conn *nats.Conn
	// Region is the region's name.
	Region string
	// Epoch fences: it rises with every control plane that takes over, and nodes refuse a lower one
	// than they have seen of the same cluster.
	Epoch uint64
	// Cluster is told to every node; its id also goes with the epoch, and its pod_cidr is where the
	// nodes' pod CIDRs come from.
	Cluster *nodepb.Cluster
	// NodeMask is the prefix length of one node's pod CIDR; 0 means 24.
	NodeMask int
	// Interval is that of the nodes' heartbeats; 0 means one second.
	Interval time.Duration
	// StartGrace is how long nodes may be silent after the start of the control plane; 0 means ten
	// intervals.
	StartGrace time.Duration
	// Proxies is the feed of all proxies, which is asked when pods have left their rules: only then
	// a node ends a pod. Nil means that there are no proxies.
	Proxies *actor.PID
	// Drain is how long a pod that is marked for deletion waits for them, at most half of its grace
	// period; 0 means five seconds.
	Drain time.Duration
	// Beats gets to know when nodes were heard. Nil means that nobody wants to know.
	Beats *Beats
	// Writes bounds how many status writes and registrations run at a time; 0 means 256.
	Writes int
	Clock  clock.PassiveClock
	Log    *slog.Logger
}

// Check reports everything that is wrong with the config.
func (c *Config) Check() error {
	var errs []error
	missing := func(what string, absent bool) {
		if absent {
			errs = append(errs, fmt.Errorf("nodes: %s is required", what))
		}
	}
	missing("a reader", c.Reader == nil)
	missing("a writer", c.Writer == nil)
	missing("a feed", c.Feed == nil)
	missing("a recorder", c.Recorder == nil)
	missing("an issuer of tokens", c.Tokens == nil)
	missing("a connection", c.Conn == nil)
	missing("a region", c.Region == "")
	missing("a clock", c.Clock == nil)
	missing("a logger", c.Log == nil)
	if cidr := c.Cluster.GetPodCidr(); cidr != "" {
		p, err := netip.ParsePrefix(cidr)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("nodes: pod CIDR: %w", err))
		case !p.Addr().Is4():
			errs = append(errs, fmt.Errorf("nodes: pod CIDR %s: only IPv4 is supported", cidr))
		case c.mask() < p.Bits() || c.mask() > 30:
			errs = append(errs, fmt.Errorf("nodes: a node's pod CIDR of /%d does not fit into %s", c.mask(), cidr))
		}
	}
	return errors.Join(errs...)
}

func (c *Config) mask() int {
	if c.NodeMask == 0 {
		return 24
	}
	return c.NodeMask
}

func (c *Config) interval() time.Duration {
	if c.Interval == 0 {
		return time.Second
	}
	return c.Interval
}

func (c *Config) drain() time.Duration {
	if c.Drain == 0 {
		return 5 * time.Second
	}
	return c.Drain
}

func (c *Config) startGrace() time.Duration {
	if c.StartGrace == 0 {
		return 10 * c.interval()
	}
	return c.StartGrace
}
