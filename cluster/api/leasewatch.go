package api

import (
	"context"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/watch"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// leaseWatch adds what happens to Leases of nodes to a watch of stored ones: they come and go with
// their Nodes, and are renewed.
type leaseWatch struct {
	leases *nodeLeases
	inner  watch.Interface
	pred   apistorage.SelectionPredicate
	node   string // the only one; empty means all
	// rev is the revision the client has seen, of whatever comes from the store: one that is told
	// nothing but renewals goes on from there, and hears some things twice rather than never.
	rev    string
	told   map[string]time.Time // by node, the renewal the client knows
	result chan watch.Event
	ctx    context.Context
	cancel context.CancelFunc
}

// Watch implements storage.Interface.
func (l *nodeLeases) Watch(ctx context.Context, key string, opts apistorage.ListOptions) (watch.Interface, error) {
	node, ok := l.selected(key, opts.Recursive)
	rev := l.store.Revision() // before the inner watch begins
	inner, err := l.Interface.Watch(ctx, key, opts)
	if err != nil || !ok {
		return inner, err
	}
	w := &leaseWatch{leases: l, inner: inner, pred: opts.Predicate, node: node, rev: strconv.FormatUint(rev, 10),
		told: make(map[string]time.Time), result: make(chan watch.Event)}
	initial := opts.ResourceVersion == "" || opts.ResourceVersion == "0"
	if opts.SendInitialEvents != nil {
		initial = *opts.SendInitialEvents
	}
	from := rev
	if asked, err := strconv.ParseUint(opts.ResourceVersion, 10, 64); err == nil && asked > 0 && !initial {
		from, w.rev = asked, opts.ResourceVersion
	}
	nodes, err := l.store.Watch(messages.Nodes, from)
	if err != nil {
		inner.Stop()
		return nil, forgotten()
	}
	w.ctx, w.cancel = context.WithCancel(ctx)
	go w.run(initial, nodes)
	return w, nil
}

// forgotten says that nobody remembers what became of the nodes meanwhile: clients list again.
func forgotten() *apierrors.StatusError {
	return apierrors.NewResourceExpired("The resourceVersion for the provided watch is too old.")
}

// Stop implements watch.Interface.
func (w *leaseWatch) Stop() { w.cancel() }

// ResultChan implements watch.Interface.
func (w *leaseWatch) ResultChan() <-chan watch.Event { return w.result }

func (w *leaseWatch) run(initial bool, nodes *state.Cursor) {
	defer close(w.result)
	defer w.inner.Stop()
	defer w.cancel()
	if initial && !w.renewals(watch.Added) {
		return
	}
	tick := w.leases.clock.NewTicker(leaseRefresh)
	defer tick.Stop()
	for {
		changes, _, wake, err := nodes.Poll(nil, 64)
		if err != nil {
			status := forgotten().Status()
			w.send(watch.Event{Type: watch.Error, Object: &status})
			return
		}
		for i := range changes {
			if !w.nodeChanged(&changes[i]) {
				return
			}
		}
		if len(changes) > 0 {
			continue
		}
		select {
		case e, ok := <-w.inner.ResultChan():
			if !ok || !w.relay(e) {
				return
			}
		case <-wake:
		case <-tick.C():
			if !w.renewals(watch.Modified) {
				return
			}
		case <-w.ctx.Done():
			return
		}
	}
}

func (w *leaseWatch) relay(e watch.Event) bool {
	if e.Type != watch.Error {
		if m, err := meta.Accessor(e.Object); err == nil && m.GetResourceVersion() != "" {
			w.rev = m.GetResourceVersion()
		}
	}
	return w.send(e)
}

// renewals tells of every Lease that was renewed since the client heard of it.
func (w *leaseWatch) renewals(how watch.EventType) bool {
	for _, lease := range w.leases.list(w.node, &w.pred, w.rev) {
		at := lease.Spec.RenewTime.Time
		if w.told[lease.Name].Equal(at) {
			continue
		}
		w.told[lease.Name] = at
		if !w.send(watch.Event{Type: how, Object: lease}) {
			return false
		}
	}
	return true
}

// nodeChanged lets a Lease come and go with its Node.
func (w *leaseWatch) nodeChanged(e *state.Event) bool {
	if w.node != "" && e.Key.Name != w.node {
		return true
	}
	switch {
	case e.New == nil:
		node, ok := e.Old.(*corev1.Node)
		if !ok {
			return true
		}
		at := w.told[node.Name]
		delete(w.told, node.Name)
		if w.leases.stored(node.Name) {
			return true
		}
		lease := leaseOf(node, at, w.rev)
		return !matches(&w.pred, lease) || w.send(watch.Event{Type: watch.Deleted, Object: lease})
	case e.Old == nil:
		node, ok := e.New.(*corev1.Node)
		if !ok {
			return true
		}
		lease := w.leases.lease(node, w.rev)
		if lease == nil || !matches(&w.pred, lease) {
			return true // not heard yet: its first renewal will tell
		}
		w.told[node.Name] = lease.Spec.RenewTime.Time
		return w.send(watch.Event{Type: watch.Added, Object: lease})
	}
	return true
}

func (w *leaseWatch) send(e watch.Event) bool {
	select {
	case w.result <- e:
		return true
	case <-w.ctx.Done():
		return false
	}
}

var _ watch.Interface = (*leaseWatch)(nil)
