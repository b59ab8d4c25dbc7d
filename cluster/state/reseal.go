package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/troupe-run/troupe/messages"
)

const (
	// RotationUser is who writes an object again to seal it with a newer key.
	RotationUser = "system:secrets-rotation"
	// resealBatch is how many objects are sealed anew at a time.
	resealBatch = 64
	// resealPause is how long to wait when the bucket takes no writes.
	resealPause = time.Second
)

// Sealing says how far a change of the sealing key has come.
type Sealing struct {
	// Key is the id of the newest key, which all objects will be sealed with.
	Key string
	// Left is how many objects still have to be sealed anew.
	Left int
	// Old are the ids of the older keys that are kept, and until when; zero is as long as objects
	// are sealed with it.
	Old map[string]time.Time
}

// resealer writes objects again that are not sealed with the newest key. What is to be done stands
// in the bucket itself, in the key ids of the records: so it goes on where it was after any crash.
//
// A key goes in three steps: none is sealed with it any more from the moment a newer one is in the
// ring's file; then all live objects are sealed anew; then it stays until the change stream and the
// bucket's tombstones have nothing left that was sealed with it.
type resealer struct {
	store  *Store
	mu     sync.Mutex // held while the ring changes
	signal chan struct{}

	// Guarded by the store's lock.
	moved chan struct{} // closed and replaced when an object was sealed anew
	err   error         // why nothing more happens
}

func newResealer(s *Store) *resealer {
	return &resealer{store: s, signal: make(chan struct{}, 1), moved: make(chan struct{})}
}

// noteSeal notes that an object is sealed with a key, or with none for "". The caller holds the lock.
func (s *Store) noteSeal(key messages.Key, id string) {
	if id == s.seals.want(key.Resource) {
		delete(s.stale, key)
	} else {
		s.stale[key] = id
	}
}

// Sealing returns how far the last change of the sealing key has come.
func (s *Store) Sealing() Sealing {
	out, _, _ := s.sealingNow()
	return out
}

func (s *Store) sealingNow() (out Sealing, moved <-chan struct{}, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	ring := *s.seals.ring.Load()
	out = Sealing{Key: ring[0].id, Left: len(s.stale), Old: map[string]time.Time{}}
	for _, k := range ring[1:] {
		switch {
		case !k.unused.IsZero():
			out.Old[k.id] = k.unused.Add(s.keepKeys())
		case out.Left == 0:
			out.Old[k.id] = s.cfg.Clock.Now().Add(s.keepKeys())
		default:
			out.Old[k.id] = time.Time{}
		}
	}
	return out, s.sealing.moved, s.sealing.err
}

// keepKeys is how long something may still be sealed with a key that no live object is sealed with.
func (s *Store) keepKeys() time.Duration {
	d := s.cfg.TombstoneTTL
	if s.cfg.Changes != nil {
		d += s.cfg.Changes.MaxAge
	}
	return d
}

