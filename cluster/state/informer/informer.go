package informer

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"

	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// Informer is a cache.SharedIndexInformer on one resource of a store.
type Informer struct {
	view
	name string

	mu       sync.Mutex
	handlers []*registration // those that wait for Run
	run      context.Context // nil before Run
	stopped  bool
	running  sync.WaitGroup
}

// New returns an informer on a resource.
func New(store *state.Store, res messages.Resource) *Informer {
	return &Informer{name: res.String(), view: view{store: store, res: res, indexers: cache.Indexers{}}}
}

// RunWithContext feeds the handlers until ctx ends, and returns when none is called any more.
func (i *Informer) RunWithContext(ctx context.Context) {
	i.mu.Lock()
	if i.run != nil || i.stopped {
		i.mu.Unlock()
		return
	}
	i.run = ctx
	for _, h := range i.handlers {
		i.startLocked(h)
	}
	i.handlers = nil
	i.mu.Unlock()
	<-ctx.Done()
	i.mu.Lock()
	i.stopped = true
	i.mu.Unlock()
	i.running.Wait()
}

// Run is RunWithContext for callers with a channel.
func (i *Informer) Run(stop <-chan struct{}) { i.RunWithContext(wait.ContextForChannel(stop)) }

// AddEventHandler registers a handler.
func (i *Informer) AddEventHandler(h cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	return i.add(h, 0)
}

// AddEventHandlerWithResyncPeriod registers a handler that hears of every object again after each
// period, as those need who look at something else besides; no change is ever missed.
func (i *Informer) AddEventHandlerWithResyncPeriod(h cache.ResourceEventHandler, period time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	return i.add(h, period)
}

// AddEventHandlerWithOptions is AddEventHandlerWithResyncPeriod where the period is an option.
func (i *Informer) AddEventHandlerWithOptions(h cache.ResourceEventHandler, opts cache.HandlerOptions) (cache.ResourceEventHandlerRegistration, error) {
	if opts.ResyncPeriod == nil {
		return i.add(h, 0)
	}
	return i.add(h, *opts.ResyncPeriod)
}

func (i *Informer) add(h cache.ResourceEventHandler, resync time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.stopped {
		return nil, errors.New("informer of " + i.name + " has ended")
	}
	r := newRegistration(i.name, h, resync)
	if i.run == nil {
		i.handlers = append(i.handlers, r)
	} else {
		i.startLocked(r)
	}
	return r, nil
}

func (i *Informer) startLocked(r *registration) {
	ctx := i.run
	i.running.Go(func() { r.serve(ctx, i.store, i.res) })
}

// RemoveEventHandler ends the calls of a handler.
func (i *Informer) RemoveEventHandler(handle cache.ResourceEventHandlerRegistration) error {
	r, ok := handle.(*registration)
	if !ok {
		return errors.New("the handler was registered elsewhere")
	}
	r.remove()
	return nil
}

// GetStore and GetIndexer return a view of the store, which cannot be written to.
func (i *Informer) GetStore() cache.Store { return &i.view }

// GetIndexer returns the view of the store, which has no indexes to add to.
func (i *Informer) GetIndexer() cache.Indexer { return &i.view }

// GetController exists for the interface only.
func (i *Informer) GetController() cache.Controller { return i }

// HasSynced is always true.
func (i *Informer) HasSynced() bool { return true }

// HasSyncedChecker is always done.
func (i *Informer) HasSyncedChecker() cache.DoneChecker { return done{i.name} }

// LastSyncResourceVersion is the store's newest revision.
func (i *Informer) LastSyncResourceVersion() string { return i.LastStoreSyncResourceVersion() }

// SetWatchErrorHandler does nothing: there is no watch that could fail.
func (i *Informer) SetWatchErrorHandler(cache.WatchErrorHandler) error { return nil }

// SetWatchErrorHandlerWithContext does nothing: there is no watch that could fail.
func (i *Informer) SetWatchErrorHandlerWithContext(cache.WatchErrorHandlerWithContext) error {
	return nil
}

// SetTransform refuses: the objects are the store's.
func (i *Informer) SetTransform(cache.TransformFunc) error {
	return errors.New("objects of the replica cannot be transformed")
}

// IsStopped says whether the informer has ended.
func (i *Informer) IsStopped() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.stopped
}

// done is a cache.DoneChecker that never waits.
type done struct{ name string }

var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func (d done) Name() string          { return d.name }
func (d done) Done() <-chan struct{} { return closed }

var _ cache.SharedIndexInformer = (*Informer)(nil)
