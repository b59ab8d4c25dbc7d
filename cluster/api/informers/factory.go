package informers

import (
	"context"
	"fmt"
	"reflect"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	upstream "k8s.io/client-go/informers"
	"k8s.io/client-go/informers/admissionregistration"
	"k8s.io/client-go/informers/core"
	"k8s.io/client-go/informers/flowcontrol"
	"k8s.io/client-go/informers/internalinterfaces"
	"k8s.io/client-go/tools/cache"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/cluster/state/informer"
	"github.com/troupe-run/troupe/messages"
)

// Factory makes informers on the resources of a store.
type Factory struct {
	// The interface is here for the groups that nobody asks for.
	upstream.SharedInformerFactory

	store  *state.Store
	byType map[reflect.Type]messages.Resource
	served map[schema.GroupVersionResource]messages.Resource

	ctx     context.Context
	stop    func()
	mu      sync.Mutex
	made    map[messages.Resource]*informer.Informer
	started map[messages.Resource]bool
	running sync.WaitGroup
}

// New returns a factory for the kinds that the store keeps. Its informers end with [Factory.Shutdown].
func New(store *state.Store, kinds []kind.Kind) *Factory {
	end := make(chan struct{})
	f := &Factory{
		store: store, byType: make(map[reflect.Type]messages.Resource), served: make(map[schema.GroupVersionResource]messages.Resource),
		made: make(map[messages.Resource]*informer.Informer), started: make(map[messages.Resource]bool),
	}
	f.ctx, f.stop = wait.ContextForChannel(end), sync.OnceFunc(func() { close(end) })
	for i := range kinds {
		k := &kinds[i]
		if k.Answer != nil {
			continue
		}
		res := messages.Resource{Group: k.GVK.Group, Resource: k.Resource}
		f.byType[reflect.TypeOf(k.New())] = res
		f.served[k.GVK.GroupVersion().WithResource(k.Resource)] = res
	}
	return f
}

// Stopping is closed when the factory begins to end.
func (f *Factory) Stopping() <-chan struct{} { return f.ctx.Done() }

// Start runs the informers that were asked for. They end with the factory and not with the channel:
// several users share them.
func (f *Factory) Start(<-chan struct{}) { f.StartWithContext(f.ctx) }

// StartWithContext is Start.
func (f *Factory) StartWithContext(context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for res, i := range f.made {
		if !f.started[res] && f.ctx.Err() == nil {
			f.started[res] = true
			f.running.Go(func() { i.RunWithContext(f.ctx) })
		}
	}
}

// Shutdown ends all informers and waits for them.
func (f *Factory) Shutdown() {
	f.stop()
	f.running.Wait()
}

// InformerFor returns the informer on the resource of an object's type. It panics about types that
// are not served: which are asked for is written in the program.
func (f *Factory) InformerFor(obj runtime.Object, _ internalinterfaces.NewInformerFunc) cache.SharedIndexInformer {
	res, ok := f.byType[reflect.TypeOf(obj)]
	if !ok {
		panic(fmt.Sprintf("no kind of type %T is served", obj))
	}
	return f.on(res)
}

func (f *Factory) on(res messages.Resource) *informer.Informer {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.made[res]
	if i == nil {
		i = informer.New(f.store, res)
		f.made[res] = i
	}
	return i
}

// ForResource returns the informer on a built-in resource.
func (f *Factory) ForResource(gvr schema.GroupVersionResource) (upstream.GenericInformer, error) {
	res, ok := f.served[gvr]
	if !ok {
		return nil, fmt.Errorf("no informer found for %v", gvr)
	}
	return generic{f.on(res), gvr.GroupResource()}, nil
}

// InformerName is for metrics, which there are none of.
func (f *Factory) InformerName() *cache.InformerName { return nil }

// Admissionregistration has the kinds that configure webhooks and policies.
func (f *Factory) Admissionregistration() admissionregistration.Interface {
	return admissionregistration.New(f, "", nil)
}

// Core has what webhooks and policies look up.
func (f *Factory) Core() core.Interface { return core.New(f, "", nil) }

// Flowcontrol has what requests are sorted by.
func (f *Factory) Flowcontrol() flowcontrol.Interface { return flowcontrol.New(f, "", nil) }

type generic struct {
	informer *informer.Informer
	resource schema.GroupResource
}

func (g generic) Informer() cache.SharedIndexInformer { return g.informer }
func (g generic) Lister() cache.GenericLister {
	return cache.NewGenericLister(g.informer.GetIndexer(), g.resource)
}

var _ upstream.SharedInformerFactory = (*Factory)(nil)
