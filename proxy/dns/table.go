package dns

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/troupe-run/troupe/proxy/feed"
)

// Table holds what names of the cluster resolve to. The zero value is empty and knows that it has
// not been filled yet. Apply is for one goroutine, all else for any.
type Table struct {
	services   sync.Map // feed.Name to *entry
	namespaces sync.Map // string to struct{}
	pointers   sync.Map // netip.Addr to []string, names relative to the zone
	revision   atomic.Uint64
	filled     atomic.Bool

	// owners is the writer's own: which service gives an address which names.
	owners map[netip.Addr]map[feed.Name][]string
}

// entry is what one service answers. It is immutable.
type entry struct {
	alias string // CNAME of an external-name service
	addrs []netip.Addr
	// hosts are the endpoints of a headless service by lower-case host name.
	hosts map[string][]netip.Addr
	// ports answer SRV, by "_port._proto".
	ports map[string][]target
	// pointers are the names this service gives to addresses.
	pointers map[netip.Addr][]string
}

// target is where a port is served; an empty host means the service's own name.
type target struct {
	host string
	port uint16
}

// Apply takes an update of the feed.
func (t *Table) Apply(u feed.Update) {
	if u.Reset {
		t.services.Range(func(key, _ any) bool {
			if name := key.(feed.Name); u.Services[name] == nil {
				t.put(name, nil)
			}
			return true
		})
		t.namespaces.Range(func(key, _ any) bool {
			if !u.Namespaces[key.(string)] {
				t.namespaces.Delete(key)
			}
			return true
		})
	}
	for ns, there := range u.Namespaces {
		if there {
			t.namespaces.Store(ns, struct{}{})
		} else {
			t.namespaces.Delete(ns)
		}
	}
	for name, svc := range u.Services {
		t.put(name, svc)
	}
	t.revision.Store(u.Revision)
	t.filled.Store(true)
}

func (t *Table) put(name feed.Name, svc *feed.Service) {
	if old := t.service(name); old != nil {
		for addr := range old.pointers {
			t.point(addr, name, nil)
		}
	}
	if svc == nil {
		t.services.Delete(name)
		return
	}
	e := newEntry(svc)
	t.services.Store(name, e)
	for addr, names := range e.pointers {
		t.point(addr, name, names)
	}
}

// point replaces the names that one service gives to an address.
func (t *Table) point(addr netip.Addr, by feed.Name, names []string) {
	if t.owners == nil {
		t.owners = make(map[netip.Addr]map[feed.Name][]string)
	}
	owners := t.owners[addr]
	if owners == nil {
		owners = make(map[feed.Name][]string, 1)
		t.owners[addr] = owners
	}
	if owners[by] = names; len(names) == 0 {
		delete(owners, by)
	}
	if len(owners) == 0 {
		delete(t.owners, addr)
		t.pointers.Delete(addr)
		return
	}
	var all []string
	for _, n := range owners {
		all = append(all, n...)
	}
	slices.Sort(all)
	t.pointers.Store(addr, all)
}

// service returns what a service answers; nil when it does not exist.
func (t *Table) service(name feed.Name) *entry {
	e, ok := t.services.Load(name)
	if !ok {
		return nil
	}
	return e.(*entry)
}

func (t *Table) namespace(name string) bool {
	_, ok := t.namespaces.Load(name)
	return ok
}

// names returns the names of an address, relative to the zone.
func (t *Table) names(addr netip.Addr) []string {
	names, ok := t.pointers.Load(addr)
	if !ok {
		return nil
	}
	return names.([]string)
}

// newEntry says what a service answers: pure.
func newEntry(svc *feed.Service) *entry {
	e := &entry{ports: make(map[string][]target), pointers: make(map[netip.Addr][]string)}
	switch {
	case svc.ExternalName != "":
		e.alias = strings.TrimSuffix(svc.ExternalName, ".") + "."
	case svc.Headless:
		e.headless(svc)
	default:
		e.addrs = svc.ClusterIPs
		for _, p := range svc.Ports {
			if key := portKey(p); key != "" {
				e.ports[key] = append(e.ports[key], target{port: p.Port})
			}
		}
		for _, addr := range svc.ClusterIPs {
			e.pointers[addr] = []string{serviceName(svc.Name)}
		}
	}
	return e
}

// headless answers with the endpoints that are ready, or all of them when the service says so.
// Ports are the endpoints' own: there is nobody in between who could translate.
func (e *entry) headless(svc *feed.Service) {
	e.hosts = make(map[string][]netip.Addr)
	for _, ep := range svc.Endpoints {
		if !ep.Ready && !svc.PublishNotReady {
			continue
		}
		host := strings.ToLower(ep.Hostname)
		if host == "" {
			host = dashed(ep.Addr)
		}
		if !slices.Contains(e.hosts[host], ep.Addr) {
			e.hosts[host] = append(e.hosts[host], ep.Addr)
		}
		if !slices.Contains(e.addrs, ep.Addr) {
			e.addrs = append(e.addrs, ep.Addr)
		}
		for _, p := range ep.Ports {
			to := target{host, p.Port}
			if key := portKey(p); key != "" && !slices.Contains(e.ports[key], to) {
				e.ports[key] = append(e.ports[key], to)
			}
		}
	}
	for _, host := range slices.Sorted(maps.Keys(e.hosts)) {
		for _, addr := range e.hosts[host] {
			e.pointers[addr] = append(e.pointers[addr], host+"."+serviceName(svc.Name))
		}
	}
}

// serviceName is a service's name relative to the zone.
func serviceName(n feed.Name) string { return n.Name + "." + n.Namespace + ".svc" }

// portKey is how SRV queries name a port; unnamed ports have no SRV record.
func portKey(p feed.Port) string {
	if p.Name == "" {
		return ""
	}
	return "_" + strings.ToLower(p.Name) + "._" + strings.ToLower(p.Protocol)
}

// dashed spells an address as one label.
func dashed(a netip.Addr) string {
	if a.Is4() {
		return strings.ReplaceAll(a.String(), ".", "-")
	}
	s := strings.ReplaceAll(a.String(), ":", "-")
	if strings.HasPrefix(s, "-") { // labels of host names do not begin or end with a dash
		s = "0" + s
	}
	if strings.HasSuffix(s, "-") {
		s += "0"
	}
	return s
}

// undashed reverts dashed.
func undashed(label string) (netip.Addr, bool) {
	for _, sep := range []string{".", ":"} {
		if a, err := netip.ParseAddr(strings.ReplaceAll(label, "-", sep)); err == nil {
			return a, true
		}
	}
	return netip.Addr{}, false
}
