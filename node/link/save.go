package link

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/proto/nodepb"
)

// saveRest is the pause after a checkpoint was written: of a burst of changes the first is on disk
// at once, the others together. A checkpoint is the whole set, and costs two fsyncs.
const saveRest = time.Second

// saves tracks the writing of checkpoints: one at a time, off the actor, the newest state wins.
type saves struct {
	running bool
	resting bool // saveDue will come
	dirty   bool // changed since the last write began
	failed  bool // the last write failed; the next heartbeat tries again
}

// saveDue ends the pause between two checkpoints.
type saveDue struct{}

// loadCheckpoint delivers what the node had when it last ran. A checkpoint that cannot be read is
// no reason not to run: the control plane has the truth.
func (l *link) loadCheckpoint() {
	if l.disk == nil {
		return
	}
	cp, err := l.disk.load()
	if err != nil {
		l.log.Error("checkpoint not used", "err", err)
		return
	}
	if cp == nil {
		return
	}
	l.mem.epoch, l.mem.stored, l.mem.cluster = cp.GetEpoch(), cp.GetNode(), cp.GetCluster()
	if len(cp.GetNode()) > 0 {
		node := new(corev1.Node)
		if err := node.Unmarshal(cp.GetNode()); err != nil {
			l.log.Error("node in checkpoint not used", "err", err)
		} else {
			l.deliver(Registered{Node: node, Cluster: clusterOf(cp.GetCluster())})
		}
	}
	out, errs := l.set.apply(change{put: cp.GetEntries(), whole: true})
	for _, err := range errs {
		l.log.Error("wanted object dropped", "err", err)
	}
	for _, m := range out {
		l.deliver(m)
	}
	l.deliver(Synced{Confirmed: false})
}

// save writes the checkpoint soon, off the actor.
func (l *link) save(c actor.Context) {
	if l.disk == nil {
		return
	}
	if l.disks.running || l.disks.resting {
		l.disks.dirty = true
		return
	}
	number, cp := l.snapshot()
	l.disks.running, l.disks.dirty = true, false
	stage.Go(c, nil, 0, func(context.Context) (struct{}, error) {
		return struct{}{}, l.disk.save(number, cp)
	}, func(_ struct{}, err error) {
		l.disks.running = false
		if err != nil && !l.disks.failed {
			l.log.Error("checkpoint not written", "err", err)
		}
		l.disks.failed = err != nil
		l.disks.resting = true
		stage.After(c, saveRest, saveDue{})
	})
}

func (l *link) rested(c actor.Context) {
	l.disks.resting = false
	if l.disks.dirty {
		l.save(c)
	}
}

// saveLast writes what a running or failed write has not covered, when the link stops. It blocks
// for one write: after a planned stop the checkpoint must be the newest.
func (l *link) saveLast() {
	if l.disk == nil || !(l.disks.running || l.disks.dirty || l.disks.failed) {
		return
	}
	if err := l.disk.save(l.snapshot()); err != nil {
		l.log.Error("checkpoint not written", "err", err)
	}
}

func (l *link) snapshot() (uint64, *nodepb.Checkpoint) {
	l.mem.saves++
	return l.mem.saves, &nodepb.Checkpoint{
		Epoch: l.mem.epoch, Entries: l.set.everything(l.mem.encoded), Node: l.mem.stored, Cluster: l.mem.cluster,
	}
}
