package nodes

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/proto/nodepb"
)

// greetPatience is how long a node that has said Hello is not asked to do so again, while its
// registration is under way.
const greetPatience = 2 * time.Second

// keeper owns the heartbeat clock, the pod CIDRs, the routes from feed and bus to the node actors,
// and these actors.
//
// Accepts: up from the bus; changed and nodeChanged from the feed; greeted and refsChanged from
// its nodes; its own sweepDue.
// Sends:   Announce and Probe to nodes; up, changed, objectChanged, lost, found to node actors.
// Restart: node actors go with it; everything is read again and nodes greet again.
// Mailbox: heartbeats and changes coalesce by node and object; reports are bounded by the nodes'
// own repetition.
type keeper struct {
	cfg   Config
	log   *slog.Logger
	slots stage.Semaphore
	sub   *nats.Subscription
	stop  func()
	cidrs *cidrs
	nodes map[string]*entry
	users map[messages.Key]map[string]bool // nodes by ConfigMap or Secret
	swept time.Time
}

// entry is what the keeper knows of one node.
type entry struct {
	pid     *actor.PID // nil until there is something to do
	heard   time.Time
	state   liveness
	session uint64 // the one the node was welcomed to; 0 while there is none
	greeted time.Time
	beat    *nodepb.Heartbeat // the last one passed on
}

type (
	// up is a report of a node as it came from the bus.
	up struct {
		node, what string
		data       []byte
	}
	// beaten is a heartbeat; it coalesces by node.
	beaten struct {
		node string
		data []byte
	}
	// changed says that a pod may differ for the node, or, without a node, a ConfigMap or Secret.
	changed struct {
		key  messages.Key
		node string
	}
	// nodeChanged says that a Node object may differ.
	nodeChanged struct{ name string }
	sweepDue    struct{}
)

func (b beaten) CoalesceKey() any      { return "beat/" + b.node }
func (c changed) CoalesceKey() any     { return c }
func (n nodeChanged) CoalesceKey() any { return n }

// Props returns the keeper of all nodes.
func Props(cfg Config) *actor.Props {
	if cfg.Writes == 0 {
		cfg.Writes = 256
	}
	cfg.Log = cfg.Log.With("actor", "nodes")
	slots := stage.NewSemaphore(cfg.Writes)
	return stage.Props(func() actor.Actor {
		return &keeper{
			cfg: cfg, log: cfg.Log, slots: slots, stop: func() {},
			cidrs: newCIDRs(cfg.Cluster.GetPodCidr(), cfg.mask()),
			nodes: make(map[string]*entry), users: make(map[messages.Key]map[string]bool),
		}
	})
}

func (k *keeper) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		k.start(c)
	case *actor.Stopping, *actor.Restarting:
		k.end()
	case beaten:
		k.heartbeat(c, m)
	case up:
		k.up(c, m)
	case changed:
		k.changed(c, m)
	case nodeChanged:
		k.nodeChanged(c, m.name)
	case greeted:
		k.greeted(m)
	case refsChanged:
		k.refsChanged(c, m)
	case *actor.Terminated:
		k.gone(m.Who)
	case sweepDue:
		k.sweep(c)
	}
}

func (k *keeper) start(c actor.Context) {
	now := k.cfg.Clock.Now()
	k.swept = now
	for _, n := range objects.List[*corev1.Node](k.cfg.Reader, messages.Nodes, "") {
		k.cidrs.taken(n.Name, n.Spec.PodCIDR)
		// Silence counts from the end of the grace: agents may have to connect anew first.
		k.nodes[n.Name] = &entry{heard: now.Add(k.cfg.startGrace() - 2*k.cfg.interval())}
	}
	self, root := c.Self(), c.ActorSystem().Root
	sub, err := k.cfg.Conn.Subscribe(messages.NodeUpAll(k.cfg.Region), func(m *nats.Msg) {
		node, what, err := messages.ParseNodeUp(m.Subject)
		switch {
		case err != nil:
			k.log.Warn("report on a strange subject dropped", "err", err)
		case what == "heartbeat":
			root.Send(self, beaten{node, m.Data})
		case what == "applied": // a proxy's word to the feed of proxies
		default:
			root.Send(self, up{node, what, m.Data})
		}
	})
	if err != nil {
		panic(fmt.Errorf("hear nodes: %w", err)) // a closed connection: the process is about to end
	}
	_ = sub.SetPendingLimits(-1, -1) // the handler only hands over; its queue is the mailbox
	k.sub = sub
	k.stop = k.cfg.Feed.Follow([]messages.Resource{messages.Pods, messages.ConfigMaps, messages.Secrets, messages.Nodes},
		func(ch objects.Change) { route(ch, func(m any) { root.Send(self, m) }) })
	for name := range k.nodes {
		k.tell(name, &nodepb.Down{Body: &nodepb.Down_Announce{Announce: &nodepb.Announce{}}})
	}
	stage.After(c, k.cfg.interval()/5, sweepDue{})
}

