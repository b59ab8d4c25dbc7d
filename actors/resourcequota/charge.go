package resourcequota

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	quotaadmission "k8s.io/apiserver/pkg/admission/plugin/resourcequota"
	quota "k8s.io/apiserver/pkg/quota/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// chargeTries is how often a charge is written after somebody else wrote the quota meanwhile.
const chargeTries = 5

// charge is one request that waits for its namespace's quotas.
type charge struct {
	attributes admission.Attributes
	measure    *measure
	key        messages.Key
	object     runtime.Object
	// done, err and quotas are the outcome, under space.mu; quotas are those that were charged.
	done   bool
	err    error
	quotas []messages.Key
}

// Charge adds what a request uses to the quotas of its namespace, or says why there is no room.
// Requests that come together are written together. When the object is stored, or is not going to
// be, the caller says so by settle, which is never nil; until then the object counts as stored.
func (b *Books) Charge(ctx context.Context, w objects.Writer, a admission.Attributes) (settle func(stored bool), err error) {
	res := a.GetResource().GroupResource()
	c := &charge{attributes: a, measure: b.measureOf(res)}
	if !c.measure.Handles(a) {
		return func(bool) {}, nil
	}
	name := a.GetName()
	if m, err := meta.Accessor(a.GetObject()); err == nil && m.GetName() != "" {
		name = m.GetName()
	}
	c.key = messages.KeyOf(messages.Resource{Group: res.Group, Resource: res.Resource}, a.GetNamespace(), name)
	// The object is the request's and may change after this.
	c.object = a.GetObject().DeepCopyObject()

	s := b.enter(a.GetNamespace())
	b.mu.Lock()
	s.waiting = append(s.waiting, c)
	b.mu.Unlock()
	s.mu.Lock()
	if !c.done {
		b.mu.Lock()
		batch := s.waiting
		s.waiting = nil
		b.mu.Unlock()
		b.work(ctx, w, s, batch)
	}
	s.mu.Unlock()
	if len(c.quotas) == 0 {
		b.leave(a.GetNamespace(), s)
		return func(bool) {}, c.err
	}
	return func(stored bool) { b.settle(context.WithoutCancel(ctx), w, s, c, stored) }, c.err
}

// settle forgets a charge, and takes it back if nothing came of it.
func (b *Books) settle(ctx context.Context, w objects.Writer, s *space, c *charge, stored bool) {
	s.mu.Lock()
	delete(s.held, c)
	if !stored {
		for _, key := range c.quotas {
			// The controller counts again later, should this fail.
			_ = b.recalculate(ctx, w, s, key)
		}
	}
	s.mu.Unlock()
	b.leave(c.key.Namespace, s)
}

// work decides about a batch under the space's lock and writes what was admitted.
func (b *Books) work(ctx context.Context, w objects.Writer, s *space, batch []*charge) {
	// The first of the batch writes for all: that its client leaves must not fail the others.
	ctx = context.WithoutCancel(ctx)
	namespace := batch[0].key.Namespace
	open := batch
	var err error
	for range chargeTries {
		if open, err = b.try(ctx, w, s, namespace, open); err == nil || !apierrors.IsConflict(err) {
			break
		}
	}
	for _, c := range open {
		c.err = err
	}
	for _, c := range batch {
		c.done = true
		if len(c.quotas) > 0 {
			s.held[c] = struct{}{}
		}
	}
}

// try checks the open charges against the quotas as they are, and writes each quota that changes. It
// returns those that are still open when a write failed.
func (b *Books) try(ctx context.Context, w objects.Writer, s *space, namespace string, open []*charge) ([]*charge, error) {
	var now []corev1.ResourceQuota
	for _, q := range b.of(namespace) {
		now = append(now, *q.DeepCopy())
	}
	before := now
	var wait []*charge
	changed := make(map[*charge][]int)
	for _, c := range open {
		next, err := quotaadmission.CheckRequest(now, c.attributes, c.measure, nil)
		if err != nil {
			c.err = err
			continue
		}
		var at []int
		for i := range next {
			if !quota.Equals(now[i].Status.Used, next[i].Status.Used) {
				at = append(at, i)
			}
		}
		if len(at) == 0 || c.attributes.IsDryRun() {
			continue
		}
		now, changed[c] = next, at
		wait = append(wait, c)
	}
	for i := range now {
		if quota.Equals(before[i].Status.Used, now[i].Status.Used) {
			continue
		}
		if _, err := w.UpdateStatus(ctx, &now[i]); err != nil {
			return wait, b.takeBack(ctx, w, s, now[:i], err)
		}
	}
	for _, c := range wait {
		for _, i := range changed[c] {
			c.quotas = append(c.quotas, messages.KeyOf(Quotas, namespace, now[i].Name))
		}
	}
	return nil, nil
}

// takeBack undoes what was written before a write failed.
func (b *Books) takeBack(ctx context.Context, w objects.Writer, s *space, written []corev1.ResourceQuota, cause error) error {
	for i := range written {
		if err := b.recalculate(ctx, w, s, messages.KeyOf(Quotas, written[i].Namespace, written[i].Name)); err != nil {
			return errors.Join(cause, err)
		}
	}
	if apierrors.IsConflict(cause) || apierrors.IsNotFound(cause) {
		// A quota that went limits nothing; one that changed is read again.
		return apierrors.NewConflict(corev1.Resource("resourcequotas"), "", cause)
	}
	return fmt.Errorf("charge quotas: %w", cause)
}
