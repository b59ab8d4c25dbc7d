package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// nodeInfo is one node with what has been promised there.
type nodeInfo struct {
	node        *corev1.Node // nil while only pods name it
	allocatable amounts
	maxPods     int64
	images      map[string]int64 // image name to bytes
	pods        map[types.UID]*podInfo
	requested   amounts
	scored      amounts
	ports       []hostPort
	owners      map[string]int64 // pods here by controller uid
	guarded     int              // pods here with required anti-affinity
}

// cluster is the scheduler's picture: nodes, and pods by node, assumed placements included. Only
// the scheduler actor touches it.
type cluster struct {
	nodes   map[string]*nodeInfo
	order   []*nodeInfo // those with a Node, for rotating through
	stale   bool        // order must be rebuilt
	placed  map[types.UID]string
	guarded int // pods with required anti-affinity in the cluster
	// attracting counts the pods whose affinity others' scores depend on.
	attracting int
	// priorities counts the placed pods by priority.
	priorities map[int32]int
	// nominated are the pods for which room is being made, with the node they were promised.
	nominated  map[types.UID]nomination
	namespaces map[string]labels.Set
}

// nomination is room promised to a pod.
type nomination struct {
	pod  *podInfo
	node string
}

func newCluster() *cluster {
	return &cluster{nodes: make(map[string]*nodeInfo), placed: make(map[types.UID]string), priorities: make(map[int32]int),
		nominated: make(map[types.UID]nomination), namespaces: make(map[string]labels.Set)}
}

func (c *cluster) info(name string) *nodeInfo {
	n := c.nodes[name]
	if n == nil {
		n = &nodeInfo{pods: make(map[types.UID]*podInfo), owners: make(map[string]int64)}
		c.nodes[name] = n
	}
	return n
}

// setNode takes a node's newest version; nil removes it.
func (c *cluster) setNode(name string, node *corev1.Node) {
	n := c.info(name)
	c.stale = c.stale || (n.node == nil) != (node == nil)
	n.node = node
	if node == nil {
		c.forgetEmpty(name, n)
		return
	}
	n.allocatable = amountsOf(node.Status.Allocatable)
	n.maxPods = node.Status.Allocatable.Pods().Value()
	n.images = make(map[string]int64, len(node.Status.Images))
	for _, img := range node.Status.Images {
		for _, name := range img.Names {
			n.images[name] = img.SizeBytes
		}
	}
}

func (c *cluster) forgetEmpty(name string, n *nodeInfo) {
	if n.node == nil && len(n.pods) == 0 {
		delete(c.nodes, name)
	}
}

// put counts a pod on a node, in place of where and how it was counted before.
func (c *cluster) put(node string, p *podInfo) {
	c.remove(p.pod.UID)
	n := c.info(node)
	n.pods[p.pod.UID] = p
	n.requested.add(&p.requests, 1)
	n.scored.add(&p.scored, 1)
	n.ports = append(n.ports, p.ports...)
	n.owners[p.owner]++
	if p.affinity.guards() {
		n.guarded++
		c.guarded++
	}
	if p.affinity.attracts() {
		c.attracting++
	}
	c.priorities[p.priority]++
	c.placed[p.pod.UID] = node
}

// remove stops counting a pod; it reports whether the pod was counted.
func (c *cluster) remove(uid types.UID) bool {
	name, ok := c.placed[uid]
	if !ok {
		return false
	}
	n := c.nodes[name]
	p := n.pods[uid]
	delete(c.placed, uid)
	delete(n.pods, uid)
	n.requested.add(&p.requests, -1)
	n.scored.add(&p.scored, -1)
	if n.owners[p.owner]--; n.owners[p.owner] == 0 {
		delete(n.owners, p.owner)
	}
	if p.affinity.guards() {
		n.guarded--
		c.guarded--
	}
	if p.affinity.attracts() {
		c.attracting--
	}
	if c.priorities[p.priority]--; c.priorities[p.priority] == 0 {
		delete(c.priorities, p.priority)
	}
	if len(p.ports) > 0 {
		n.ports = n.ports[:0:0]
		for _, o := range n.pods {
			n.ports = append(n.ports, o.ports...)
		}
	}
	c.forgetEmpty(name, n)
	return true
}

// all returns the nodes that exist.
func (c *cluster) all() []*nodeInfo {
	if c.stale || c.order == nil {
		c.order = c.order[:0:0]
		for _, n := range c.nodes {
			if n.node != nil {
				c.order = append(c.order, n)
			}
		}
		c.stale = false
	}
	return c.order
}

// promise counts the nominated pods of at least p's priority as placed, p itself left out, until
// undo is called; it is nil when there are none.
func (c *cluster) promise(p *podInfo) (undo func()) {
	var put []types.UID
	for uid, m := range c.nominated {
		if _, placed := c.placed[uid]; placed || uid == p.pod.UID || m.pod.priority < p.priority || c.nodes[m.node] == nil {
			continue
		}
		c.put(m.node, m.pod)
		put = append(put, uid)
	}
	if put == nil {
		return nil
	}
	return func() {
		for _, uid := range put {
			c.remove(uid)
		}
	}
}
