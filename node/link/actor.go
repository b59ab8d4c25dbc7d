package link

import (
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/proto/nodepb"
)

// The first Hello is repeated quickly, for both halves may be starting together.
const (
	minHello = 20 * time.Millisecond
	maxHello = time.Second
)

// link owns one node's wanted set, the open reports and the checkpoint.
//
// Accepts: begin; arrived and reconnected from the hub; PodReport, nodeStatus and Event from the node;
// its own heartbeatDue, helloDue, flushDue and saveDue.
// Sends: [Message] values to the node; reports to the control plane.
// Restart: the wanted set and the reports survive; it greets the control plane again, which
// compares digests.
type link struct {
	cfg         Config
	log         *slog.Logger
	hub         *Hub
	set         *wantedSet
	tokens      *tokenDesk
	disk        *checkpointFile // nil keeps nothing
	mem         *memory
	incarnation uint64

	session  uint64
	seq      uint64
	welcome  bool   // the session has welcomed this incarnation
	synced   bool   // Synced{Confirmed: true} has been delivered in this session
	asked    bool   // a resync has been asked for and nothing came yet
	staged   change // the parts of a change that have arrived
	hello    *stage.Timer
	helloGap time.Duration
	flushing bool // flushDue is in the mailbox
	disks    saves
}

type (
	begin        struct{}
	heartbeatDue struct{}
	helloDue     struct{}
	flushDue     struct{}
	nodeStatus   struct{ status corev1.NodeStatus }
	nodeKey      struct{}
)

func (nodeStatus) CoalesceKey() any { return nodeKey{} }

func (l *link) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		if l.mem.begun {
			l.start(c)
		}
	case begin:
		l.mem.begun = true
		l.start(c)
	case arrived:
		l.arrived(c, m.data)
	case reconnected, helloDue:
		l.greet(c)
	case PodReport:
		l.podReported(c, m)
	case nodeStatus:
		l.nodeReported(m)
	case Event:
		l.record(m)
	case flushDue:
		l.flush()
	case heartbeatDue:
		l.beat(c)
	case saveDue:
		l.rested(c)
	case *actor.Stopping:
		l.hub.leave(l.cfg.Node.Name)
		l.saveLast()
	}
}

func (l *link) start(c actor.Context) {
	if !l.mem.loaded {
		l.mem.loaded = true
		l.loadCheckpoint()
	} else {
		l.save(c) // a write may have been due when the actor failed
	}
	if err := l.hub.join(l.cfg.Node.Name, l.cfg.Stage, c.Self()); err != nil {
		l.log.Error("link is deaf", "err", err) // only a connection closed for good does this
	}
	l.helloGap = minHello
	l.greet(c)
	// Nodes that start together must not beat together.
	stage.After(c, rand.N(l.cfg.Interval), heartbeatDue{})
}

// greet says Hello and again, ever slower, until a Welcome comes.
func (l *link) greet(c actor.Context) {
	l.welcome, l.synced = false, false
	l.hello.Stop()
	l.hello = stage.After(c, l.helloGap, helloDue{})
	l.helloGap = min(2*l.helloGap, maxHello)
	node, err := l.mem.node.Marshal()
	if err != nil {
		l.log.Error("node object cannot be encoded", "err", err)
		return
	}
	l.send("hello", &nodepb.Hello{
		Incarnation: l.incarnation, Epoch: l.mem.epoch, Digest: l.set.sum(),
		Node: node, StatusVersion: l.mem.nodeVersion,
	})
}

// beat says that the node lives and repeats whatever was not confirmed.
func (l *link) beat(c actor.Context) {
	stage.After(c, l.cfg.Interval, heartbeatDue{})
	l.heartbeat()
	if l.welcome {
		if l.asked {
			l.resync("nothing came")
		}
		if l.mem.nodeConfirmed < l.mem.nodeVersion {
			l.sendNode()
		}
		if l.mem.tick() {
			l.flush()
		}
	}
	if l.disks.failed {
		l.save(c)
	}
}

func (l *link) heartbeat() {
	l.send("heartbeat", &nodepb.Heartbeat{
		Epoch: l.mem.epoch, Session: l.session, Seq: l.seq, Digest: l.set.sum(), Incarnation: l.incarnation,
	})
}

func (l *link) podReported(c actor.Context, r PodReport) {
	if r.Finished && !l.set.hasPod(r.UID) {
		delete(l.mem.pods, r.UID) // its object is gone: nobody is left to be told
		return
	}
	if !l.mem.note(r) {
		return
	}
	if r.Status.Phase == corev1.PodSucceeded || r.Status.Phase == corev1.PodFailed {
		l.save(c) // a boot from the checkpoint must not run it again
	}
	l.flushSoon(c)
}

// flushSoon sends due reports behind whatever is in the mailbox already, so that the reports of a
// burst share a message.
func (l *link) flushSoon(c actor.Context) {
	if !l.flushing {
		l.flushing = true
		c.Send(c.Self(), flushDue{})
	}
}

func (l *link) flush() {
	l.flushing = false
	if !l.welcome {
		return // the Welcome reopens every report
	}
	batches, err := l.mem.take(l.incarnation)
	if err != nil {
		l.log.Error("pod status cannot be encoded", "err", err)
	}
	for _, b := range batches {
		l.send("podstatus", b)
	}
}

func (l *link) nodeReported(m nodeStatus) {
	if l.mem.noteNode(m.status) && l.welcome {
		l.sendNode()
	}
}

func (l *link) sendNode() {
	status, err := l.mem.node.Status.Marshal()
	if err != nil {
		l.log.Error("node status cannot be encoded", "err", err)
		return
	}
	l.send("nodestatus", &nodepb.NodeReport{Incarnation: l.incarnation, Version: l.mem.nodeVersion, Status: status})
}

func (l *link) record(e Event) {
	m := &nodepb.EventReport{Type: e.Type, Reason: e.Reason, Message: e.Message, FieldPath: e.FieldPath}
	if e.Pod != nil {
		m.Ref = &nodepb.Ref{Kind: nodepb.Kind_KIND_POD, Namespace: e.Pod.Namespace, Name: e.Pod.Name, Uid: string(e.Pod.UID)}
	}
	l.send("event", m)
}

func (l *link) resync(reason string) {
	l.asked = true
	l.send("resync", &nodepb.Resync{Session: l.session, Reason: reason})
}

// send reports to the control plane. What is lost is repeated by the heartbeat that finds it
// unconfirmed, so an error is only worth a debug line.
func (l *link) send(what string, m proto.Message) {
	if err := l.hub.send(l.cfg.Node.Name, what, m); err != nil {
		l.log.Debug("report lost", "what", what, "err", err)
	}
}

// deliver tells the node, with the newest status this node knows of each pod and what others have
// decided.
func (l *link) deliver(m Message) {
	if w, ok := m.(Wanted); ok {
		if st, ok := l.mem.status(w.Pod.UID); ok {
			pod := *w.Pod
			pod.Status = messages.NewestPodStatus(st, w.Pod.Status)
			m = Wanted{Pod: &pod}
		}
	}
	if u, ok := m.(Unwanted); ok {
		delete(l.mem.pods, u.UID)
	}
	l.cfg.Deliver(m)
}

// unknownPod handles that the control plane has no such pod. When the wanted set holds it, its
// removal is on the way; otherwise this node runs what nobody wants.
func (l *link) unknownPod(uid types.UID) {
	if !l.set.hasPod(uid) {
		l.deliver(Unwanted{UID: uid})
	}
}
