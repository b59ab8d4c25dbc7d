package api

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/cluster/api/kind"
)

// mapper tells which resource each kind is served as. Built-in kinds it knows; for others it asks
// the server itself, no more than once in a while.
type mapper struct {
	meta.RESTMapper
	discover func() (meta.ResettableRESTMapper, error)
	clock    clock.PassiveClock
	mu       sync.Mutex
	asked    time.Time
}

// askAgain is how long an answer about custom kinds holds.
const askAgain = time.Second

func newMapper(kinds []kind.Kind, loopback func() *rest.Config, c clock.PassiveClock) *mapper {
	m := meta.NewDefaultRESTMapper(nil)
	for i := range kinds {
		k := &kinds[i]
		if k.Answer != nil {
			continue
		}
		gv, scope := k.GVK.GroupVersion(), meta.RESTScopeRoot
		if k.Namespaced {
			scope = meta.RESTScopeNamespace
		}
		m.AddSpecific(k.GVK, gv.WithResource(k.Resource), gv.WithResource(k.Singular), scope)
	}
	return &mapper{RESTMapper: m, clock: c, discover: sync.OnceValues(func() (meta.ResettableRESTMapper, error) {
		client, err := discovery.NewDiscoveryClientForConfig(loopback())
		if err != nil {
			return nil, err
		}
		return restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client)), nil
	})}
}

// custom is the mapper of what is not built in, as fresh as it has to be.
func (m *mapper) custom() (meta.RESTMapper, error) {
	d, err := m.discover()
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := m.clock.Now(); now.Sub(m.asked) >= askAgain {
		m.asked = now
		d.Reset()
	}
	return d, nil
}

// RESTMapping returns the resource of a kind.
func (m *mapper) RESTMapping(gk schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	mapping, err := m.RESTMapper.RESTMapping(gk, versions...)
	if !meta.IsNoMatchError(err) {
		return mapping, err
	}
	custom, cause := m.custom()
	if cause != nil {
		return nil, err
	}
	return custom.RESTMapping(gk, versions...)
}

// KindsFor returns the kinds that a resource may be of.
func (m *mapper) KindsFor(gvr schema.GroupVersionResource) ([]schema.GroupVersionKind, error) {
	kinds, err := m.RESTMapper.KindsFor(gvr)
	if !meta.IsNoMatchError(err) {
		return kinds, err
	}
	custom, cause := m.custom()
	if cause != nil {
		return nil, err
	}
	return custom.KindsFor(gvr)
}

var _ meta.RESTMapper = (*mapper)(nil)
