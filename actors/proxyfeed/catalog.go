package proxyfeed

import (
	"strconv"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/proto/proxypb"
)

// maxPart bounds one message; NATS takes more, but a big message holds up small ones.
const maxPart = 512 << 10

// catalog is the whole set in reduced form, and what of it has not been broadcast yet. It belongs
// to the feed's actor.
type catalog struct {
	entries map[messages.Key]entry
	dirty   map[messages.Key]bool
	seen    uint64 // newest revision taken in
	visible uint64 // newest revision that changed something proxies see
	traffic traffic
}

// entry is one reduced object: a service, a slice, or nil for a namespace.
type entry struct {
	rev  uint64
	msg  proto.Message
	pods []types.UID // that a slice sends connections to
}

func newCatalog() *catalog {
	return &catalog{entries: make(map[messages.Key]entry), dirty: make(map[messages.Key]bool), traffic: newTraffic()}
}

// load takes in an object found in the replica, without making it a change.
func (c *catalog) load(key messages.Key, obj objects.Object) {
	rev, err := strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
	if err != nil {
		rev = 0 // an object without a revision is older than any change
	}
	if msg, keep := reduce(obj); keep {
		c.entries[key] = entry{rev, msg, podsOf(obj)}
		c.traffic.change(nil, c.entries[key].pods, rev)
	}
	c.seen = max(c.seen, rev)
	c.visible = c.seen
}

// take takes in a change. One that is older than what is known, or that proxies would not see,
// changes nothing.
func (c *catalog) take(ch objects.Change) {
	c.seen = max(c.seen, ch.Rev)
	old, known := c.entries[ch.Key]
	if known && ch.Rev < old.rev {
		return
	}
	var msg proto.Message
	var pods []types.UID
	keep := false
	if ch.New != nil {
		if msg, keep = reduce(ch.New); keep {
			pods = podsOf(ch.New)
		}
	}
	c.traffic.change(old.pods, pods, ch.Rev)
	switch {
	case !keep && !known:
		return
	case !keep:
		delete(c.entries, ch.Key)
	case known && same(old.msg, msg):
		c.entries[ch.Key] = entry{ch.Rev, old.msg, pods}
		return
	default:
		c.entries[ch.Key] = entry{ch.Rev, msg, pods}
	}
	c.dirty[ch.Key] = true
	c.visible = max(c.visible, ch.Rev)
}

func same(a, b proto.Message) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return proto.Equal(a, b)
}

func podsOf(obj objects.Object) []types.UID {
	if slice, ok := obj.(*discoveryv1.EndpointSlice); ok {
		return serving(slice)
	}
	return nil
}

// reduce returns the reduced form of an object and whether proxies know such objects at all.
func reduce(obj objects.Object) (msg proto.Message, keep bool) {
	switch o := obj.(type) {
	case *corev1.Service:
		return reduceService(o), true
	case *discoveryv1.EndpointSlice:
		s := reduceSlice(o)
		return s, s != nil
	case *corev1.Namespace:
		return nil, true
	default:
		return nil, false
	}
}

// drain returns what was not broadcast yet as pieces that fit into a message each, and forgets it.
func (c *catalog) drain() []*proxypb.Delta {
	p := &packer[*proxypb.Delta]{fresh: func() (*proxypb.Delta, *proxypb.Objects) {
		d := &proxypb.Delta{Changed: &proxypb.Objects{}, Gone: &proxypb.Gone{}}
		return d, d.Changed
	}}
	for key := range c.dirty {
		if e, ok := c.entries[key]; ok {
			p.put(key, e)
		} else {
			p.need(len(key.Namespace) + len(key.Name) + 16)
			addGone(p.out[len(p.out)-1].Gone, key)
		}
	}
	clear(c.dirty)
	return p.out
}

// parts returns the whole set as pieces that fit into a message each; at least one.
func (c *catalog) parts() []*proxypb.Part {
	p := &packer[*proxypb.Part]{fresh: func() (*proxypb.Part, *proxypb.Objects) {
		part := &proxypb.Part{Objects: &proxypb.Objects{}}
		return part, part.Objects
	}}
	p.need(0)
	for key, e := range c.entries {
		p.put(key, e)
	}
	return p.out
}

// packer distributes objects over messages of bounded size.
type packer[M any] struct {
	fresh func() (M, *proxypb.Objects)
	out   []M
	into  *proxypb.Objects
	size  int
}

// need makes room for size bytes.
func (p *packer[M]) need(size int) {
	if len(p.out) == 0 || p.size+size > maxPart {
		m, into := p.fresh()
		p.out, p.into, p.size = append(p.out, m), into, 0
	}
	p.size += size
}

func (p *packer[M]) put(key messages.Key, e entry) {
	if e.msg == nil {
		p.need(len(key.Name) + 4)
		p.into.Namespaces = append(p.into.Namespaces, key.Name)
		return
	}
	p.need(proto.Size(e.msg) + 8)
	switch m := e.msg.(type) {
	case *proxypb.Service:
		p.into.Services = append(p.into.Services, m)
	case *proxypb.Slice:
		p.into.Slices = append(p.into.Slices, m)
	}
}

func addGone(g *proxypb.Gone, key messages.Key) {
	name := &proxypb.Name{Namespace: key.Namespace, Name: key.Name}
	switch key.Resource {
	case messages.Services:
		g.Services = append(g.Services, name)
	case messages.EndpointSlices:
		g.Slices = append(g.Slices, name)
	case messages.Namespaces:
		g.Namespaces = append(g.Namespaces, key.Name)
	}
}
