package nodes

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/proto/nodepb"
)

const (
	// maxDelta bounds one message of deltas; a single larger object still goes alone.
	maxDelta = 512 << 10
	// ackPatience is how long an acknowledgement may take before the whole set is sent; it doubles
	// up to maxAckPatience while none comes.
	ackPatience    = 2 * time.Second
	maxAckPatience = 30 * time.Second
)

// node owns the conversation with one node: what it has been sent, and the writing of what it
// reports.
//
// Accepts: hello, up, heartbeats, changed and lost from the keeper; PodsLeft; its own timers.
// Sends:   Down messages to the node; greeted and refsChanged to the keeper; AwaitPodsLeft.
// Restart: the session ends; the node is asked to greet again and is sent what its digest lacks.
// Mailbox: bounded as the keeper's; changed coalesces by object.
type node struct {
	cfg   Config
	name  string
	log   *slog.Logger
	slots stage.Semaphore

	session     uint64
	incarnation uint64 // of the agent that was welcomed; 0 while there is none
	want        *wantedSet
	dirty       map[messages.Key]bool
	flushing    bool // flushDue is in the mailbox
	begun       bool // a whole set has been computed in this life of the actor
	departures  map[messages.Key]*departure
	asking      []messages.LeavingPod // departures that proxies have not been asked about

	seq      uint64
	awaiting bool // seq has not been acknowledged
	patience time.Duration
	ackTimer *stage.Timer

	registering bool
	next        *hello // came while registering

	status  nodeWriter
	reports map[string]*podWriter // by pod UID
	acks    []*nodepb.Ack
	acking  bool // ackFlush is in the mailbox
}

type (
	// hello is a Hello with the pod CIDR the keeper grants.
	hello struct {
		data []byte
		cidr string
	}
	// lost says that the node is silent.
	lost     struct{}
	flushDue struct{}
	ackDue   struct{ seq uint64 }
)

func newNode(cfg Config, name string, slots stage.Semaphore) *actor.Props {
	return stage.Props(func() actor.Actor {
		return &node{
			cfg: cfg, name: name, slots: slots, log: cfg.Log.With("node", name),
			session: rand.Uint64() | 1, patience: ackPatience, // 0 stands for none
			want: newWantedSet(), dirty: make(map[messages.Key]bool), reports: make(map[string]*podWriter), departures: make(map[messages.Key]*departure),
		}
	})
}

func (n *node) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		c.Send(c.Parent(), greeted{n.name, 0})
	case hello:
		n.hello(c, m)
	case *nodepb.Heartbeat:
		n.heartbeat(c, m)
	case changed:
		n.changed(c, m.key)
	case up:
		n.up(c, m)
	case lost:
		n.lost(c)
	case messages.PodsLeft:
		n.podsLeft(c, m)
	case drainDue:
		n.drainDue(c, m)
	case flushDue:
		n.flush(c)
	case ackFlush:
		n.flushAcks()
	case ackDue:
		n.ackMissing(c, m)
	case statusDue:
		n.writeStatus(c)
	}
}

// up handles everything a welcomed node says, except hello and heartbeats.
func (n *node) up(c actor.Context, m up) {
	switch m.what {
	case "ack":
		parse(n, m, func(a *nodepb.DeltaAck) { n.acked(c, a) })
	case "resync":
		parse(n, m, func(r *nodepb.Resync) { n.resync(c, r) })
	case "podstatus":
		parse(n, m, func(r *nodepb.PodReports) { n.podReports(c, r) })
	case "nodestatus":
		parse(n, m, func(r *nodepb.NodeReport) { n.nodeReport(c, r) })
	case "event":
		parse(n, m, n.event)
	case "token":
		parse(n, m, func(r *nodepb.TokenRequest) { n.token(c, r) })
	default:
		n.log.Debug("unknown report dropped", "what", m.what) // a newer agent
	}
}

func parse[M any, P interface {
	*M
	proto.Message
}](n *node, m up, handle func(P)) {
	out := P(new(M))
	if err := proto.Unmarshal(m.data, out); err != nil {
		n.log.Warn("unreadable report dropped", "what", m.what, "err", err)
		return
	}
	handle(out)
}

// live says whether the node takes deltas.
func (n *node) live() bool { return n.incarnation != 0 }

// lost ends the session of a silent node; it greets again when it is back.
func (n *node) lost(c actor.Context) {
	n.endSession(c)
	n.status.silent = true
	n.writeStatus(c)
}

func (n *node) endSession(c actor.Context) {
	n.incarnation, n.awaiting = 0, false
	n.ackTimer.Stop()
	clear(n.dirty)
	n.replace(c, newWantedSet(), change{})
}

// replace swaps the wanted set and tells the keeper what that means for its routes.
func (n *node) replace(c actor.Context, w *wantedSet, ch change) {
	for key := range n.want.objects {
		if w.objects[key] == nil {
			ch.unfollow = append(ch.unfollow, key)
		}
	}
	n.want = w
	n.follow(c, ch)
}

func (n *node) follow(c actor.Context, ch change) {
	if len(ch.follow)+len(ch.unfollow) > 0 {
		c.Send(c.Parent(), refsChanged{n.name, ch.follow, ch.unfollow})
	}
}

