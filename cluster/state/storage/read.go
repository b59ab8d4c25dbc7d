package storage

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// Get implements storage.Interface.
func (s *Storage) Get(ctx context.Context, key string, opts storage.GetOptions, out runtime.Object) error {
	full, k, err := s.key(key)
	if err != nil {
		return err
	}
	if err := s.fresh(ctx, full, opts.ResourceVersion); err != nil {
		return err
	}
	e, rev, ok := s.cfg.Store.Lookup(k)
	if err := s.atLeast(opts.ResourceVersion, rev); err != nil {
		return err
	}
	switch {
	case ok && s.take(ctx, k, e.Rev):
		return nil
	case ok:
		obj, err := s.served(e.Object)
		if err != nil {
			return err
		}
		return copyInto(out, obj)
	case opts.IgnoreNotFound:
		return runtime.SetZeroValue(out)
	}
	return storage.NewKeyNotFoundError(full, 0)
}

// futureWait is how long a read waits for a revision that this store has not reached.
const futureWait = 3 * time.Second

// fresh brings the store up to what a read with a resource version asks for: without one the newest
// state there is, with 0 whatever there is, and otherwise at least that revision. Of those only a store
// that another member writes has anything to wait for.
func (s *Storage) fresh(ctx context.Context, key, resourceVersion string) error {
	store := s.cfg.Store
	if store.Leads() && resourceVersion != "" || resourceVersion == "0" {
		return nil
	}
	if resourceVersion == "" {
		if err := store.Consistent(ctx); err != nil {
			return writeError(key, err)
		}
		return nil
	}
	want, err := s.versioner.ParseResourceVersion(resourceVersion)
	if err != nil {
		return nil // said so later, in the words for it
	}
	ctx, cancel := context.WithTimeout(ctx, futureWait)
	defer cancel()
	_ = store.WaitFor(ctx, want) // said so later, too
	return nil
}

// atLeast refuses to answer for a revision this store has not reached.
func (s *Storage) atLeast(resourceVersion string, rev uint64) error {
	if resourceVersion == "" {
		return nil
	}
	want, err := s.versioner.ParseResourceVersion(resourceVersion)
	if err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: %v", err))
	}
	if want > rev {
		return storage.NewTooLargeResourceVersionError(want, rev, 0)
	}
	return nil
}

// copyInto makes out an independent copy of obj.
func copyInto(out runtime.Object, obj objects.Object) error {
	return assign(out, obj.DeepCopyObject())
}

// assign moves obj, which must be the caller's own, into out.
func assign(out, obj runtime.Object) error {
	dst, err := conversion.EnforcePtr(out)
	if err != nil {
		return storage.NewInternalError(fmt.Errorf("output object: %w", err))
	}
	src := reflect.ValueOf(obj).Elem()
	if !src.Type().AssignableTo(dst.Type()) {
		return storage.NewInternalError(fmt.Errorf("stored object is a %s, wanted a %s", src.Type(), dst.Type()))
	}
	dst.Set(src)
	return nil
}

// GetList implements storage.Interface.
func (s *Storage) GetList(ctx context.Context, key string, opts storage.ListOptions, list runtime.Object) error {
	full, prefix, err := s.path(key, opts.Recursive)
	if err != nil {
		return err
	}
	itemsPtr, err := meta.GetItemsPtr(list)
	if err != nil {
		return err
	}
	dst, err := conversion.EnforcePtr(itemsPtr)
	if err != nil || dst.Kind() != reflect.Slice {
		return storage.NewInternalError(fmt.Errorf("list %T has no slice of items: %w", list, err))
	}
	at, continueKey, err := storage.ValidateListOptions(full, s.versioner, opts)
	if err != nil {
		return err
	}
	from := strings.TrimPrefix(continueKey, s.prefix)
	if continueKey == "" {
		if err := s.fresh(ctx, full, opts.ResourceVersion); err != nil {
			return err
		}
	} else if at > 0 {
		if err := s.fresh(ctx, full, strconv.FormatInt(at, 10)); err != nil {
			return err
		}
	}
	var items []state.Item
	var rev uint64
	found := false
	if at == 0 && from == "" {
		items, rev, found = s.find(prefix, &opts.Predicate)
	}
	if !found {
		if items, rev, err = s.cfg.Store.ListAt(s.cfg.Resource, prefix, from, uint64(at)); err != nil {
			return listError(err, uint64(at), rev, continueKey, full)
		}
	}
	if err := s.atLeast(opts.ResourceVersion, rev); err != nil {
		return err
	}
	if !opts.Recursive {
		items = exactly(items, prefix)
	}
	var taken int
	if c := collected(ctx); c != nil {
		dst.Set(reflect.MakeSlice(dst.Type(), 0, 0))
		taken, err = c.fill(ctx, items, &opts.Predicate)
	} else {
		taken, err = s.fill(ctx, dst, items, &opts.Predicate)
	}
	if err != nil {
		return err
	}
	last := full
	if taken > 0 {
		last = s.prefix + items[taken-1].Path
	}
	token, remaining, err := storage.PrepareContinueToken(last, full, int64(rev), int64(len(items)), taken < len(items), opts)
	if err != nil {
		return err
	}
	if err := s.versioner.UpdateList(list, rev, token, remaining); err != nil {
		return err
	}
	opts.Predicate.SetShardInfoOnList(list)
	return nil
}

