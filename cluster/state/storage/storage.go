package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// Config says what to serve. All fields but those with a stated default are required.
type Config struct {
	Store    *state.Store
	Resource messages.Resource
	// Prefix is what all keys begin with, such as "/registry/apps/deployments". What follows it
	// is "/namespace/name", or "/name" where there are no namespaces.
	Prefix string
	// New and NewList return empty objects.
	New, NewList func() runtime.Object
	// Codec turns what is given out into what is stored and back, for custom resources: they are
	// served in several versions and by a schema that changes, but stored, and kept in memory, as
	// they were written. Nil means that both are the same.
	Codec runtime.Codec
	// Bookmarks is how often a watch that asked for bookmarks gets one. Zero means a minute.
	Bookmarks time.Duration
	// Clock times bookmarks. Nil means the real one.
	Clock clock.WithTicker
}

// Storage implements storage.Interface for one resource.
type Storage struct {
	cfg       Config
	prefix    string // with a trailing slash
	versioner storage.APIObjectVersioner
	converter *converter // nil without a codec
	sizes     bool
}

// New serves a resource that the store knows.
func New(cfg Config) (*Storage, error) {
	if cfg.Store == nil || cfg.New == nil || cfg.NewList == nil || cfg.Prefix == "" {
		return nil, errors.New("storage: a store, constructors and a prefix are required")
	}
	if !cfg.Store.Registered(cfg.Resource) {
		return nil, fmt.Errorf("storage: resource %s: %w", cfg.Resource, messages.ErrNotFound)
	}
	if cfg.Bookmarks == 0 {
		cfg.Bookmarks = time.Minute
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	s := &Storage{cfg: cfg, prefix: strings.TrimSuffix(cfg.Prefix, "/") + "/"}
	if cfg.Codec != nil {
		s.converter = newConverter(cfg.Codec)
	}
	return s, nil
}

// Decorator returns what generic.RESTOptions takes, for resources without a Go type. Those that the
// store does not know yet are registered.
func Decorator(store *state.Store) generic.StorageDecorator {
	return func(
		config *storagebackend.ConfigForResource,
		prefix string,
		_ func(runtime.Object) (string, error),
		newFunc, newListFunc func() runtime.Object,
		_ storage.AttrFunc,
		_ storage.IndexerFuncs,
		_ *cache.Indexers,
	) (storage.Interface, factory.DestroyFunc, error) {
		res := messages.Resource{Group: config.GroupResource.Group, Resource: config.GroupResource.Resource}
		if !store.Registered(res) {
			if err := store.Register(state.Resource{Resource: res}); err != nil {
				return nil, nil, err
			}
		}
		s, err := New(Config{Store: store, Resource: res, Prefix: prefix, New: newFunc, NewList: newListFunc, Codec: config.Codec})
		return s, func() {}, err
	}
}

// Versioner implements storage.Interface.
func (s *Storage) Versioner() storage.Versioner { return s.versioner }

// ReadinessCheck implements storage.Interface: an open store has read everything.
func (s *Storage) ReadinessCheck() error { return nil }

// GetCurrentResourceVersion implements storage.Interface.
func (s *Storage) GetCurrentResourceVersion(ctx context.Context) (uint64, error) {
	if err := s.cfg.Store.Consistent(ctx); err != nil {
		return 0, writeError(s.prefix, err)
	}
	return s.cfg.Store.Revision(), nil
}

// CompactRevision implements storage.Interface.
func (s *Storage) CompactRevision() int64 { return int64(s.cfg.Store.Floor()) }

// RequestWatchProgress implements storage.Interface. It exists for a cache in front of etcd;
// here every watch knows at any time how far it is.
func (s *Storage) RequestWatchProgress(context.Context) error { return nil }

// EnableResourceSizeEstimation implements storage.Interface. The store knows all sizes, so keys
// is not asked.
func (s *Storage) EnableResourceSizeEstimation(keys storage.KeysFunc) error {
	if keys == nil {
		return errors.New("storage: KeysFunc is required")
	}
	s.sizes = true
	return nil
}

// Stats implements storage.Interface.
func (s *Storage) Stats(context.Context) (storage.Stats, error) {
	count, size := s.cfg.Store.Stats(s.cfg.Resource)
	stats := storage.Stats{ObjectCount: count}
	if s.sizes && count > 0 {
		stats.EstimatedAverageObjectSizeBytes = size / count
	}
	return stats, nil
}

// path returns what follows the prefix in key: "namespace/name", a prefix of that for a listing.
func (s *Storage) path(key string, recursive bool) (full, path string, err error) {
	if full, err = storage.PrepareKey(s.prefix, key, recursive); err != nil {
		return "", "", err
	}
	return full, full[len(s.prefix):], nil
}

// key returns the key of one object.
func (s *Storage) key(key string) (full string, k messages.Key, err error) {
	full, path, err := s.path(key, false)
	if err != nil {
		return "", messages.Key{}, err
	}
	return full, s.keyOf(path), nil
}

func (s *Storage) keyOf(path string) messages.Key {
	namespace, name, ok := strings.Cut(path, "/")
	if !ok {
		namespace, name = "", path
	}
	return messages.KeyOf(s.cfg.Resource, namespace, name)
}

var _ storage.Interface = (*Storage)(nil)
