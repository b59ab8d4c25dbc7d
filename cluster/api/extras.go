package api

import (
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/troupe-run/troupe/cluster/api/alloc"
	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/stream"
	"github.com/troupe-run/troupe/messages"
)

// deps is what the hooks and builders of kinds get: kind.Allocators, kind.Deciders and kind.Components.
type deps struct {
	*alloc.Allocator
	s *Server
}

func (d deps) Authenticator() authenticator.Request  { return d.s.authenticator }
func (d deps) Authorizer() authorizer.Authorizer     { return d.s.authorizer }
func (d deps) RuleResolver() authorizer.RuleResolver { return d.s.rules }

// Components are those the server was told of.
func (d deps) Components() map[string]func() error { return d.s.cfg.Components }

// DryRun is what hooks get when nothing is going to be stored.
func (d deps) DryRun() any { return deps{d.Allocator.DryRun(), d.s} }

// extras adds the subresources that need more of the server than a kind's own file may know: those
// that reach nodes, the binding and eviction of pods, and tokens of service accounts.
func (s *Server) extras(out groupVersions) {
	streams := stream.New(stream.Config{Reader: s.cfg.Store, Dial: s.cfg.NodeDial, Authorizer: s.authorizer})
	if r, ok := s.resources[messages.Pods]; ok {
		binding := bindings{pods: r.store, reader: s.cfg.Store, clock: s.cfg.Clock}
		for path, storage := range map[string]rest.Storage{
			"pods/binding":     &binding,
			"bindings":         &oldBindings{binding},
			"pods/eviction":    &evictions{pods: r.store, reader: s.cfg.Store, budgets: s.Local(user.APIServerUser), clock: s.cfg.Clock},
			"pods/log":         streams.Log(),
			"pods/exec":        streams.Exec(),
			"pods/attach":      streams.Attach(),
			"pods/portforward": streams.PortForward(),
			"pods/proxy":       streams.PodProxy(),
		} {
			out.add(r.kind.GVK.GroupVersion(), path, storage)
		}
	}
	if r, ok := s.resources[messages.Services]; ok {
		out.add(r.kind.GVK.GroupVersion(), "services/proxy", streams.ServiceProxy())
	}
	if r, ok := s.resources[messages.Nodes]; ok {
		out.add(r.kind.GVK.GroupVersion(), "nodes/proxy", streams.NodeProxy())
	}
	if r, ok := s.resources[messages.ServiceAccounts]; ok {
		out.add(r.kind.GVK.GroupVersion(), "serviceaccounts/token", &tokens{reader: s.cfg.Store, tokens: s.tokens})
	}
}

var (
	_ kind.Allocators = deps{}
	_ kind.Deciders   = deps{}
	_ kind.Components = deps{}
)
