package feed

import (
	"net/netip"
	"time"
)

// The protocols of ports, spelled as the Kubernetes API does.
const (
	TCP  = "TCP"
	UDP  = "UDP"
	SCTP = "SCTP"
)

// Name names a service.
type Name struct{ Namespace, Name string }

// String returns "namespace/name".
func (n Name) String() string { return n.Namespace + "/" + n.Name }

// Service is what a proxy needs to know of one service, with the endpoints of all its slices.
// It is immutable.
type Service struct {
	Name
	// ClusterIPs are the service's own addresses, none for headless and external-name services.
	ClusterIPs []netip.Addr
	// Headless says that the service has no address on purpose and DNS answers with endpoints.
	Headless bool
	// ExternalIPs are addresses outside the cluster that reach the service when routed to a node.
	ExternalIPs []netip.Addr
	// ExternalName is the DNS name this service is an alias of; empty for all other services.
	ExternalName string
	Ports        []Port
	// Affinity is how long a client stays with its endpoint; 0 means not at all.
	Affinity time.Duration
	// InternalLocal and ExternalLocal restrict traffic to endpoints on the node where it arrived.
	InternalLocal, ExternalLocal bool
	// PublishNotReady makes DNS answer with endpoints that are not ready, too.
	PublishNotReady bool
	// Endpoints are sorted by address; an address occurs once per slice that names it.
	Endpoints []Endpoint
}

// Port is a port of a service (NodePort 0 means none) or of an endpoint.
type Port struct {
	Name     string
	Protocol string
	Port     uint16
	NodePort uint16
}

// Endpoint is one backend of a service.
type Endpoint struct {
	Addr     netip.Addr
	Hostname string
	Node     string
	// Ready endpoints get traffic. When a service has none, those that are serving while they
	// terminate do.
	Ready, Serving, Terminating bool
	Ports                       []Port
}

// Update is a step from one state of the set to the next.
type Update struct {
	// Source and Revision say what this state is; revisions of different sources compare, too, for
	// both are revisions of the cluster state.
	Source   string
	Revision uint64
	// Reset says that what is not named here does not exist.
	Reset bool
	// Services that changed; nil means gone.
	Services map[Name]*Service
	// Namespaces that came (true) or went (false).
	Namespaces map[string]bool
}

// Add folds a later update into u, which then leads to the same state in one step. The maps of u
// are changed, those of later are not.
func (u *Update) Add(later Update) {
	if later.Reset || u.Services == nil {
		u.Services, u.Namespaces = make(map[Name]*Service), make(map[string]bool)
	}
	u.Source, u.Revision = later.Source, later.Revision
	u.Reset = u.Reset || later.Reset
	for name, svc := range later.Services {
		if svc == nil && u.Reset {
			delete(u.Services, name)
			continue
		}
		u.Services[name] = svc
	}
	for name, there := range later.Namespaces {
		if !there && u.Reset {
			delete(u.Namespaces, name)
			continue
		}
		u.Namespaces[name] = there
	}
}
