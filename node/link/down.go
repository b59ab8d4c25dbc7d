package link

import (
	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/proto/nodepb"
)

// verdict is what a node does with a message, by the epochs and sessions of both.
type verdict int

const (
	obey   verdict = iota
	refuse         // from a control plane that has been deposed
	meet           // from a session this node has not been welcomed by
)

// judge decides about a message of the control plane.
func judge(m *nodepb.Down, epoch, session uint64, welcome bool) verdict {
	if m.GetEpoch() < epoch {
		return refuse
	}
	switch m.GetBody().(type) {
	case *nodepb.Down_Announce:
		return meet
	case *nodepb.Down_Delta:
		if m.GetSession() != session || !welcome {
			return meet
		}
	}
	return obey
}

func (l *link) arrived(c actor.Context, data []byte) {
	m := new(nodepb.Down)
	if err := proto.Unmarshal(data, m); err != nil {
		l.log.Warn("unreadable message dropped", "err", err)
		return
	}
	if m.GetCluster() != l.mem.cluster.GetId() {
		l.moved(m.GetCluster())
	}
	v := judge(m, l.mem.epoch, l.session, l.welcome)
	if v == refuse {
		l.log.Warn("message of a deposed control plane refused", "epoch", m.GetEpoch(), "seen", l.mem.epoch)
		return
	}
	if m.GetEpoch() > l.mem.epoch {
		l.mem.epoch = m.GetEpoch()
		l.save(c)
	}
	if v == meet {
		l.meet(c, m)
		return
	}
	switch b := m.GetBody().(type) {
	case *nodepb.Down_Welcome:
		l.welcomed(c, m.GetSession(), b.Welcome)
	case *nodepb.Down_Delta:
		l.changed(c, b.Delta)
	case *nodepb.Down_Probe:
		l.heartbeat()
	case *nodepb.Down_Acks:
		l.confirmed(b.Acks.GetAcks())
	case *nodepb.Down_Token:
		l.tokens.answered(b.Token)
	}
}

// moved takes in that the control plane is that of another cluster than the one this node knew, set
// up anew in its place. Epochs of the two cannot be compared. What the old one wanted goes when the
// new one sends its whole set, as it does to a node with a wrong digest.
func (l *link) moved(id string) {
	if old := l.mem.cluster.GetId(); old != "" {
		l.log.Warn("node belongs to another cluster now", "cluster", id, "before", old)
	}
	cluster := &nodepb.Cluster{}
	if l.mem.cluster != nil {
		cluster = proto.CloneOf(l.mem.cluster)
	}
	cluster.Id = id
	l.mem.cluster, l.mem.epoch = cluster, 0
}

// meet greets a session, unless a greeting is under way: its timer repeats it anyway.
func (l *link) meet(c actor.Context, m *nodepb.Down) {
	if l.welcome || m.GetAnnounce() != nil && l.helloGap == maxHello {
		l.helloGap = minHello
		l.greet(c)
	}
}

func (l *link) welcomed(c actor.Context, session uint64, w *nodepb.Welcome) {
	if w.GetIncarnation() != l.incarnation {
		return // for another process of this node: one of the two is about to end
	}
	if w.GetError() != "" {
		l.log.Warn("node refused", "err", w.GetError())
		return // helloDue tries again
	}
	node := new(corev1.Node)
	if err := node.Unmarshal(w.GetNode()); err != nil {
		l.log.Error("unreadable welcome", "err", err)
		return
	}
	l.hello.Stop()
	l.helloGap = minHello
	l.session, l.seq, l.welcome, l.synced = session, 0, true, false
	l.asked, l.staged = false, change{}
	if string(l.mem.stored) != string(w.GetNode()) || !proto.Equal(l.mem.cluster, w.GetCluster()) {
		l.mem.stored, l.mem.cluster = w.GetNode(), w.GetCluster()
		l.save(c)
	}
	l.deliver(Registered{Node: node, Cluster: clusterOf(w.GetCluster())})
	l.mem.reopen()
	l.flush()
	l.tokens.again()
}

// changed applies the next delta. Doubled ones are confirmed again, a gap or a wrong digest asks
// for the whole set.
func (l *link) changed(c actor.Context, d *nodepb.Delta) {
	switch place(l.seq, d.GetSeq(), d.GetReset_()) {
	case doubled:
		l.ack()
		return
	case gap:
		if !l.asked {
			l.resync("gap")
		}
		return
	}
	l.seq = d.GetSeq()
	if d.GetReset_() {
		l.staged, l.asked = change{whole: true}, false
	}
	l.staged.put = append(l.staged.put, d.GetPut()...)
	l.staged.remove = append(l.staged.remove, d.GetRemove()...)
	if d.GetMore() {
		return
	}
	out, errs := l.set.apply(l.staged)
	l.staged = change{}
	for _, err := range errs {
		l.log.Error("wanted object dropped", "err", err)
	}
	if len(out) > 0 {
		l.save(c)
	}
	for _, m := range out {
		l.deliver(m)
	}
	if l.set.sum() != d.GetDigest() {
		if !l.asked {
			l.resync("digest")
		}
		return
	}
	l.ack()
	if !l.synced {
		l.synced = true
		l.deliver(Synced{Confirmed: true})
	}
}

// position is where a delta stands after the last one applied.
type position int

const (
	next position = iota
	doubled
	gap
)

// place says whether a delta can be applied; a whole set can be from any later place.
func place(have, seq uint64, reset bool) position {
	switch {
	case seq <= have:
		return doubled
	case seq == have+1 || reset:
		return next
	}
	return gap
}

func (l *link) ack() {
	l.send("ack", &nodepb.DeltaAck{Session: l.session, Seq: l.seq, Digest: l.set.sum()})
}

func (l *link) confirmed(acks []*nodepb.Ack) {
	for _, a := range acks {
		switch {
		case a.GetUid() == "":
			l.mem.nodeConfirmed = max(l.mem.nodeConfirmed, a.GetVersion())
		case a.GetUnknown():
			l.mem.confirm(types.UID(a.GetUid()), a.GetVersion())
			l.unknownPod(types.UID(a.GetUid()))
		default:
			l.mem.confirm(types.UID(a.GetUid()), a.GetVersion())
		}
	}
}
