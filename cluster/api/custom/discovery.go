package custom

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	apidiscovery "k8s.io/api/apidiscovery/v2"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/endpoints/discovery"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// The priorities of custom groups and versions among others, as Kubernetes has them.
const (
	GroupPriority   = 1000
	VersionPriority = 100
)

// publish keeps the resources of the store and discovery as they are defined, until ctx ends.
func (s *Server) publish(ctx context.Context) {
	var mu sync.Mutex
	dirty, first := map[string]bool{}, true
	signal := make(chan struct{}, 1)
	wake := func() {
		select {
		case signal <- struct{}{}:
		default:
		}
	}
	stop := s.cfg.Store.FollowSynced([]messages.Resource{Definitions}, func(c objects.Change) {
		mu.Lock()
		defer mu.Unlock()
		if c.Old != nil {
			now := s.cfg.Clock.Now()
			s.changed.Store(&now)
		}
		for _, obj := range []objects.Object{c.Old, c.New} {
			if crd, ok := obj.(*apiextensionsv1.CustomResourceDefinition); ok {
				dirty[crd.Spec.Group] = true
			}
		}
		if !first {
			wake()
		}
	}, func() {
		mu.Lock()
		defer mu.Unlock()
		first = false
		wake()
	})
	defer stop()
	shown := map[string][]string{}
	started := sync.OnceFunc(func() { close(s.synced) })
	for {
		select {
		case <-ctx.Done():
			return
		case <-signal:
		}
		mu.Lock()
		groups := dirty
		dirty = map[string]bool{}
		mu.Unlock()
		s.refresh(groups, shown)
		started()
	}
}

// refresh brings groups up to date; shown are the versions that discovery has.
func (s *Server) refresh(groups map[string]bool, shown map[string][]string) {
	defined := map[string][]*apiextensionsv1.CustomResourceDefinition{}
	wanted := map[messages.Resource]bool{}
	for _, crd := range s.all() {
		if !groups[crd.Spec.Group] {
			continue
		}
		defined[crd.Spec.Group] = append(defined[crd.Spec.Group], crd)
		res := messages.Resource{Group: crd.Spec.Group, Resource: crd.Status.AcceptedNames.Plural}
		wanted[res] = true
		if !s.cfg.Store.Registered(res) {
			// It cannot fail: unstructured objects stay what they are.
			_ = s.cfg.Store.Register(state.Resource{Resource: res,
				Kind: schema.GroupVersionKind{Group: crd.Spec.Group, Kind: crd.Status.AcceptedNames.Kind}})
		}
	}
	for _, res := range s.cfg.Store.Resources() {
		if groups[res.Group] && !wanted[res] && s.cfg.Store.Unstructured(res) {
			s.cfg.Store.Unregister(res)
		}
	}
	for group := range groups {
		versions := versionsOf(defined[group])
		for _, v := range versions {
			s.cfg.Discovery.AddGroupVersion(group, apidiscovery.APIVersionDiscovery{
				Freshness: apidiscovery.DiscoveryFreshnessCurrent, Version: v, Resources: resourcesOf(defined[group], v),
			})
			s.cfg.Discovery.SetGroupVersionPriority(metav1.GroupVersion{Group: group, Version: v}, GroupPriority, VersionPriority)
		}
		for _, v := range shown[group] {
			if !slices.Contains(versions, v) {
				s.cfg.Discovery.RemoveGroupVersion(metav1.GroupVersion{Group: group, Version: v})
			}
		}
		shown[group] = versions
		if len(versions) == 0 {
			delete(shown, group)
		}
		s.cfg.Changed(group, versions)
	}
}