// Rotate makes a new sealing key and returns when all objects are sealed with it; progress is told
// of each step. A change that is not finished yet is waited for instead of beginning another. When
// ctx ends the work goes on, also after a crash when the bucket is opened again. Of the stores on
// one bus only one may seal. In a bucket that members share the leading one does the work.
func (s *Store) Rotate(ctx context.Context, progress func(Sealing)) error {
	if err := s.sealing.begin(); err != nil {
		return fmt.Errorf("rotate the sealing key: %w", err)
	}
	for {
		now, moved, err := s.sealingNow()
		progress(now)
		switch {
		case now.Left == 0:
			return nil
		case err != nil:
			return fmt.Errorf("rotate the sealing key: %w", err)
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// begin puts a new key into the ring, unless the last change goes on still.
func (r *resealer) begin() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.store
	if s.cfg.Shared && !s.shares() {
		return fmt.Errorf("bucket %s is shared by members, of which each has its own file of keys: %w", s.cfg.Bucket, messages.ErrInvalid)
	}
	if s.Sealing().Left > 0 {
		return nil
	}
	err := s.changeKeys(s.life, func(ring keyring) (keyring, error) {
		k, err := ring.drawKey()
		return append(keyring{k}, ring...), err
	})
	if err != nil {
		return err
	}
	select {
	case r.signal <- struct{}{}:
	default:
	}
	return nil
}

// run seals anew until ctx ends, and lets go of keys that nothing is sealed with any more.
func (r *resealer) run(ctx context.Context) {
	r.store.mu.Lock()
	r.err = nil
	r.store.mu.Unlock()
	for {
		pause, err := r.step(ctx)
		if err != nil {
			r.end(err)
			return
		}
		var due <-chan time.Time
		stop := func() bool { return true }
		if pause > 0 {
			t := r.store.cfg.Clock.NewTimer(pause)
			due, stop = t.C(), t.Stop
		}
		select {
		case <-due:
		case <-r.signal:
		case <-ctx.Done():
			stop()
			r.end(fmt.Errorf("bucket is closed: %w", messages.ErrUnavailable))
			return
		}
		stop()
	}
}

// step does what can be done now and returns how long to wait for more; 0 is until somebody asks.
func (r *resealer) step(ctx context.Context) (time.Duration, error) {
	for {
		todo := r.take()
		if len(todo) == 0 {
			return r.tidy()
		}
		errs := make([]error, len(todo))
		var all sync.WaitGroup
		for i, key := range todo {
			all.Go(func() { errs[i] = r.reseal(ctx, key) })
		}
		all.Wait()
		r.notify()
		switch err := errors.Join(errs...); {
		case err == nil:
		case errors.Is(err, messages.ErrFenced), ctx.Err() != nil:
			return 0, err
		default:
			r.store.log.Warn("not sealed anew, will retry", "err", err)
			return resealPause, nil
		}
	}
}

func (r *resealer) take() []messages.Key {
	s := r.store
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []messages.Key
	for key := range s.stale {
		if out = append(out, key); len(out) == resealBatch {
			break
		}
	}
	return out
}

// reseal writes one object again, as it is. That somebody else has written it meanwhile is as good.
func (r *resealer) reseal(ctx context.Context, key messages.Key) error {
	s := r.store
	e, _, ok := s.Lookup(key)
	if !ok {
		return nil
	}
	obj := WithRevision(e.Object, 0)
	data, err := s.Encode(key.Resource, obj)
	if err != nil {
		return err
	}
	_, err = s.Commit(ctx, Op{Key: key, Expect: e.Rev, Object: obj, Data: data, User: RotationUser, until: e.Expires})
	if errors.Is(err, messages.ErrConflict) || errors.Is(err, messages.ErrNotFound) {
		return nil
	}
	return err
}

func (r *resealer) notify() {
	s := r.store
	s.mu.Lock()
	defer s.mu.Unlock()
	close(r.moved)
	r.moved = make(chan struct{})
}

func (r *resealer) end(err error) {
	r.store.mu.Lock()
	r.err = err
	r.store.mu.Unlock()
	r.notify()
}

// tidy notes which old keys no object is sealed with from now on, drops those of which nothing is
// left, and returns when the next one may go.
func (r *resealer) tidy() (next time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.store
	now, keep := s.cfg.Clock.Now(), s.keepKeys()
	s.mu.RLock()
	used := map[string]bool{}
	for _, id := range s.stale {
		used[id] = true
	}
	s.mu.RUnlock()
	ring := *s.seals.ring.Load()
	tidied := keyring{ring[0]}
	for _, k := range ring[1:] {
		switch {
		case used[k.id]:
			k.unused = time.Time{}
		case k.unused.IsZero():
			k.unused = now
		case s.cfg.Changes != nil && now.Sub(k.unused) >= keep:
			continue
		}
		if !k.unused.IsZero() && s.cfg.Changes != nil {
			if left := max(k.unused.Add(keep).Sub(now), time.Second); next == 0 || left < next {
				next = left
			}
		}
		tidied = append(tidied, k)
	}
	if slices.EqualFunc(ring, tidied, func(a, b sealKey) bool { return a.id == b.id && a.unused.Equal(b.unused) }) {
		return next, nil
	}
	if err := s.changeKeys(s.life, func(keyring) (keyring, error) { return tidied, nil }); err != nil {
		s.log.Warn("sealing keys not tidied, will retry", "err", err)
		return resealPause, nil
	}
	return next, nil
}
