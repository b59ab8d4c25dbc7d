package rules

import (
	"maps"
	"slices"
	"strings"

	"github.com/troupe-run/troupe/proxy/feed"
)

// plan is what the kernel shall have for one IP family. It is changed service by service and
// remembers which chains may differ since the last look.
type plan struct {
	settings settings
	wanted   tables
	services map[feed.Name]*served
	blocks   map[string]*block
	refusing map[feed.Name]bool
	dirty    map[table]map[string]bool
	// flows says that UDP endpoints left or came since the last clean-up of conntrack.
	flows bool
}

// block is a chain in the middle: who has entries in it and how it is reached.
type block struct {
	via     string
	members map[feed.Name]bool
}

func newPlan(s settings) *plan {
	p := &plan{
		settings: s,
		wanted:   s.fixed(),
		services: make(map[feed.Name]*served),
		blocks:   make(map[string]*block),
		refusing: make(map[feed.Name]bool),
		dirty:    map[table]map[string]bool{nat: {}, filter: {}},
	}
	p.compose(map[string]bool{servicesChain: true, nodePortsChain: true, rejectChain: true})
	return p
}

// update takes an update over.
func (p *plan) update(u feed.Update) {
	stale := make(map[string]bool)
	if u.Reset {
		for name := range p.services {
			if u.Services[name] == nil {
				p.put(name, nil, stale)
			}
		}
	}
	for name, svc := range u.Services {
		p.put(name, svc, stale)
	}
	p.compose(stale)
}

// put replaces one service (nil: it is gone); stale collects the shared chains that have to be
// composed anew.
func (p *plan) put(name feed.Name, svc *feed.Service, stale map[string]bool) {
	old, now := p.services[name], &served{}
	if svc != nil {
		now = p.settings.serve(svc)
	}
	if old == nil {
		old = &served{}
	}
	p.putOwn(old, now)
	p.putEntries(name, old, now, stale)
	if !slices.Equal(old.refused, now.refused) {
		stale[rejectChain] = true
	}
	delete(p.refusing, name)
	if len(now.refused) > 0 {
		p.refusing[name] = true
	}
	p.flows = p.flows || !slices.EqualFunc(old.flows, now.flows, sameFlow)
	delete(p.services, name)
	if svc != nil {
		p.services[name] = now
	}
}

// putOwn replaces the chains that belong to one service alone.
func (p *plan) putOwn(old, now *served) {
	for chain := range old.own {
		if _, stays := now.own[chain]; !stays {
			delete(p.wanted[nat], chain)
			p.dirty[nat][chain] = true
		}
	}
	for chain, rules := range now.own {
		if had, ok := p.wanted[nat][chain]; !ok || !slices.Equal(had, rules) {
			p.wanted[nat][chain] = rules
			p.dirty[nat][chain] = true
		}
	}
}

// putEntries replaces a service's entries in shared blocks.
func (p *plan) putEntries(name feed.Name, old, now *served, stale map[string]bool) {
	for chain, rules := range old.entries {
		if slices.Equal(rules, now.entries[chain]) {
			continue
		}
		stale[chain] = true
		if _, stays := now.entries[chain]; !stays {
			delete(p.blocks[chain].members, name)
		}
	}
	for chain, rules := range now.entries {
		if slices.Equal(rules, old.entries[chain]) {
			continue
		}
		stale[chain] = true
		if p.blocks[chain] == nil {
			p.blocks[chain] = &block{via: now.blocks[chain], members: make(map[feed.Name]bool)}
		}
		p.blocks[chain].members[name] = true
	}
}

// compose writes the shared chains named in stale anew.
func (p *plan) compose(stale map[string]bool) {
	for chain := range stale {
		b, isBlock := p.blocks[chain]
		switch {
		case !isBlock:
		case len(b.members) == 0:
			delete(p.blocks, chain)
			p.set(nat, chain, nil, false)
			stale[parent(chain)] = true
		default:
			if _, known := p.wanted[nat][chain]; !known {
				stale[parent(chain)] = true
			}
			var rules []string
			for _, name := range sorted(b.members) {
				rules = append(rules, p.services[name].entries[chain]...)
			}
			p.set(nat, chain, rules, true)
		}
	}
	if stale[servicesChain] {
		local := "-m addrtype --dst-type LOCAL -j " + nodePortsChain
		p.set(nat, servicesChain, append(p.ways(ipHead), local), true)
	}
	if stale[nodePortsChain] {
		p.set(nat, nodePortsChain, p.ways(portHead), true)
	}
	if stale[rejectChain] {
		var rules []string
		for _, name := range sorted(p.refusing) {
			rules = append(rules, p.services[name].refused...)
		}
		p.set(filter, rejectChain, append(rules, p.settings.lastResort()...), true)
	}
}

// parent is the chain that leads to a block.
func parent(chain string) string {
	if strings.HasPrefix(chain, portHead) {
		return nodePortsChain
	}
	return servicesChain
}

// ways returns the rules that lead to all blocks of a kind.
func (p *plan) ways(head string) []string {
	var out []string
	for chain, b := range p.blocks {
		if strings.HasPrefix(chain, head) {
			out = append(out, b.via)
		}
	}
	slices.Sort(out)
	return out
}

func (p *plan) set(t table, chain string, rules []string, exists bool) {
	if exists {
		p.wanted[t][chain] = rules
	} else {
		delete(p.wanted[t], chain)
	}
	p.dirty[t][chain] = true
}

// settle says that the kernel has what is wanted.
func (p *plan) settle() {
	clear(p.dirty[nat])
	clear(p.dirty[filter])
}

func sorted(names map[feed.Name]bool) []feed.Name {
	return slices.SortedFunc(maps.Keys(names), func(a, b feed.Name) int {
		if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
}

func sameFlow(a, b flow) bool {
	return a.port == b.port && a.nodePort == b.nodePort && slices.Equal(a.addrs, b.addrs) && slices.Equal(a.endpoints, b.endpoints)
}
