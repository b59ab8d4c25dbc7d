package informer

import (
	"context"
	"sync"
	"time"

	"k8s.io/client-go/tools/cache"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// registration is one handler with what it has yet to hear. The queue has no bound, as in client-go.
type registration struct {
	name    string
	handler cache.ResourceEventHandler
	resync  time.Duration                   // 0 is never
	known   map[messages.Key]objects.Object // what the handler has heard of last, if it is to hear of it again
	gone    chan struct{}
	remove  func()

	mu     sync.Mutex
	queue  []objects.Change
	first  int // how many of the changes to come existed at the beginning; -1 while that is unknown
	signal chan struct{}
	synced chan struct{} // closed once the handler has heard of all that existed
}

func newRegistration(name string, h cache.ResourceEventHandler, resync time.Duration) *registration {
	r := &registration{name: name, handler: h, resync: resync, first: -1,
		gone: make(chan struct{}), signal: make(chan struct{}, 1), synced: make(chan struct{})}
	r.remove = sync.OnceFunc(func() { close(r.gone) })
	return r
}

// serve calls the handler until ctx ends or it is removed.
func (r *registration) serve(ctx context.Context, store *state.Store, res messages.Resource) {
	seen := 0
	stop := store.FollowSynced([]messages.Resource{res}, func(c objects.Change) {
		seen++
		r.offer(func() { r.queue = append(r.queue, c) })
	}, func() {
		n := seen
		r.offer(func() { r.first = n })
	})
	defer stop()
	var again <-chan time.Time
	if r.resync > 0 {
		r.known = make(map[messages.Key]objects.Object)
		ticker := time.NewTicker(r.resync)
		defer ticker.Stop()
		again = ticker.C
	}
	heard := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.gone:
			return
		case <-again:
			for _, obj := range r.known { // and not what the store has by now: that is still to be heard
				r.handler.OnUpdate(obj, obj)
			}
			continue
		case <-r.signal:
		}
		r.mu.Lock()
		queue, first := r.queue, r.first
		r.queue = nil
		r.mu.Unlock()
		for _, c := range queue {
			if ctx.Err() != nil {
				return
			}
			select {
			case <-r.gone:
				return
			default:
			}
			r.call(c, first < 0 || heard < first)
			heard++
		}
		if first >= 0 && heard >= first && !r.HasSynced() {
			close(r.synced)
		}
	}
}

func (r *registration) offer(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	select {
	case r.signal <- struct{}{}:
	default:
	}
}

func (r *registration) call(c objects.Change, initial bool) {
	switch {
	case r.known == nil:
	case c.New == nil:
		delete(r.known, c.Key)
	default:
		r.known[c.Key] = c.New
	}
	switch {
	case c.New == nil:
		r.handler.OnDelete(c.Old)
	case c.Old == nil:
		r.handler.OnAdd(c.New, initial)
	default:
		r.handler.OnUpdate(c.Old, c.New)
	}
}

// HasSynced says whether the handler has heard of all that existed when it began.
func (r *registration) HasSynced() bool {
	select {
	case <-r.synced:
		return true
	default:
		return false
	}
}

// HasSyncedChecker is done when HasSynced is true.
func (r *registration) HasSyncedChecker() cache.DoneChecker { return r }

// Name and Done make the registration its own cache.DoneChecker.
func (r *registration) Name() string          { return r.name }
func (r *registration) Done() <-chan struct{} { return r.synced }

var _ cache.ResourceEventHandlerRegistration = (*registration)(nil)