// versionsOf returns the versions in which anything of the definitions is served, the preferred one
// first.
func versionsOf(crds []*apiextensionsv1.CustomResourceDefinition) []string {
	seen := map[string]bool{}
	for _, crd := range crds {
		for _, v := range crd.Spec.Versions {
			if v.Served {
				seen[v.Name] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b string) int { return version.CompareKubeAwareVersionStrings(b, a) })
}

// resourcesOf returns what the definitions serve in a version, by name.
func resourcesOf(crds []*apiextensionsv1.CustomResourceDefinition, in string) []apidiscovery.APIResourceDiscovery {
	var out []apidiscovery.APIResourceDiscovery
	for _, crd := range crds {
		if !apihelpers.HasServedCRDVersion(crd, in) {
			continue
		}
		names := crd.Status.AcceptedNames
		r := apidiscovery.APIResourceDiscovery{
			Resource: names.Plural, SingularResource: names.Singular, ShortNames: names.ShortNames, Categories: names.Categories,
			Scope: apidiscovery.ScopeCluster, Verbs: metav1.Verbs{"delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"},
			ResponseKind: &metav1.GroupVersionKind{Group: crd.Spec.Group, Version: in, Kind: names.Kind},
		}
		if crd.Spec.Scope == apiextensionsv1.NamespaceScoped {
			r.Scope = apidiscovery.ScopeNamespace
		}
		if apihelpers.IsCRDConditionTrue(crd, apiextensionsv1.Terminating) {
			r.Verbs = metav1.Verbs{"delete", "deletecollection", "get", "list", "watch"}
		}
		if subs, err := apihelpers.GetSubresourcesForVersion(crd, in); err == nil && subs != nil {
			verbs := metav1.Verbs{"get", "patch", "update"}
			if subs.Status != nil {
				r.Subresources = append(r.Subresources, apidiscovery.APISubresourceDiscovery{Subresource: "status", ResponseKind: r.ResponseKind, Verbs: verbs})
			}
			if subs.Scale != nil {
				r.Subresources = append(r.Subresources, apidiscovery.APISubresourceDiscovery{Subresource: "scale", Verbs: verbs,
					ResponseKind: &metav1.GroupVersionKind{Group: autoscalingv1.GroupName, Version: "v1", Kind: "Scale"}})
			}
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b apidiscovery.APIResourceDiscovery) int { return strings.Compare(a.Resource, b.Resource) })
	return out
}

// serveVersion answers /apis/<group>/<version>, the older form of discovery.
func (s *Server) serveVersion(w http.ResponseWriter, r *http.Request, gv schema.GroupVersion) {
	var crds []*apiextensionsv1.CustomResourceDefinition
	for _, crd := range s.all() {
		if crd.Spec.Group == gv.Group {
			crds = append(crds, crd)
		}
	}
	if !slices.Contains(versionsOf(crds), gv.Version) {
		http.NotFound(w, r)
		return
	}
	discovery.NewAPIVersionHandler(apiserver.Codecs, gv, discovery.APIResourceListerFunc(func() []metav1.APIResource {
		return older(resourcesOf(crds, gv.Version), crds)
	})).ServeHTTP(w, r)
}

// older writes resources in the older form, where subresources are resources of their own.
func older(in []apidiscovery.APIResourceDiscovery, crds []*apiextensionsv1.CustomResourceDefinition) []metav1.APIResource {
	hashes := map[string]string{}
	for _, crd := range crds {
		if v, err := apihelpers.GetCRDStorageVersion(crd); err == nil {
			hashes[crd.Status.AcceptedNames.Plural] = discovery.StorageVersionHash(crd.Spec.Group, v, crd.Spec.Names.Kind)
		}
	}
	out := []metav1.APIResource{}
	for _, r := range in {
		namespaced := r.Scope == apidiscovery.ScopeNamespace
		out = append(out, metav1.APIResource{
			Name: r.Resource, SingularName: r.SingularResource, Namespaced: namespaced, Kind: r.ResponseKind.Kind,
			Verbs: r.Verbs, ShortNames: r.ShortNames, Categories: r.Categories, StorageVersionHash: hashes[r.Resource],
		})
		for _, sub := range r.Subresources {
			one := metav1.APIResource{Name: r.Resource + "/" + sub.Subresource, Namespaced: namespaced, Kind: sub.ResponseKind.Kind, Verbs: sub.Verbs}
			if sub.Subresource == "scale" {
				one.Group, one.Version = sub.ResponseKind.Group, sub.ResponseKind.Version
			}
			out = append(out, one)
		}
	}
	return out
}
