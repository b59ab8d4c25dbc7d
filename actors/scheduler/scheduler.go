package scheduler

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/messages"
)

// batch is how many pods one pass places before the actor looks at its mailbox again.
const batch = 256

// schedulerActor owns the queue of pods without a node and the picture of what nodes have promised.
//
// Accepts: changed from the feed; passDue, retryDue and bound from itself.
// Sends:   passDue, retryDue to itself; binds through the writer.
// Restart: queue and picture are built again from the feed; a pod bound meanwhile is seen as bound,
// and a second bind of a pod is refused by the API.
// Mailbox: bounded by pods and nodes (changed coalesces by key).
type schedulerActor struct {
	deps    controller.Deps
	rnd     *rand.Rand
	cluster *cluster
	queue   *queue
	uids    map[messages.Key]types.UID // of the pods seen under a name, to notice a replacement
	binds   stage.Semaphore
	start   int // where the next search begins
	due     bool
	timer   *stage.Timer
	stop    func()
}

type (
	// changed carries the newest version of a pod, node or namespace; nil when it is gone.
	changed struct {
		key messages.Key
		new objects.Object
	}
	passDue  struct{}
	retryDue struct{}
)

func (c changed) CoalesceKey() any { return c.key }

// Props returns the scheduler. It must run once per cluster. rnd breaks ties among equal nodes.
func Props(deps controller.Deps, rnd *rand.Rand) *actor.Props {
	deps.Log = deps.Log.With("actor", "scheduler")
	return stage.Props(func() actor.Actor {
		return &schedulerActor{deps: deps, rnd: rnd, cluster: newCluster(), queue: newQueue(), uids: make(map[messages.Key]types.UID),
			binds: stage.NewSemaphore(64), stop: func() {}}
	})
}

func (s *schedulerActor) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		s.follow(c)
	case *actor.Stopping, *actor.Restarting:
		s.stop()
	case changed:
		s.change(c, m)
	case passDue:
		s.pass(c)
	case retryDue:
		s.timer = nil
		s.wantPass(c)
	}
}

func (s *schedulerActor) follow(c actor.Context) {
	self, root := c.Self(), c.ActorSystem().Root
	s.stop = s.deps.Feed.Follow([]messages.Resource{messages.Namespaces, messages.Nodes, messages.Pods}, func(ch objects.Change) {
		root.Send(self, changed{ch.Key, ch.New})
	})
}

func (s *schedulerActor) change(c actor.Context, m changed) {
	now := s.deps.Clock.Now()
	if m.key.Resource == messages.Nodes {
		node, _ := m.new.(*corev1.Node)
		helps := node != nil && nodeHelps(s.cluster.info(m.key.Name).node, node)
		s.cluster.setNode(m.key.Name, node)
		if helps {
			s.queue.wakeAll(now)
		}
		s.wantPass(c)
		return
	}
	if m.key.Resource == messages.Namespaces {
		s.setNamespace(m.key.Name, m.new, now)
		s.wantPass(c)
		return
	}
	pod, _ := m.new.(*corev1.Pod)
	if uid, ok := s.uids[m.key]; ok && (pod == nil || pod.UID != uid) {
		delete(s.uids, m.key)
		s.leave(uid, now)
	}
	if pod != nil {
		s.uids[m.key] = pod.UID
		s.takePod(pod, now)
	}
	s.wantPass(c)
}

// setNamespace takes the labels of a namespace; affinity terms may select by them.
func (s *schedulerActor) setNamespace(name string, ns objects.Object, now time.Time) {
	if ns == nil {
		delete(s.cluster.namespaces, name)
		return
	}
	had, known := s.cluster.namespaces[name]
	s.cluster.namespaces[name] = ns.GetLabels()
	if known && !sameLabels(had, ns.GetLabels()) {
		s.queue.wakeAll(now)
	}
}

// nodeHelps says whether a node's change may let a stuck pod fit; heartbeats do not.
func nodeHelps(o, node *corev1.Node) bool {
	return o == nil || o.Generation != node.Generation ||
		o.Spec.Unschedulable != node.Spec.Unschedulable || len(o.Spec.Taints) != len(node.Spec.Taints) ||
		!sameLabels(o.Labels, node.Labels) || !sameAmounts(o.Status.Allocatable, node.Status.Allocatable)
}

func sameLabels(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

func sameAmounts(a, b corev1.ResourceList) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v.Cmp(w) != 0 {
			return false
		}
	}
	return true
}

