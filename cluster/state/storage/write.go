package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/storage"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// Create implements storage.Interface.
func (s *Storage) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	full, k, err := s.key(key)
	if err != nil {
		return err
	}
	if rev, err := s.versioner.ObjectResourceVersion(obj); err == nil && rev != 0 {
		return storage.ErrResourceVersionSetOnCreate
	}
	op, err := s.put(ctx, k, 0, obj, ttl)
	if err != nil {
		return err
	}
	if _, err := s.commit(ctx, op); err != nil {
		return writeError(full, err)
	}
	if out == nil {
		return nil
	}
	return s.give(ctx, out, op.Object)
}

// sharing marks the context of writers that keep to the rules of WithSharing.
type sharing struct{}

// WithSharing spares the writes of a context nearly all copies. The caller promises that nobody
// changes an object after it was handed over for writing, and that what it gets, to be updated or
// as a result, is changed in its outermost struct only: what is below belongs to the store.
func WithSharing(ctx context.Context) context.Context {
	return context.WithValue(ctx, sharing{}, true)
}

// own makes a copy of obj, as deep as the context's writer needs it.
func own(ctx context.Context, obj objects.Object) objects.Object {
	if ctx.Value(sharing{}) != nil {
		return state.ShallowCopy(obj)
	}
	return obj.DeepCopyObject().(objects.Object)
}

// give moves a copy of obj, which is in the store, into out.
func (s *Storage) give(ctx context.Context, out runtime.Object, obj objects.Object) error {
	obj, err := s.served(obj)
	if err != nil {
		return err
	}
	return assign(out, own(ctx, obj))
}

// put makes the operation that stores a copy of obj: the store keeps what it is given, and the
// caller may go on changing its own.
func (s *Storage) put(ctx context.Context, k messages.Key, expect uint64, obj runtime.Object, ttl uint64) (state.Op, error) {
	object, ok := obj.(objects.Object)
	if !ok {
		return state.Op{}, storage.NewInternalError(fmt.Errorf("%T has no metadata", obj))
	}
	stored := own(ctx, object)
	if err := s.versioner.PrepareObjectForStorage(stored); err != nil {
		return state.Op{}, storage.NewInternalError(fmt.Errorf("prepare %s: %w", k, err))
	}
	data, stored, err := s.encode(stored)
	if err != nil {
		return state.Op{}, err
	}
	return state.Op{Key: k, Expect: expect, Object: stored, Data: data, TTL: time.Duration(ttl) * time.Second, User: userOf(ctx)}, nil
}

// encode returns an object as it is stored, in bytes and in memory.
func (s *Storage) encode(obj objects.Object) ([]byte, objects.Object, error) {
	if s.converter == nil {
		data, err := s.cfg.Store.Encode(s.cfg.Resource, obj)
		return data, obj, err
	}
	data, err := s.converter.encode(obj)
	if err != nil {
		return nil, nil, err
	}
	stored, err := s.cfg.Store.Decode(s.cfg.Resource, data)
	return data, stored, err
}

// userOf names the user a request is made for.
func userOf(ctx context.Context) string {
	if u, ok := request.UserFrom(ctx); ok {
		return u.GetName()
	}
	return ""
}

// GuaranteedUpdate implements storage.Interface. The cached object is of no use here: the newest
// one is in memory.
func (s *Storage) GuaranteedUpdate(ctx context.Context, key string, out runtime.Object, ignoreNotFound bool,
	preconditions *storage.Preconditions, update storage.UpdateFunc, _ runtime.Object,
) error {
	full, k, err := s.key(key)
	if err != nil {
		return err
	}
	newest := s.newest(full)
	for {
		e, _, ok := s.cfg.Store.Lookup(k)
		var current runtime.Object
		switch {
		case ok:
			obj, err := s.served(e.Object)
			if err != nil {
				return err
			}
			current = own(ctx, obj)
		case ignoreNotFound:
			current = s.cfg.New()
		default:
			if again, err := newest.look(ctx); again {
				continue
			} else if err != nil {
				return err
			}
			return storage.NewKeyNotFoundError(full, 0)
		}
		next, ttl, err := s.change(full, current, e, preconditions, update)
		if err != nil {
			if again, lookErr := newest.look(ctx); again {
				continue
			} else if lookErr != nil {
				return lookErr
			}
			return err
		}
		op, err := s.put(ctx, k, e.Rev, next, deref(ttl))
		if err != nil {
			return err
		}
		if ok && state.SumOf(op.Data) == e.Sum {
			// Nothing to write, if that still is the newest state.
			if together(ctx) {
				if _, err := s.commit(ctx, state.Op{Key: k, Check: true, Expect: e.Rev}); err != nil {
					return writeError(full, err)
				}
				return s.give(ctx, out, e.Object)
			}
			if _, err := newest.look(ctx); err != nil {
				return err
			}
			if now, _, ok := s.cfg.Store.Lookup(k); ok && now.Rev == e.Rev {
				return s.give(ctx, out, e.Object)
			}
			continue
		}
		switch _, err := s.commit(ctx, op); {
		case err == nil:
			return s.give(ctx, out, op.Object)
		case !stale(err) || together(ctx):
			return writeError(full, err)
		}
	}
}

