package scheduler

import (
	"container/heap"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Back-off of a pod that could not be placed or bound, as kube-scheduler's defaults.
const (
	minPodBackoff = time.Second
	maxPodBackoff = 10 * time.Second
	// hopeless pods are tried again after this long even if nothing seems to have changed.
	maxUnschedulable = 5 * time.Minute
)

// waiting is a pod without a node.
type waiting struct {
	*podInfo
	since    time.Time // order among equal priorities
	attempts int
	ready    time.Time // not before; the back-off
	stuck    bool      // fits nowhere until something changes
	binding  bool      // placed, the write is under way
	told     told      // what the user has been told of it
	index    int       // place in the heap, -1 outside
}

// queue holds the waiting pods: those to try by priority and age, the others until they are due
// or something changes.
type queue struct {
	pods   map[types.UID]*waiting
	active active
}

func newQueue() *queue { return &queue{pods: make(map[types.UID]*waiting)} }

// add takes a pod's newest version; a known one keeps its place, and a changed spec gets a new try.
func (q *queue) add(p *podInfo, now time.Time) {
	w := q.pods[p.pod.UID]
	if w == nil {
		w = &waiting{podInfo: p, since: now, index: -1}
		q.pods[p.pod.UID] = w
		heap.Push(&q.active, w)
		return
	}
	changed := helps(w.podInfo, p)
	w.podInfo = p
	if changed && !w.binding {
		w.stuck = false
		q.wake(w, now)
	}
}

// helps says whether a new version of a waiting pod may fit where the old did not.
func helps(old, new *podInfo) bool { return old.pod.Generation != new.pod.Generation }

func (q *queue) remove(uid types.UID) {
	if w := q.pods[uid]; w != nil {
		if w.index >= 0 {
			heap.Remove(&q.active, w.index)
		}
		delete(q.pods, uid)
	}
}

// pop takes the next pod to try.
func (q *queue) pop() *waiting {
	if q.active.Len() == 0 {
		return nil
	}
	w := heap.Pop(&q.active).(*waiting)
	w.attempts++
	return w
}

// retry puts a pod back after its back-off; stuck says that it waits for a change.
func (q *queue) retry(w *waiting, stuck bool, now time.Time) {
	w.binding, w.stuck = false, stuck
	w.ready = now.Add(min(minPodBackoff<<min(w.attempts-1, 10), maxPodBackoff))
}

// wakeAll gives stuck pods another try because the cluster changed in their favour.
func (q *queue) wakeAll(now time.Time) {
	for _, w := range q.pods {
		if w.stuck {
			w.stuck = false
			q.wake(w, now)
		}
	}
}

// wake moves one pod to the active ones if its back-off is over.
func (q *queue) wake(w *waiting, now time.Time) {
	if w.index < 0 && !w.binding && !w.stuck && !w.ready.After(now) {
		heap.Push(&q.active, w)
	}
}

// due activates what is due now and returns how long until the next is; 0 means nothing waits.
func (q *queue) due(now time.Time) time.Duration {
	var next time.Duration
	for _, w := range q.pods {
		if w.index >= 0 || w.binding {
			continue
		}
		at := w.ready
		if w.stuck {
			at = at.Add(maxUnschedulable)
		}
		if !at.After(now) {
			w.stuck = false
			q.wake(w, now)
			continue
		}
		if d := at.Sub(now); next == 0 || d < next {
			next = d
		}
	}
	return next
}

// active orders pods by priority, then age.
type active []*waiting

func (a active) Len() int { return len(a) }
func (a active) Less(i, j int) bool {
	if a[i].priority != a[j].priority {
		return a[i].priority > a[j].priority
	}
	return a[i].since.Before(a[j].since)
}
func (a active) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].index, a[j].index = i, j
}
func (a *active) Push(x any) {
	w := x.(*waiting)
	w.index = len(*a)
	*a = append(*a, w)
}
func (a *active) Pop() any {
	old := *a
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*a = old[:len(old)-1]
	w.index = -1
	return w
}