func exactly(items []state.Item, path string) []state.Item {
	for i := range items {
		if items[i].Path == path {
			return items[i : i+1]
		}
	}
	return nil
}

// fill appends the items that match to dst until the limit is reached and returns how many of
// items it has looked at.
func (s *Storage) fill(ctx context.Context, dst reflect.Value, items []state.Item, pred *storage.SelectionPredicate) (taken int, err error) {
	room := len(items)
	if !pred.Empty() {
		room = min(room, 256)
	}
	if pred.Limit > 0 {
		room = min(room, int(pred.Limit))
	}
	// Never nil: clients are promised an empty list.
	dst.Set(reflect.MakeSlice(dst.Type(), 0, room))
	return match(ctx, items, pred, s.served, func(i state.Item) { put(dst, i.Object) })
}

// match hands the items that match, as they are served, to add until the limit is reached and
// returns how many it has looked at.
func match(ctx context.Context, items []state.Item, pred *storage.SelectionPredicate,
	served func(objects.Object) (objects.Object, error), add func(state.Item)) (taken int, err error) {
	n := int64(0)
	for i := range items {
		if pred.Limit > 0 && n >= pred.Limit {
			break
		}
		if i%1024 == 0 && ctx.Err() != nil {
			return i, storage.NewTimeoutError(items[i].Path, "request did not complete within requested timeout")
		}
		taken = i + 1
		item := items[i]
		if item.Object, err = served(item.Object); err != nil {
			return taken, err
		}
		// As in any storage, an object whose attributes cannot be had matches nothing.
		if ok, err := pred.Matches(item.Object); err == nil && ok {
			n++
			add(item)
		}
	}
	return taken, nil
}

// put appends an object to the items of a list.
func put(dst reflect.Value, obj objects.Object) {
	n := dst.Len()
	dst.Grow(1)
	dst.SetLen(n + 1)
	item := dst.Index(n)
	item.Set(listItem(obj))
	// Items of a typed list do not say their kind again.
	untyped := dst.Type().Elem() == reflect.TypeFor[unstructured.Unstructured]()
	if typed, ok := item.Addr().Interface().(objects.Object); ok && !untyped {
		typed.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	}
}

// listItem returns the struct to put into a list. It shares what is below it with the store; the
// maps of unstructured objects, which encoders write their kind to, are copied.
func listItem(obj objects.Object) reflect.Value {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		obj = state.ShallowCopy(u)
	}
	return reflect.ValueOf(obj).Elem()
}

// tooOld begins as clients know it from Kubernetes.
const tooOld = "The provided continue parameter is too old to display a consistent list result."

func listError(err error, want, have uint64, continueKey, prefix string) error {
	switch {
	case errors.Is(err, messages.ErrUnavailable):
		return storage.NewTooLargeResourceVersionError(want, have, 0)
	case !errors.Is(err, messages.ErrGone):
		return storage.NewInternalError(err)
	case continueKey == "":
		return apierrors.NewResourceExpired("The resourceVersion for the provided list is too old.")
	}
	// The rest of the list can still be had, as it is now: the token in the error says so by the
	// revision -1.
	gone := apierrors.NewResourceExpired(tooOld + " Start the list again, or go on with the token in " +
		"this response and accept that objects changed in between may be missing or appear twice.")
	token, tokenErr := storage.EncodeContinue(continueKey, prefix, -1)
	if tokenErr != nil {
		return apierrors.NewResourceExpired(tooOld)
	}
	gone.ErrStatus.ListMeta.Continue = token
	return gone
}
