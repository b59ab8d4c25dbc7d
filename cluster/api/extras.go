package api

import (
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/troupe-run/troupe/cluster/api/alloc"
	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/stream"
	"github.com/troupe-run/troupe/messages"
)

// deps is what the hooks and builders of kinds get: kind.Allocators and kind.Deciders.
type deps struct {
	*alloc.Allocator
	s *Server
}

func (d deps) Authenticator() authenticator.Request  { return d.s.authenticator }
func (d deps) Authorizer() authorizer.Authorizer     { return d.s.authorizer }
func (d deps) RuleResolver() authorizer.RuleResolver { return d.s.rules }

// extras adds the subresources that need more of the server than a kind's own file may know: those
// of pods that reach nodes, the binding and eviction of pods, tokens of service accounts, and
// Events under their second group.
func (s *Server) extras(out groupVersions, order []schema.GroupVersion) []schema.GroupVersion {
	if r, ok := s.resources[messages.Pods]; ok {
		streams := stream.New(stream.Config{Reader: s.cfg.Store, Dial: s.cfg.NodeDial, Authorizer: s.authorizer})
		binding := bindings{pods: r.store, clock: s.cfg.Clock}
		for path, storage := range map[string]rest.Storage{
			"pods/binding":     &binding,
			"bindings":         &oldBindings{binding},
			"pods/eviction":    &evictions{pods: r.store, reader: s.cfg.Store, budgets: s.Local(user.APIServerUser), clock: s.cfg.Clock},
			"pods/log":         streams.Log(),
			"pods/exec":        streams.Exec(),
			"pods/attach":      streams.Attach(),
			"pods/portforward": streams.PortForward(),
		} {
			out.add(r.kind.GVK.GroupVersion(), path, storage)
		}
	}
	if r, ok := s.resources[messages.ServiceAccounts]; ok {
		out.add(r.kind.GVK.GroupVersion(), "serviceaccounts/token", &tokens{reader: s.cfg.Store, tokens: s.tokens})
	}
	if r, ok := s.resources[messages.Events]; ok && out[eventsv1.SchemeGroupVersion] == nil {
		out.add(eventsv1.SchemeGroupVersion, r.kind.Resource, r.store)
		order = append(order, eventsv1.SchemeGroupVersion)
	}
	return order
}

var (
	_ kind.Allocators = deps{}
	_ kind.Deciders   = deps{}
)
