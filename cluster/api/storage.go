package api

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/cluster/state/storage"
	"github.com/troupe-run/troupe/messages"
)

// Resources tells a state.Store how the objects of the kinds look, those of Events in one list and
// all others in the other. A store that is opened with them reads its bucket in parallel.
func Resources(kinds []kind.Kind) (resources, events []state.Resource) {
	for i := range kinds {
		k := &kinds[i]
		switch {
		case k.Answer != nil:
		case resourceName(k) == messages.Events:
			events = append(events, stateResource(k))
		default:
			resources = append(resources, stateResource(k))
		}
	}
	return resources, events
}

func resourceName(k *kind.Kind) messages.Resource {
	return messages.Resource{Group: k.GVK.Group, Resource: k.Resource}
}

func stateResource(k *kind.Kind) state.Resource {
	r := state.Resource{Resource: resourceName(k), Kind: k.GVK, New: func() objects.Object { return k.New() }}
	if len(k.Indexes) > 0 {
		r.Indexes = make(map[string]func(objects.Object) []string, len(k.Indexes))
		for name, of := range k.Indexes {
			r.Indexes[name] = func(obj objects.Object) []string { return of(obj) }
		}
	}
	return r
}

// storage serves a kind from the store that keeps it.
func (s *Server) storage(k *kind.Kind) (apistorage.Interface, error) {
	res, store := resourceName(k), s.cfg.Store
	if res == messages.Events {
		store = s.cfg.Events
	}
	if !store.Registered(res) {
		if err := store.Register(stateResource(k)); err != nil {
			return nil, fmt.Errorf("register %s: %w", res, err)
		}
	}
	root := prefix(schema.GroupResource{Group: res.Group, Resource: res.Resource})
	back, err := storage.New(storage.Config{
		Store: store, Resource: res,
		Prefix:  root,
		New:     func() runtime.Object { return k.New() },
		NewList: k.NewList,
		Clock:   s.cfg.Clock,
	})
	if err != nil {
		return nil, err
	}
	if res == messages.Leases && s.cfg.Heartbeats != nil {
		return &nodeLeases{Interface: back, store: store, beats: s.cfg.Heartbeats, clock: s.cfg.Clock, prefix: root + "/"}, nil
	}
	return back, nil
}
