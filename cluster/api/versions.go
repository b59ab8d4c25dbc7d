package api

import (
	"fmt"
	"maps"
	"reflect"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/troupe-run/troupe/cluster/api/kind"
)

// registerVersion serves a kind in one more version: the kind's own type, which is what is stored,
// plays the internal version of the other group too.
func registerVersion(s *runtime.Scheme, k *kind.Kind, v *kind.Version, known map[string]string) error {
	gv := v.GVK.GroupVersion()
	metav1.AddToGroupVersion(s, gv)
	s.AddKnownTypeWithName(v.GVK, v.New())
	s.AddKnownTypeWithName(gv.WithKind(v.GVK.Kind+"List"), v.NewList())
	internal := schema.GroupVersion{Group: gv.Group, Version: runtime.APIVersionInternal}
	s.AddKnownTypeWithName(internal.WithKind(v.GVK.Kind), k.New())
	s.AddKnownTypeWithName(internal.WithKind(v.GVK.Kind+"List"), k.NewList())
	if v.Default != nil {
		s.AddTypeDefaultingFunc(v.New(), func(obj any) { v.Default(obj.(kind.Object)) })
	}
	all := maps.Clone(known)
	maps.Copy(all, v.Fields)
	if err := registerFields(s, v.GVK, all); err != nil {
		return err
	}
	for _, c := range []struct {
		from, to         runtime.Object
		fromList, toList runtime.Object
		convert          func(kind.Object) kind.Object
	}{
		{v.New(), k.New(), v.NewList(), k.NewList(), v.FromVersion},
		{k.New(), v.New(), k.NewList(), v.NewList(), v.ToVersion},
	} {
		err := s.AddConversionFunc(c.from, c.to, func(in, out any, _ conversion.Scope) error {
			reflect.ValueOf(out).Elem().Set(reflect.ValueOf(c.convert(in.(kind.Object))).Elem())
			return nil
		})
		if err != nil {
			return fmt.Errorf("register conversion of %s: %w", v.GVK, err)
		}
		if err := s.AddConversionFunc(c.fromList, c.toList, convertList(c.convert)); err != nil {
			return fmt.Errorf("register conversion of lists of %s: %w", v.GVK, err)
		}
	}
	return nil
}

// convertList converts a list item by item.
func convertList(convert func(kind.Object) kind.Object) conversion.ConversionFunc {
	return func(in, out any, _ conversion.Scope) error {
		from, to := in.(runtime.Object), out.(runtime.Object)
		head, err := meta.ListAccessor(from)
		if err != nil {
			return err
		}
		into, err := meta.ListAccessor(to)
		if err != nil {
			return err
		}
		into.SetResourceVersion(head.GetResourceVersion())
		into.SetContinue(head.GetContinue())
		into.SetRemainingItemCount(head.GetRemainingItemCount())
		into.SetSelfLink(head.GetSelfLink())
		items := make([]runtime.Object, 0, meta.LenList(from))
		if err := meta.EachListItem(from, func(item runtime.Object) error {
			items = append(items, convert(item.(kind.Object)))
			return nil
		}); err != nil {
			return err
		}
		return meta.SetList(to, items)
	}
}

// addVersions serves what a kind serves, but for its own subresources of other kinds, in its other
// versions.
func (s *Server) addVersions(out groupVersions, order []schema.GroupVersion) []schema.GroupVersion {
	for i := range s.cfg.Kinds {
		k := &s.cfg.Kinds[i]
		own := out[k.GVK.GroupVersion()]
		for _, v := range k.Versions {
			gv := v.GVK.GroupVersion()
			if out[gv] == nil {
				order = append(order, gv)
			}
			for path, storage := range ownPaths(k, own) {
				out.add(gv, path, storage)
			}
		}
	}
	return order
}

// ownPaths are the paths of a kind whose bodies are objects of the kind.
func ownPaths(k *kind.Kind, storages map[string]rest.Storage) map[string]rest.Storage {
	paths := map[string]rest.Storage{k.Resource: storages[k.Resource]}
	if k.Status != nil {
		paths[k.Resource+"/status"] = storages[k.Resource+"/status"]
	}
	for name := range k.Subresources {
		paths[k.Resource+"/"+name] = storages[k.Resource+"/"+name]
	}
	return paths
}

// equivalents tells webhooks under which other resources the objects of one are served.
func equivalents(kinds []kind.Kind) runtime.EquivalentResourceRegistry {
	stored := make(map[schema.GroupResource]schema.GroupResource)
	for i := range kinds {
		k := &kinds[i]
		for _, v := range k.Versions {
			stored[schema.GroupResource{Group: v.GVK.Group, Resource: k.Resource}] = schema.GroupResource{Group: k.GVK.Group, Resource: k.Resource}
		}
	}
	return runtime.NewEquivalentResourceRegistryWithIdentity(func(gr schema.GroupResource) string {
		if as, ok := stored[gr]; ok {
			gr = as
		}
		return gr.String()
	})
}
