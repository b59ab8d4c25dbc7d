package stage

import (
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/extensions"
)

// maxIdleWorkers is how many goroutines wait for something to do.
const maxIdleWorkers = 128

// workers runs functions on goroutines that are used again. Most of what actors do is short and
// deep in calls: on a new goroutine each time, growing and copying its stack would cost a twentieth
// of all processor time under load.
type workers struct {
	mu     sync.Mutex
	idle   []chan func() // the last one was busy last
	closed bool
}

var workersID = extensions.NextExtensionID()

// ExtensionID lets actors find the workers of their system.
func (*workers) ExtensionID() extensions.ExtensionID { return workersID }

// workersOf returns the workers of a system, or nil, which are new goroutines.
func workersOf(sys *actor.ActorSystem) *workers {
	w, _ := sys.Extensions.Get(workersID).(*workers)
	return w
}

// run calls fn on a goroutine of its own.
func (w *workers) run(fn func()) {
	if w == nil {
		go fn()
		return
	}
	w.mu.Lock()
	last := len(w.idle) - 1
	if last < 0 {
		w.mu.Unlock()
		go w.work(fn)
		return
	}
	next := w.idle[last]
	w.idle = w.idle[:last]
	w.mu.Unlock()
	next <- fn
}

func (w *workers) work(fn func()) {
	next := make(chan func(), 1)
	for fn != nil {
		fn()
		fn = nil //nolint:ineffassign // what it holds must not outlive it
		w.mu.Lock()
		if w.closed || len(w.idle) == maxIdleWorkers {
			w.mu.Unlock()
			return
		}
		w.idle = append(w.idle, next)
		w.mu.Unlock()
		fn = <-next
	}
}

// close ends the goroutines that wait, and the others when they are done.
func (w *workers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, next := range w.idle {
		close(next)
	}
	w.idle = nil
}

var _ extensions.Extension = (*workers)(nil)