func (k *keeper) end() {
	k.stop()
	if k.sub != nil {
		_ = k.sub.Unsubscribe() // fails only when the connection is gone
	}
}

// route turns a change into messages for the keeper. It runs on the feed's goroutine.
func route(ch objects.Change, send func(any)) {
	switch ch.Key.Resource {
	case messages.Nodes:
		send(nodeChanged{ch.Key.Name})
	case messages.Pods:
		old, _ := ch.Old.(*corev1.Pod)
		now, _ := ch.New.(*corev1.Pod)
		if old != nil && now != nil && !matters(old, now) {
			return
		}
		for _, p := range []*corev1.Pod{old, now} {
			if p != nil && p.Spec.NodeName != "" {
				send(changed{ch.Key, p.Spec.NodeName})
			}
		}
	default:
		send(changed{key: ch.Key})
	}
}

// hears notes that a node lives and returns its entry.
func (k *keeper) hears(node string) *entry {
	e := k.nodes[node]
	if e == nil {
		e = &entry{}
		k.nodes[node] = e
	}
	e.heard = k.cfg.Clock.Now()
	k.cfg.Beats.note(node, e.heard)
	if e.state == silent {
		k.log.Info("node is back", "node", node)
		e.session = 0 // whatever it believes: it greets again and reports everything
	}
	e.state = alive
	return e
}

func (k *keeper) heartbeat(c actor.Context, m beaten) {
	hb := new(nodepb.Heartbeat)
	if err := proto.Unmarshal(m.data, hb); err != nil {
		k.log.Warn("unreadable heartbeat dropped", "node", m.node, "err", err)
		return
	}
	e := k.hears(m.node)
	if e.session == 0 || hb.GetSession() != e.session {
		if k.cfg.Clock.Since(e.greeted) >= greetPatience {
			k.tell(m.node, &nodepb.Down{Body: &nodepb.Down_Announce{Announce: &nodepb.Announce{}}})
		}
		return
	}
	if e.beat == nil || e.beat.GetSeq() != hb.GetSeq() || e.beat.GetDigest() != hb.GetDigest() {
		e.beat = hb
		c.Send(e.pid, hb)
	}
}

func (k *keeper) up(c actor.Context, m up) {
	e := k.hears(m.node)
	if m.what == "hello" {
		e.greeted, e.session, e.beat = k.cfg.Clock.Now(), 0, nil
		cidr, err := k.cidrs.grant(m.node)
		if err != nil {
			k.log.Error("node gets no pod CIDR", "node", m.node, "err", err)
		}
		k.actorOf(c, m.node, e)
		c.Send(e.pid, hello{m.data, cidr})
		return
	}
	if e.session == 0 {
		return // the node greets first, and then reports everything again
	}
	c.Send(e.pid, m)
}

// actorOf makes sure that a node has its actor.
func (k *keeper) actorOf(c actor.Context, name string, e *entry) {
	if e.pid != nil {
		return
	}
	pid, err := c.SpawnNamed(newNode(k.cfg, name, k.slots), messages.EscapeToken(name))
	if err != nil {
		panic(fmt.Errorf("spawn node %s: %w", name, err)) // children are never stopped alone
	}
	e.pid = pid
}

func (k *keeper) changed(c actor.Context, m changed) {
	if m.node != "" {
		if e := k.nodes[m.node]; e != nil && e.pid != nil {
			c.Send(e.pid, m)
		}
		return
	}
	for node := range k.users[m.key] {
		c.Send(k.nodes[node].pid, m)
	}
}