func (s *Storage) change(full string, current runtime.Object, e state.Entry, preconditions *storage.Preconditions, update storage.UpdateFunc) (runtime.Object, *uint64, error) {
	if err := preconditions.Check(full, current); err != nil {
		return nil, nil, err
	}
	return update(current, storage.ResponseMeta{ResourceVersion: e.Rev, TTL: s.ttl(e)})
}

// newest guards against refusing a write by what a store shows that another member writes, and that may
// be a moment behind: what was refused is looked at once more.
type newest struct {
	store *state.Store
	key   string
	sure  bool
}

func (s *Storage) newest(key string) *newest {
	return &newest{s.cfg.Store, key, s.cfg.Store.Leads()}
}

// look brings the store up to date and says whether to look again.
func (n *newest) look(ctx context.Context) (again bool, err error) {
	if n.sure {
		return false, nil
	}
	n.sure = true
	if err := n.store.Consistent(ctx); err != nil {
		return false, writeError(n.key, err)
	}
	return true, nil
}

func deref(ttl *uint64) uint64 {
	if ttl == nil {
		return 0
	}
	return *ttl
}

// ttl returns the seconds an object has left; 0 is for ever.
func (s *Storage) ttl(e state.Entry) int64 {
	if e.Expires == 0 {
		return 0
	}
	return max(1, e.Expires-s.cfg.Clock.Now().Unix())
}

// Delete implements storage.Interface. As in GuaranteedUpdate the cached object is of no use.
func (s *Storage) Delete(ctx context.Context, key string, out runtime.Object, preconditions *storage.Preconditions,
	validate storage.ValidateObjectFunc, _ runtime.Object, _ storage.DeleteOptions,
) error {
	full, k, err := s.key(key)
	if err != nil {
		return err
	}
	newest := s.newest(full)
	for {
		e, _, ok := s.cfg.Store.Lookup(k)
		var obj objects.Object
		if ok {
			if obj, err = s.served(e.Object); err != nil {
				return err
			}
		}
		if err := deletable(ctx, full, obj, preconditions, validate); err != nil {
			if again, lookErr := newest.look(ctx); again {
				continue
			} else if lookErr != nil {
				return lookErr
			}
			return err
		}
		switch rev, err := s.commit(ctx, state.Op{Key: k, Expect: e.Rev, User: userOf(ctx)}); {
		case err == nil:
			return copyInto(out, state.WithRevision(obj, rev))
		case !stale(err) || together(ctx):
			return writeError(full, err)
		}
	}
}

func deletable(ctx context.Context, full string, obj objects.Object, preconditions *storage.Preconditions, validate storage.ValidateObjectFunc) error {
	if obj == nil {
		return storage.NewKeyNotFoundError(full, 0)
	}
	current := state.ShallowCopy(obj)
	if err := preconditions.Check(full, current); err != nil {
		return err
	}
	return validate(ctx, current)
}

// stale says that a write lost against another, so that it may succeed on the newest state.
func stale(err error) bool {
	return errors.Is(err, messages.ErrConflict) || errors.Is(err, messages.ErrExists) || errors.Is(err, messages.ErrNotFound)
}

// writeError says in the API machinery's words why a write was not done.
func writeError(key string, err error) error {
	switch {
	case errors.Is(err, messages.ErrExists):
		return storage.NewKeyExistsError(key, 0)
	case errors.Is(err, messages.ErrConflict), errors.Is(err, messages.ErrNotFound):
		return storage.NewResourceVersionConflictsError(key, 0)
	case errors.Is(err, messages.ErrTooLarge):
		return apierrors.NewRequestEntityTooLargeError(err.Error())
	case errors.Is(err, messages.ErrFenced), errors.Is(err, messages.ErrUnavailable):
		return apierrors.NewServiceUnavailable(err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return storage.NewTimeoutError(key, err.Error())
	}
	return err
}