func (s *schedulerActor) takePod(pod *corev1.Pod, now time.Time) {
	switch {
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		s.leave(pod.UID, now)
	case pod.Spec.NodeName != "":
		s.queue.remove(pod.UID)
		delete(s.cluster.nominated, pod.UID)
		s.cluster.put(pod.Spec.NodeName, newPodInfo(pod))
	case pod.Spec.SchedulerName != corev1.DefaultSchedulerName || pod.DeletionTimestamp != nil || len(pod.Spec.SchedulingGates) > 0:
		s.queue.remove(pod.UID)
		delete(s.cluster.nominated, pod.UID)
	default:
		if w := s.queue.pods[pod.UID]; w == nil || !w.binding {
			p := newPodInfo(pod)
			s.queue.add(p, now)
			if told := s.queue.pods[pod.UID].told.nominated; pod.Status.NominatedNodeName != "" || told == "" { // else our own word is under way
				s.nominate(p, pod.Status.NominatedNodeName)
			}
		}
	}
}

// nominate remembers the node a pod was promised, "" for none.
func (s *schedulerActor) nominate(p *podInfo, node string) {
	if node == "" {
		delete(s.cluster.nominated, p.pod.UID)
		return
	}
	s.cluster.nominated[p.pod.UID] = nomination{p, node}
}

// leave forgets a pod that is over; the room it frees may help others.
func (s *schedulerActor) leave(uid types.UID, now time.Time) {
	s.queue.remove(uid)
	_, promised := s.cluster.nominated[uid]
	delete(s.cluster.nominated, uid)
	if s.cluster.remove(uid) || promised {
		s.queue.wakeAll(now)
	}
}

// wantPass asks for a pass after the messages queued by now: a burst becomes one batch.
func (s *schedulerActor) wantPass(c actor.Context) {
	if !s.due {
		s.due = true
		c.Send(c.Self(), passDue{})
	}
}

func (s *schedulerActor) pass(c actor.Context) {
	s.due = false
	now := s.deps.Clock.Now()
	next := s.queue.due(now)
	for range batch {
		w := s.queue.pop()
		if w == nil {
			s.sleep(c, next)
			return
		}
		s.schedule(c, w, now)
	}
	s.wantPass(c)
}

func (s *schedulerActor) sleep(c actor.Context, d time.Duration) {
	s.timer.Stop()
	s.timer = nil
	if next := s.queue.due(s.deps.Clock.Now()); next > 0 && (d == 0 || next < d) {
		d = next
	}
	if d > 0 {
		s.timer = stage.After(c, d, retryDue{})
	}
}

func (s *schedulerActor) schedule(c actor.Context, w *waiting, now time.Time) {
	node, bad := place(w.podInfo, s.cluster, s.start, s.rnd)
	s.start++
	if bad != nil {
		s.queue.retry(w, true, now)
		s.report(c, w, bad.String()+s.makeRoom(c, w, bad))
		return
	}
	delete(s.cluster.nominated, w.pod.UID)
	s.cluster.put(node, w.podInfo)
	w.binding = true
	s.bind(c, w, node)
}

func (s *schedulerActor) bind(c actor.Context, w *waiting, node string) {
	pod := w.pod
	stage.Go(c, s.binds, 30*time.Second, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.deps.Writer.Bind(ctx, pod.Namespace, pod.Name, string(pod.UID), node)
	}, func(_ struct{}, err error) {
		if err == nil {
			s.deps.Recorder.Event(pod, corev1.EventTypeNormal, "Scheduled",
				fmt.Sprintf("Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, node))
			return
		}
		s.unbound(c, w, node, err)
	})
}

// unbound takes back a placement whose write failed. The pod may be bound or gone by now; the feed
// says so then, and nothing is left in the queue to try again.
func (s *schedulerActor) unbound(c actor.Context, w *waiting, node string, err error) {
	if current := s.queue.pods[w.pod.UID]; current != w {
		return
	}
	now := s.deps.Clock.Now()
	s.cluster.remove(w.pod.UID)
	if apierrors.IsNotFound(err) {
		s.queue.remove(w.pod.UID)
		return
	}
	s.deps.Log.Warn("bind will be retried", "key", w.pod.Namespace+"/"+w.pod.Name, "node", node, "err", err)
	s.queue.retry(w, false, now)
	s.queue.wakeAll(now)
	s.wantPass(c)
}