// nodeChanged follows the Node objects. A node whose object was deleted while it lives greets
// again, which makes a new one.
func (k *keeper) nodeChanged(c actor.Context, name string) {
	n, ok := objects.Get[*corev1.Node](k.cfg.Reader, messages.KeyOf(messages.Nodes, "", name))
	e := k.nodes[name]
	switch {
	case ok:
		k.cidrs.taken(name, n.Spec.PodCIDR)
		if e == nil { // made by a user: its agent may come
			k.nodes[name] = &entry{heard: k.cfg.Clock.Now().Add(k.cfg.startGrace())}
		}
	case e == nil:
	case e.session != 0:
		e.session = 0
		k.cidrs.release(name)
	case e.state == silent:
		k.forget(c, name, e)
	}
}

// forget drops a node whose object is gone and that is silent.
func (k *keeper) forget(c actor.Context, name string, e *entry) {
	k.cidrs.release(name)
	k.cfg.Beats.forget(name)
	if e.pid == nil {
		delete(k.nodes, name)
		return
	}
	c.Stop(e.pid) // what arrives before it has ended is lost, and repeated by the node
}

func (k *keeper) gone(who *actor.PID) {
	for name, e := range k.nodes {
		if e.pid != nil && e.pid.Id == who.Id {
			delete(k.nodes, name)
			k.dropUser(name)
		}
	}
}

// dropUser forgets what a node's pods refer to.
func (k *keeper) dropUser(node string) {
	for key, users := range k.users {
		if delete(users, node); len(users) == 0 {
			delete(k.users, key)
		}
	}
}

// greeted is a node actor's word on its session: welcomed, or 0 when there is none.
type greeted struct {
	node    string
	session uint64
}

func (k *keeper) greeted(m greeted) {
	if e := k.nodes[m.node]; e != nil {
		e.session, e.beat = m.session, nil
	}
	if m.session == 0 {
		k.dropUser(m.node)
	}
}

// refsChanged says which ConfigMaps and Secrets a node's pods began or ceased to refer to.
type refsChanged struct {
	node             string
	follow, unfollow []messages.Key
}

func (k *keeper) refsChanged(c actor.Context, m refsChanged) {
	for _, key := range m.unfollow {
		delete(k.users[key], m.node)
		if len(k.users[key]) == 0 {
			delete(k.users, key)
		}
	}
	for _, key := range m.follow {
		if k.users[key] == nil {
			k.users[key] = make(map[string]bool)
		}
		k.users[key][m.node] = true
		// It may have changed after the node looked and before we knew that it asks.
		c.Send(k.nodes[m.node].pid, changed{key: key})
	}
}

// sweep finds the nodes that have been silent for too long.
func (k *keeper) sweep(c actor.Context) {
	stage.After(c, k.cfg.interval()/5, sweepDue{})
	now := k.cfg.Clock.Now()
	late := now.Sub(k.swept) - k.cfg.interval()/5
	k.swept = now
	if late > k.cfg.interval()/2 || !k.cfg.Conn.IsConnected() {
		// It is we who were away: heartbeats may be waiting behind this very message.
		for _, e := range k.nodes {
			if e.state != silent && e.heard.Before(now) {
				e.heard = now
			}
		}
		return
	}
	for name, e := range k.nodes {
		switch was := e.state; judge(now.Sub(e.heard), k.cfg.interval()) {
		case probed:
			if was == alive {
				e.state = probed
				k.tell(name, &nodepb.Down{Body: &nodepb.Down_Probe{Probe: &nodepb.Probe{}}})
			}
		case silent:
			if was != silent {
				k.silent(c, name, e)
			}
		}
	}
}

func (k *keeper) silent(c actor.Context, name string, e *entry) {
	e.state, e.session = silent, 0
	if _, ok := k.cfg.Reader.Get(messages.KeyOf(messages.Nodes, "", name)); !ok {
		k.forget(c, name, e)
		return
	}
	k.log.Warn("node is silent", "node", name)
	k.actorOf(c, name, e)
	c.Send(e.pid, lost{})
}

// tell sends to a node outside of any session.
func (k *keeper) tell(node string, m *nodepb.Down) {
	m.Epoch, m.Cluster = k.cfg.Epoch, k.cfg.Cluster.GetId()
	if err := publish(k.cfg.Conn, k.cfg.Region, node, m); err != nil {
		k.log.Debug("message to node lost", "node", node, "err", err)
	}
}

func publish(nc *nats.Conn, region, node string, m *nodepb.Down) error {
	data, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode message to %s: %w", node, err)
	}
	if err := nc.Publish(messages.NodeDown(region, node), data); err != nil {
		return fmt.Errorf("send to %s: %w", node, err)
	}
	return nil
}
