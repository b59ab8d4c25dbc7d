package informer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"k8s.io/client-go/tools/cache"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// view is a cache.Indexer that reads a store.
type view struct {
	store *state.Store
	res   messages.Resource

	imu      sync.RWMutex
	indexers cache.Indexers
}

// errReadOnly is what all that would write to a view gives.
var errReadOnly = errors.New("the replica is written through the API only")

func (v *view) Add(any) error                   { return errReadOnly }
func (v *view) Update(any) error                { return errReadOnly }
func (v *view) Delete(any) error                { return errReadOnly }
func (v *view) Replace([]any, string) error     { return errReadOnly }
func (v *view) Resync() error                   { return nil }
func (v *view) Bookmark(string)                 {}
func (v *view) list(ns string) []objects.Object { return v.store.List(v.res, ns) }

// LastStoreSyncResourceVersion is the store's newest revision.
func (v *view) LastStoreSyncResourceVersion() string {
	return strconv.FormatUint(v.store.Revision(), 10)
}

// List returns all objects.
func (v *view) List() []any { return anys(v.list("")) }

func anys(in []objects.Object) []any {
	out := make([]any, len(in))
	for i := range in {
		out[i] = in[i]
	}
	return out
}

// ListKeys returns "namespace/name", or "name", of all objects.
func (v *view) ListKeys() []string {
	all := v.list("")
	out := make([]string, len(all))
	for i, obj := range all {
		out[i] = cache.MetaObjectToName(obj).String()
	}
	return out
}

// Get finds the object of the same name.
func (v *view) Get(obj any) (item any, exists bool, err error) {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj)
	if err != nil {
		return nil, false, err
	}
	return v.GetByKey(key)
}

// GetByKey finds the object by "namespace/name" or "name".
func (v *view) GetByKey(key string) (item any, exists bool, err error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return nil, false, err
	}
	obj, ok := v.store.Get(messages.KeyOf(v.res, namespace, name))
	if !ok {
		return nil, false, nil
	}
	return obj, true, nil
}

// AddIndexers adds indexes. But for that of namespaces they are no faster than a look at everything.
func (v *view) AddIndexers(more cache.Indexers) error {
	v.imu.Lock()
	defer v.imu.Unlock()
	for name := range more {
		if _, ok := v.indexers[name]; ok {
			return fmt.Errorf("index %s is there already", name)
		}
	}
	maps.Copy(v.indexers, more)
	return nil
}

// GetIndexers returns the indexes.
func (v *view) GetIndexers() cache.Indexers {
	v.imu.RLock()
	defer v.imu.RUnlock()
	return maps.Clone(v.indexers)
}

// Index returns the objects that share a value of the index with obj.
func (v *view) Index(index string, obj any) ([]any, error) {
	of, err := v.indexer(index)
	if err != nil {
		return nil, err
	}
	values, err := of(obj)
	if err != nil {
		return nil, err
	}
	return v.having(of, func(value string) bool { return slices.Contains(values, value) })
}

// ByIndex returns the objects with a value under the index.
func (v *view) ByIndex(index, want string) ([]any, error) {
	if index == cache.NamespaceIndex {
		return anys(v.list(want)), nil
	}
	of, err := v.indexer(index)
	if err != nil {
		return nil, err
	}
	return v.having(of, func(value string) bool { return value == want })
}

// IndexKeys returns the keys of the objects with a value under the index.
func (v *view) IndexKeys(index, want string) ([]string, error) {
	found, err := v.ByIndex(index, want)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(found))
	for i, obj := range found {
		out[i] = cache.MetaObjectToName(obj.(objects.Object)).String()
	}
	return out, nil
}

// ListIndexFuncValues returns all values of the index.
func (v *view) ListIndexFuncValues(index string) []string {
	of, err := v.indexer(index)
	if err != nil {
		return nil
	}
	seen := map[string]bool{}
	for _, obj := range v.list("") {
		if values, err := of(obj); err == nil {
			for _, value := range values {
				seen[value] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

func (v *view) indexer(name string) (cache.IndexFunc, error) {
	v.imu.RLock()
	defer v.imu.RUnlock()
	of, ok := v.indexers[name]
	if !ok {
		return nil, fmt.Errorf("there is no index %s", name)
	}
	return of, nil
}

func (v *view) having(of cache.IndexFunc, want func(value string) bool) ([]any, error) {
	var out []any
	for _, obj := range v.list("") {
		values, err := of(obj)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(values, want) {
			out = append(out, obj)
		}
	}
	return out, nil
}

var _ cache.Indexer = (*view)(nil)
