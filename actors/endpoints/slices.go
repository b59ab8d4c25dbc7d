package endpoints

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/utils/ptr"
)

// maxEndpoints is how many endpoints a slice holds.
const maxEndpoints = 100

// group is endpoints that share a family and ports: they may share slices.
type group struct {
	family    discoveryv1.AddressType
	ports     []discoveryv1.EndpointPort
	endpoints []discoveryv1.Endpoint
}

// groupKey names what the endpoints of a group have in common.
func groupKey(family discoveryv1.AddressType, ports []discoveryv1.EndpointPort) string {
	out := make([]string, len(ports))
	for i, p := range ports {
		out[i] = fmt.Sprintf("%q %d %s %q", ptr.Deref(p.Name, ""), ptr.Deref(p.Port, 0), ptr.Deref(p.Protocol, ""), ptr.Deref(p.AppProtocol, ""))
	}
	slices.Sort(out)
	return string(family) + " " + strings.Join(out, ", ")
}

// grouped gathers groups by key, in the order in which they come first.
type grouped struct {
	order []string
	byKey map[string]*group
}

func (g *grouped) add(family discoveryv1.AddressType, ports []discoveryv1.EndpointPort, endpoints ...discoveryv1.Endpoint) {
	if g.byKey == nil {
		g.byKey = make(map[string]*group)
	}
	key := groupKey(family, ports)
	if g.byKey[key] == nil {
		g.byKey[key] = &group{family: family, ports: ports}
		g.order = append(g.order, key)
	}
	g.byKey[key].endpoints = append(g.byKey[key].endpoints, endpoints...)
}

// changes is what to write, in this order: nobody is missing in between.
type changes struct{ create, update, remove []*discoveryv1.EndpointSlice }

// arrange decides how the wanted groups fit into the slices there are. like is a slice with what
// all of them are to have in common: its labels, annotations and owner.
func arrange(have []*discoveryv1.EndpointSlice, want grouped, like *discoveryv1.EndpointSlice) changes {
	var out changes
	slots := make(map[string][]*discoveryv1.EndpointSlice)
	for _, slice := range have {
		if slice.DeletionTimestamp != nil {
			continue
		}
		if key := groupKey(slice.AddressType, slice.Ports); want.byKey[key] != nil {
			slots[key] = append(slots[key], slice)
		} else {
			out.remove = append(out.remove, slice)
		}
	}
	for _, key := range want.order {
		out.fit(slots[key], *want.byKey[key], like)
	}
	return out
}

// draft is a slice on its way to its next content.
type draft struct {
	from      *discoveryv1.EndpointSlice
	endpoints []discoveryv1.Endpoint
	changed   bool
}

// fit places one group: endpoints stay where they are; new ones go to slices that change anyway,
// then into the fullest slice that takes all of the rest, then into new slices.
func (c *changes) fit(have []*discoveryv1.EndpointSlice, g group, like *discoveryv1.EndpointSlice) {
	left := make(map[string]discoveryv1.Endpoint, len(g.endpoints))
	for _, e := range g.endpoints {
		left[identity(e)] = e
	}
	slices.SortFunc(have, func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
	drafts := make([]*draft, len(have))
	for i, slice := range have {
		d := &draft{from: slice, changed: !sameLook(slice, like)}
		for _, was := range slice.Endpoints {
			is, ok := left[identity(was)]
			if ok {
				delete(left, identity(was))
				d.endpoints = append(d.endpoints, is)
			}
			d.changed = d.changed || !ok || !equality.Semantic.DeepEqual(was, is)
		}
		drafts[i] = d
	}
	var rest []discoveryv1.Endpoint
	for _, e := range g.endpoints { // in order, each once
		if e, ok := left[identity(e)]; ok {
			rest = append(rest, e)
			delete(left, identity(e))
		}
	}
	for _, d := range drafts {
		if d.changed && len(d.endpoints) > 0 {
			rest = d.take(rest)
		}
	}
	if d := roomiest(drafts, len(rest)%maxEndpoints); d != nil && len(rest) > 0 {
		n := len(rest) % maxEndpoints
		d.take(rest[:n])
		rest = rest[n:]
	}
	for _, d := range drafts { // empty ones are used again before new ones are made
		if len(d.endpoints) == 0 {
			rest = d.take(rest)
		}
	}
	keep := len(g.endpoints) == 0 // one empty slice says that nobody is there
	for _, d := range drafts {
		switch {
		case len(d.endpoints) == 0 && !keep:
			c.remove = append(c.remove, d.from)
		default:
			keep = keep && len(d.endpoints) > 0
			if d.changed {
				c.update = append(c.update, d.slice(like))
			}
		}
	}
	if keep {
		c.create = append(c.create, newSlice(g, nil, like))
	}
	for chunk := range slices.Chunk(rest, maxEndpoints) {
		c.create = append(c.create, newSlice(g, chunk, like))
	}
}

// take moves as many endpoints into the draft as it has room for and returns the others.
func (d *draft) take(in []discoveryv1.Endpoint) []discoveryv1.Endpoint {
	n := min(len(in), maxEndpoints-len(d.endpoints))
	if n <= 0 {
		return in
	}
	d.endpoints, d.changed = append(d.endpoints, in[:n]...), true
	return in[n:]
}

// roomiest is the fullest draft with endpoints that has room for n more; nil when none has.
func roomiest(drafts []*draft, n int) (out *draft) {
	for _, d := range drafts {
		if k := len(d.endpoints); n > 0 && k > 0 && k+n <= maxEndpoints && (out == nil || k > len(out.endpoints)) {
			out = d
		}
	}
	return out
}

func (d *draft) slice(like *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	out := d.from.DeepCopy()
	out.Labels, out.OwnerReferences = like.Labels, like.OwnerReferences
	if like.Annotations != nil {
		out.Annotations = like.Annotations
	}
	out.Endpoints = d.endpoints
	return out
}

func newSlice(g group, endpoints []discoveryv1.Endpoint, like *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	out := like.DeepCopy()
	out.AddressType, out.Ports = g.family, g.ports
	out.Endpoints = append([]discoveryv1.Endpoint{}, endpoints...)
	return out
}

// sameLook compares metadata; without annotations to have, those of others may stay.
func sameLook(slice, like *discoveryv1.EndpointSlice) bool {
	return equality.Semantic.DeepEqual(slice.Labels, like.Labels) && equality.Semantic.DeepEqual(slice.OwnerReferences, like.OwnerReferences) &&
		(like.Annotations == nil || equality.Semantic.DeepEqual(slice.Annotations, like.Annotations))
}

// identity tells endpoints of one group apart.
func identity(e discoveryv1.Endpoint) string {
	if e.TargetRef != nil && e.TargetRef.UID != "" {
		return string(e.TargetRef.UID)
	}
	return strings.Join(e.Addresses, ",")
}

// byAddress orders endpoints, so that equal sets look equal.
func byAddress(a, b discoveryv1.Endpoint) int {
	return cmp.Or(slices.Compare(a.Addresses, b.Addresses), strings.Compare(identity(a), identity(b)))
}
