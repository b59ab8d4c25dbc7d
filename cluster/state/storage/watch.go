package storage

import (
	"context"
	"errors"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	utilflowcontrol "k8s.io/apiserver/pkg/util/flowcontrol"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

const (
	// resultBuffer is the number of events a watch holds ready for its client.
	resultBuffer = 32
	// pollSize is the number of events taken from the store at once.
	pollSize = 64
	// lastBookmark is how long before a watch's deadline it sends its last bookmark, from which
	// the client goes on.
	lastBookmark = 2 * time.Second
)

// watcher is one watch: a goroutine that reads the store's events and filters them.
type watcher struct {
	storage   *Storage
	path      string
	recursive bool
	namespace string // the only one when path is "<namespace>/"
	pred      storage.SelectionPredicate
	from      uint64
	initial   bool // begin with what exists
	endMark   bool // then send the bookmark that says so
	bookmarks bool
	result    chan watch.Event
	ctx       context.Context
	cancel    context.CancelFunc
}

// Watch implements storage.Interface.
func (s *Storage) Watch(ctx context.Context, key string, opts storage.ListOptions) (watch.Interface, error) {
	_, path, err := s.path(key, opts.Recursive)
	if err != nil {
		return nil, err
	}
	rev, err := s.versioner.ParseResourceVersion(opts.ResourceVersion)
	if err != nil {
		return nil, err
	}
	if opts.ResourceVersion == "" {
		if err := s.fresh(ctx, key, ""); err != nil {
			return nil, err
		}
	}
	w := &watcher{
		storage: s, path: path, recursive: opts.Recursive, pred: opts.Predicate, from: rev,
		bookmarks: opts.Predicate.AllowWatchBookmarks || opts.ProgressNotify,
		result:    make(chan watch.Event, resultBuffer),
	}
	if ns, ok := strings.CutSuffix(path, "/"); ok && opts.Recursive && !strings.Contains(ns, "/") {
		w.namespace = ns
	}
	asked := utilfeature.DefaultFeatureGate.Enabled(features.WatchList) && opts.SendInitialEvents != nil
	switch {
	case asked && *opts.SendInitialEvents:
		w.initial, w.endMark = true, opts.Predicate.AllowWatchBookmarks
	case asked && rev == 0:
		w.from = s.cfg.Store.Revision()
	case opts.SendInitialEvents == nil && rev == 0:
		w.initial = true
	case rev == 0:
		w.from = s.cfg.Store.Revision()
	}
	w.ctx, w.cancel = context.WithCancel(ctx)
	go w.run()
	return w, nil
}

// Stop implements watch.Interface. Events that are ready can still be read.
func (w *watcher) Stop() { w.cancel() }

// ResultChan implements watch.Interface.
func (w *watcher) ResultChan() <-chan watch.Event { return w.result }

func (w *watcher) run() {
	defer close(w.result)
	defer w.cancel()
	if err := w.follow(); err != nil && w.ctx.Err() == nil {
		w.send(watch.Event{Type: watch.Error, Object: statusOf(err)})
	}
}

func (w *watcher) follow() error {
	if w.ctx.Err() != nil {
		return nil
	}
	if w.initial {
		if err := w.sendInitial(); err != nil {
			return err
		}
	}
	utilflowcontrol.WatchInitialized(w.ctx)
	s := w.storage
	cursor, err := s.cfg.Store.Watch(s.cfg.Resource, w.from)
	if err != nil {
		return err
	}
	bookmark := newBookmarkTimer(w)
	defer bookmark.stop()
	var buf []state.Event
	for {
		events, rev, wake, err := cursor.Poll(buf[:0], pollSize)
		if err != nil {
			return err
		}
		buf = events
		for i := range events {
			if on, err := w.dispatch(&events[i]); err != nil || !on {
				return err
			}
		}
		if len(events) > 0 {
			clear(buf) // the buffer must not keep old objects alive
			continue
		}
		select {
		case <-wake:
		case <-bookmark.due():
			if !w.sendBookmark(rev, false) {
				return nil
			}
			bookmark.reset()
		case <-w.ctx.Done():
			return nil
		}
	}
}

// sendInitial sends what exists as added and moves the start of the watch to that revision.
func (w *watcher) sendInitial() error {
	s := w.storage
	if have := s.cfg.Store.Revision(); w.from > have {
		return storage.NewTooLargeResourceVersionError(w.from, have, 1)
	}
	items, rev, err := s.cfg.Store.ListAt(s.cfg.Resource, w.path, "", 0)
	if err != nil {
		return err
	}
	if !w.recursive {
		items = exactly(items, w.path)
	}
	w.from = rev
	for _, i := range items {
		obj, err := s.served(i.Object)
		if err != nil {
			return err
		}
		if w.matches(obj) && !w.send(watch.Event{Type: watch.Added, Object: state.ShallowCopy(obj)}) {
			return nil
		}
	}
	if w.endMark {
		w.sendBookmark(rev, true)
	}
	return nil
}

// dispatch sends what an event is to this watch: an object that begins to match is added, one
// that ceases to is deleted. It returns false when the watch has ended.
func (w *watcher) dispatch(e *state.Event) (bool, error) {
	if !w.selects(e.Key) {
		return true, nil
	}
	before, now, last, err := w.served(e)
	if err != nil {
		return false, err
	}
	was := before != nil && w.matches(before)
	is := now != nil && w.matches(now)
	switch {
	case is && was:
		return w.send(watch.Event{Type: watch.Modified, Object: state.ShallowCopy(now)}), nil
	case is:
		return w.send(watch.Event{Type: watch.Added, Object: state.ShallowCopy(now)}), nil
	case was && now == nil:
		return w.send(watch.Event{Type: watch.Deleted, Object: state.ShallowCopy(last)}), nil
	case was:
		return w.send(watch.Event{Type: watch.Deleted, Object: state.WithRevision(before, e.Rev)}), nil
	}
	return true, nil
}

// served returns the objects of an event as they are given out.
func (w *watcher) served(e *state.Event) (before, now, last objects.Object, err error) {
	if before, err = w.storage.served(e.Old); err != nil {
		return nil, nil, nil, err
	}
	if now, err = w.storage.served(e.New); err != nil {
		return nil, nil, nil, err
	}
	last, err = w.storage.served(e.Last)
	return before, now, last, err
}

func (w *watcher) selects(key messages.Key) bool {
	switch {
	case w.path == "":
		return true
	case w.namespace != "":
		return key.Namespace == w.namespace
	case w.recursive:
		return strings.HasPrefix(state.PathOf(key), w.path)
	}
	return state.PathOf(key) == w.path
}

func (w *watcher) matches(obj objects.Object) bool {
	ok, err := w.pred.Matches(obj)
	return err == nil && ok
}

func (w *watcher) send(e watch.Event) bool {
	select {
	case w.result <- e:
		return true
	case <-w.ctx.Done():
		return false
	}
}

func (w *watcher) sendBookmark(rev uint64, endOfInitial bool) bool {
	obj := w.storage.cfg.New()
	if err := w.storage.versioner.UpdateObject(obj, rev); err != nil {
		return true
	}
	if endOfInitial {
		if err := storage.AnnotateInitialEventsEndBookmark(obj); err != nil {
			return true
		}
	}
	return w.send(watch.Event{Type: watch.Bookmark, Object: obj})
}

func statusOf(err error) runtime.Object {
	if errors.Is(err, messages.ErrGone) {
		err = apierrors.NewResourceExpired("The resourceVersion for the provided watch is too old.")
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		status = apierrors.NewInternalError(err)
	}
	s := status.Status()
	return &s
}

var _ watch.Interface = (*watcher)(nil)
