package proxyfeed

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/messages"
)

// traffic knows which pods services send connections to. It belongs to the catalog.
type traffic struct {
	slices map[types.UID]int    // in how many slices a pod is ready and not about to end
	left   map[types.UID]uint64 // when a pod was taken out of the last of them
}

func newTraffic() traffic {
	return traffic{slices: make(map[types.UID]int), left: make(map[types.UID]uint64)}
}

// change takes in that a slice of the revision has pods now instead of those of old.
func (t *traffic) change(old, now []types.UID, rev uint64) {
	for _, uid := range now {
		t.slices[uid]++
		delete(t.left, uid)
	}
	for _, uid := range old {
		if t.slices[uid]--; t.slices[uid] <= 0 {
			delete(t.slices, uid)
			t.left[uid] = rev
		}
	}
}

// forget drops what every proxy has applied.
func (t *traffic) forget(upTo uint64) {
	for uid, rev := range t.left {
		if rev <= upTo {
			delete(t.left, uid)
		}
	}
}

// serving lists the pods in a slice that connections are sent to as a rule. Pods that are about to
// end get some only while a service has no others, and that is better than none.
func serving(s *discoveryv1.EndpointSlice) []types.UID {
	var out []types.UID
	for _, e := range s.Endpoints {
		if e.TargetRef != nil && e.TargetRef.UID != "" && value(e.Conditions.Ready, true) && !value(e.Conditions.Terminating, false) {
			out = append(out, e.TargetRef.UID)
		}
	}
	return out
}

// leaver waits until a pod is in no slice any more.
type leaver struct {
	pod   messages.LeavingPod
	who   *actor.PID
	since time.Time
}

// awaitLeft answers for the pods that get no connections, and remembers who asked for the others.
func (b *broadcaster) awaitLeft(c actor.Context, m messages.AwaitPodsLeft) {
	at := now()
	_, living := b.proxies.lowest(at)
	var out []messages.LeavingPod
	for _, pod := range m.Pods {
		rev, left := b.catalog.traffic.left[pod.UID]
		switch {
		case !living:
			out = append(out, pod)
		case b.catalog.traffic.slices[pod.UID] > 0:
			b.leaving[pod.UID] = leaver{pod, c.Sender(), at}
		case left:
			b.proxies.await(rev, c.Sender(), podLeft(pod), at)
		default:
			out = append(out, pod)
		}
	}
	if len(out) > 0 {
		c.Respond(messages.PodsLeft{Pods: out})
	}
	b.release(c)
}

func podLeft(pod messages.LeavingPod) messages.PodsLeft {
	return messages.PodsLeft{Pods: []messages.LeavingPod{pod}}
}

// leave lets those wait for the proxies whose pods the slices have let go.
func (b *broadcaster) leave(at time.Time) {
	for uid, l := range b.leaving {
		if rev, left := b.catalog.traffic.left[uid]; left {
			b.proxies.await(rev, l.who, podLeft(l.pod), at)
			delete(b.leaving, uid)
		}
	}
}

// tidy forgets pods that all proxies know to be out, and those who have waited in vain.
func (b *broadcaster) tidy(at time.Time) {
	if low, living := b.proxies.lowest(at); living {
		b.catalog.traffic.forget(low)
	} else {
		b.catalog.traffic.forget(b.catalog.seen)
	}
	for uid, l := range b.leaving {
		if at.Sub(l.since) >= patience {
			delete(b.leaving, uid)
		}
	}
}
