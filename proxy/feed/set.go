package feed

import (
	"cmp"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/troupe-run/troupe/proto/proxypb"
)

// set is the whole set as it came over the wire, with slices found by their service. It belongs
// to one goroutine.
type set struct {
	source     string
	sequence   uint64
	revision   uint64
	services   map[Name]*proxypb.Service
	slices     map[Name]*proxypb.Slice
	byService  map[Name]map[Name]*proxypb.Slice
	namespaces map[string]bool
}

func newSet() *set {
	return &set{
		services:   make(map[Name]*proxypb.Service),
		slices:     make(map[Name]*proxypb.Slice),
		byService:  make(map[Name]map[Name]*proxypb.Slice),
		namespaces: make(map[string]bool),
	}
}

// follows says whether d is the next step of this set.
func (s *set) follows(d *proxypb.Delta) bool {
	return d.Source == s.source && d.Sequence == s.sequence+1
}

// knows says whether d leads to a state this set has already.
func (s *set) knows(d *proxypb.Delta) bool {
	return d.Source == s.source && d.Sequence <= s.sequence
}

// apply takes the next step and returns what it means for consumers.
func (s *set) apply(d *proxypb.Delta) Update {
	touched := make(map[Name]bool)
	namespaces := make(map[string]bool)
	s.remove(d.Gone, touched, namespaces)
	s.put(d.Changed, touched, namespaces)
	s.sequence, s.revision = d.Sequence, d.Revision
	u := Update{Source: s.source, Revision: s.revision, Namespaces: namespaces, Services: make(map[Name]*Service, len(touched))}
	for name := range touched {
		u.Services[name] = s.service(name)
	}
	return u
}

// all returns the whole set as a reset.
func (s *set) all() Update {
	u := Update{Source: s.source, Revision: s.revision, Reset: true,
		Namespaces: maps.Clone(s.namespaces), Services: make(map[Name]*Service, len(s.services))}
	for name := range s.services {
		u.Services[name] = s.service(name)
	}
	return u
}

func (s *set) put(o *proxypb.Objects, touched map[Name]bool, namespaces map[string]bool) {
	for _, svc := range o.GetServices() {
		name := nameOf(svc.Name)
		s.services[name] = svc
		touched[name] = true
	}
	for _, slice := range o.GetSlices() {
		name := nameOf(slice.Name)
		s.dropSlice(name, touched)
		owner := Name{name.Namespace, slice.Service}
		if s.byService[owner] == nil {
			s.byService[owner] = make(map[Name]*proxypb.Slice, 1)
		}
		s.slices[name], s.byService[owner][name] = slice, slice
		touched[owner] = true
	}
	for _, ns := range o.GetNamespaces() {
		s.namespaces[ns], namespaces[ns] = true, true
	}
}

func (s *set) remove(g *proxypb.Gone, touched map[Name]bool, namespaces map[string]bool) {
	for _, n := range g.GetServices() {
		delete(s.services, nameOf(n))
		touched[nameOf(n)] = true
	}
	for _, n := range g.GetSlices() {
		s.dropSlice(nameOf(n), touched)
	}
	for _, ns := range g.GetNamespaces() {
		delete(s.namespaces, ns)
		namespaces[ns] = false
	}
}

func (s *set) dropSlice(name Name, touched map[Name]bool) {
	old := s.slices[name]
	if old == nil {
		return
	}
	owner := Name{name.Namespace, old.Service}
	delete(s.slices, name)
	delete(s.byService[owner], name)
	if len(s.byService[owner]) == 0 {
		delete(s.byService, owner)
	}
	touched[owner] = true
}

// service joins one service with its slices; nil when there is no such service.
func (s *set) service(name Name) *Service {
	in := s.services[name]
	if in == nil {
		return nil
	}
	out := &Service{
		Name:            name,
		ClusterIPs:      addresses(in.ClusterIps),
		Headless:        in.Headless,
		ExternalIPs:     addresses(in.ExternalIps),
		ExternalName:    in.ExternalName,
		Ports:           ports(in.Ports),
		Affinity:        time.Duration(in.AffinitySeconds) * time.Second,
		InternalLocal:   in.InternalLocal,
		ExternalLocal:   in.ExternalLocal,
		PublishNotReady: in.PublishNotReady,
	}
	own := s.byService[name]
	for _, key := range slices.SortedFunc(maps.Keys(own), func(a, b Name) int { return cmp.Compare(a.Name, b.Name) }) {
		slice := own[key]
		shared := ports(slice.Ports)
		for _, e := range slice.Endpoints {
			for _, addr := range addresses(e.Addresses) {
				out.Endpoints = append(out.Endpoints, Endpoint{Addr: addr, Hostname: e.Hostname, Node: e.Node,
					Ready: e.Ready, Serving: e.Serving, Terminating: e.Terminating, Ports: shared})
			}
		}
	}
	slices.SortStableFunc(out.Endpoints, func(a, b Endpoint) int { return a.Addr.Compare(b.Addr) })
	return out
}

func nameOf(n *proxypb.Name) Name { return Name{n.GetNamespace(), n.GetName()} }

// addresses leaves out what is no address: it came from a user and must not reach a rule.
func addresses(in []string) []netip.Addr {
	out := make([]netip.Addr, 0, len(in))
	for _, text := range in {
		if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
			out = append(out, a.Unmap())
		}
	}
	return out
}

func ports(in []*proxypb.Port) []Port {
	out := make([]Port, 0, len(in))
	for _, p := range in {
		if p.Port <= 0 || p.Port > math.MaxUint16 || p.NodePort < 0 || p.NodePort > math.MaxUint16 {
			continue
		}
		out = append(out, Port{Name: p.Name, Protocol: p.Protocol, Port: uint16(p.Port), NodePort: uint16(p.NodePort)})
	}
	return out
}
