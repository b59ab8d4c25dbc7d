package nodes

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/messages"
)

// departure is what the node is told of the end of one pod. A node ends a pod as soon as it hears
// that it is marked for deletion; so it does not hear it while proxies still send connections
// there.
type departure struct {
	uid   types.UID
	since time.Time
	due   time.Time // when the node is told in any case
	told  bool      // nothing is held back, or no longer
	spent int64     // whole seconds of the grace period that have passed until then
}

// drainDue ends the patience with proxies that do not answer.
type drainDue struct{ pod messages.LeavingPod }

// departs takes in that a pod may be marked for deletion, or gone.
func (n *node) departs(c actor.Context, key messages.Key) {
	if n.cfg.Proxies == nil || !n.begun || key.Resource != messages.Pods {
		return
	}
	pod, ok := objects.Get[*corev1.Pod](n.cfg.Reader, key)
	if !ok || pod.DeletionTimestamp == nil || pod.Spec.NodeName != n.name {
		delete(n.departures, key)
		return
	}
	now, patience := n.cfg.Clock.Now(), patienceFor(pod, n.cfg.drain())
	d, leaving := n.departures[key], messages.LeavingPod{Key: key, UID: pod.UID}
	switch {
	case d == nil || d.uid != pod.UID:
		d = &departure{uid: pod.UID, since: now, due: now.Add(patience), told: patience == 0 || terminal(pod.Status.Phase)}
		n.departures[key] = d
		if d.told {
			return
		}
		n.asking = append(n.asking, leaving)
	case d.told || !now.Add(patience).Before(d.due):
		return
	default: // deleted again, with less grace
		d.due = now.Add(patience)
	}
	stage.After(c, patience, drainDue{leaving})
}

// patienceFor is how long a pod waits for proxies: what that takes is part of its grace period, of
// which at least half is the pod's own.
func patienceFor(pod *corev1.Pod, most time.Duration) time.Duration {
	if g := pod.DeletionGracePeriodSeconds; g != nil {
		return min(most, time.Duration(*g)*time.Second/2)
	}
	return most
}

// askProxies asks about the pods that began to depart since the last time.
func (n *node) askProxies(c actor.Context) {
	if len(n.asking) > 0 {
		c.Request(n.cfg.Proxies, messages.AwaitPodsLeft{Pods: n.asking})
		n.asking = nil
	}
}

func (n *node) podsLeft(c actor.Context, m messages.PodsLeft) {
	for _, pod := range m.Pods {
		n.tellEnd(c, pod)
	}
}

func (n *node) drainDue(c actor.Context, m drainDue) {
	d := n.departures[m.pod.Key]
	if d == nil || d.uid != m.pod.UID || d.told || n.cfg.Clock.Now().Before(d.due) {
		return
	}
	n.log.Info("pod ends before all proxies have let it go", "key", m.pod.Key)
	n.tellEnd(c, m.pod)
}

// tellEnd lets the node know that a pod is to end.
func (n *node) tellEnd(c actor.Context, pod messages.LeavingPod) {
	d := n.departures[pod.Key]
	if d == nil || d.uid != pod.UID || d.told {
		return
	}
	d.told, d.spent = true, int64(n.cfg.Clock.Since(d.since)/time.Second)
	n.mark(c, pod.Key)
}

// holds says whether a pod's end is held back from the node.
func (n *node) holds(key messages.Key, pod *corev1.Pod) bool {
	d := n.departures[key]
	return pod != nil && d != nil && d.uid == pod.UID && !d.told
}

// shown is a pod as the node is to see it.
func (n *node) shown(key messages.Key, pod *corev1.Pod) *corev1.Pod {
	d := n.departures[key]
	if pod == nil || d == nil || d.uid != pod.UID || d.told && d.spent == 0 {
		return pod
	}
	out := *pod
	if !d.told {
		out.DeletionTimestamp, out.DeletionGracePeriodSeconds = nil, nil
	} else if g := pod.DeletionGracePeriodSeconds; g != nil && *g > 0 {
		left := max(*g-d.spent, 1)
		out.DeletionGracePeriodSeconds = &left
	}
	return &out
}

// assumeTold takes in a pod that was marked before this actor began to follow it: the node may
// know already, and there is no way back.
func (n *node) assumeTold(key messages.Key, pod *corev1.Pod) {
	if d := n.departures[key]; pod.DeletionTimestamp != nil && n.cfg.Proxies != nil && (d == nil || d.uid != pod.UID) {
		n.departures[key] = &departure{uid: pod.UID, told: true}
	}
}