// begin starts to send in a session just welcomed: nothing when the node has what it should.
func (n *node) begin(c actor.Context, has uint64) {
	n.seq, n.awaiting = 0, false
	n.patience = ackPatience
	ch := n.rebuild(c)
	if n.want.digest == has {
		ch = change{}
		n.send(c, ch, false)
		return
	}
	n.send(c, ch, true)
}

// rebuild computes the whole set from the replica.
func (n *node) rebuild(c actor.Context) change {
	clear(n.dirty)
	n.begun = true
	w, ch := newWantedSet(), change{}
	for _, pod := range objects.Index[*corev1.Pod](n.cfg.Reader, messages.Pods, objects.IndexNode, n.name) {
		key := messages.KeyOf(messages.Pods, pod.Namespace, pod.Name)
		n.assumeTold(key, pod)
		n.note(w.pod(key, n.shown(key, pod), n.cfg.Reader.Get, &ch))
	}
	n.replace(c, w, ch)
	return ch
}

// note logs what cannot be encoded; such an object is left out.
func (n *node) note(err error) {
	if err != nil {
		n.log.Error("object not sent", "err", err)
	}
}

func (n *node) changed(c actor.Context, key messages.Key) {
	n.departs(c, key)
	n.mark(c, key)
}

// mark makes an object part of the next change.
func (n *node) mark(c actor.Context, key messages.Key) {
	if !n.live() {
		return // the next session begins with everything
	}
	n.dirty[key] = true
	n.flushSoon(c)
}

// flushSoon sends behind whatever is in the mailbox already, so that a burst shares a message.
func (n *node) flushSoon(c actor.Context) {
	if !n.flushing {
		n.flushing = true
		c.Send(c.Self(), flushDue{})
	}
}

// flush sends what has changed. One change is under way at a time; meanwhile others gather.
func (n *node) flush(c actor.Context) {
	n.flushing = false
	n.askProxies(c)
	if !n.live() || n.awaiting || len(n.dirty) == 0 {
		return
	}
	var ch change
	for key := range n.dirty {
		if key.Resource != messages.Pods {
			n.note(n.want.object(key, n.cfg.Reader.Get, &ch))
			continue
		}
		pod, ok := objects.Get[*corev1.Pod](n.cfg.Reader, key)
		if ok && pod.Spec.NodeName != n.name {
			pod = nil
		}
		if !n.holds(key, pod) {
			n.note(n.want.pod(key, n.shown(key, pod), n.cfg.Reader.Get, &ch))
		}
	}
	clear(n.dirty)
	n.follow(c, ch)
	if !ch.empty() {
		n.send(c, ch, false)
	}
}

// send sends a change, or the whole set, and waits for the acknowledgement.
func (n *node) send(c actor.Context, ch change, whole bool) {
	deltas := pack(ch, whole, n.seq+1, n.want.digest, maxDelta)
	for _, d := range deltas {
		n.say(&nodepb.Down{Body: &nodepb.Down_Delta{Delta: d}})
	}
	n.seq, n.awaiting = deltas[len(deltas)-1].Seq, true
	n.ackTimer.Stop()
	n.ackTimer = stage.After(c, n.patience, ackDue{n.seq})
}

func (n *node) acked(c actor.Context, a *nodepb.DeltaAck) {
	if a.GetSession() != n.session || a.GetSeq() != n.seq || !n.awaiting {
		return
	}
	if a.GetDigest() != n.want.digest {
		n.sendAll(c, "wrong digest acknowledged")
		return
	}
	n.awaiting, n.patience = false, ackPatience
	n.ackTimer.Stop()
	n.flush(c)
}

func (n *node) ackMissing(c actor.Context, m ackDue) {
	if !n.awaiting || m.seq != n.seq || !n.live() {
		return
	}
	n.patience = min(2*n.patience, maxAckPatience)
	n.sendAll(c, "not acknowledged")
}

func (n *node) resync(c actor.Context, r *nodepb.Resync) {
	if r.GetSession() == n.session && n.live() {
		n.sendAll(c, r.GetReason())
	}
}

func (n *node) sendAll(c actor.Context, why string) {
	n.log.Debug("whole set sent", "reason", why)
	n.send(c, n.rebuild(c), true)
}

// heartbeat compares what the node says it has with what it acknowledged.
func (n *node) heartbeat(c actor.Context, hb *nodepb.Heartbeat) {
	if n.live() && !n.awaiting && hb.GetSession() == n.session && hb.GetSeq() == n.seq && hb.GetDigest() != n.want.digest {
		n.sendAll(c, "wrong digest in heartbeat")
	}
}

// say sends to the node in its session; what is lost is repaired by acknowledgements.
func (n *node) say(m *nodepb.Down) {
	m.Epoch, m.Cluster, m.Session = n.cfg.Epoch, n.cfg.Cluster.GetId(), n.session
	if err := publish(n.cfg.Conn, n.cfg.Region, n.name, m); err != nil {
		n.log.Warn("message to node lost", "err", err)
	}
}

// work runs fn off the actor, within the limits that all nodes share.
func work[T any](c actor.Context, n *node, fn func(context.Context) (T, error), done func(T, error)) {
	stage.Go(c, n.slots, 30*time.Second, fn, done)
}
