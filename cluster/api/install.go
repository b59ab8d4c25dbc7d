package api

import (
	"fmt"
	"net"
	"net/http"

	apidiscovery "k8s.io/api/apidiscovery/v2"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints"
	"k8s.io/apiserver/pkg/endpoints/discovery"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
)

// groupVersions collects the storages to serve, by version and path ("pods", "pods/status").
type groupVersions map[schema.GroupVersion]map[string]rest.Storage

func (g groupVersions) add(gv schema.GroupVersion, path string, s rest.Storage) {
	if g[gv] == nil {
		g[gv] = make(map[string]rest.Storage)
	}
	g[gv][path] = s
}

// versions are those of a group that serve a path, gv first.
func (g groupVersions) versions(gv schema.GroupVersion, path string) []string {
	out := []string{gv.String()}
	for other, paths := range g {
		if _, ok := paths[path]; ok && other != gv && other.Group == gv.Group {
			out = append(out, other.String())
		}
	}
	return out
}

// install serves the groups: legacy core first, then the others in the order of their kinds. It
// does what GenericAPIServer.InstallAPIGroups does but for the schemas, which that would build for
// every kind at once; here they are built when somebody first needs them.
func (s *Server) install(storages groupVersions, order []schema.GroupVersion) error {
	core := discovery.NewLegacyRootAPIHandler(addresses{}, s.codecs.factory, genericapiserver.DefaultLegacyAPIPrefix)
	s.generic.Handler.GoRestfulContainer.Add(aggregated.WrapAggregatedDiscoveryToHandler(core,
		s.generic.AggregatedLegacyDiscoveryGroupManager, s.generic.AggregatedLegacyDiscoveryGroupManager).
		GenerateWebService(genericapiserver.DefaultLegacyAPIPrefix, metav1.APIVersions{}))

	for _, gv := range order {
		if err := s.installVersion(gv, storages); err != nil {
			return err
		}
	}
	s.versions = order
	s.prioritize()
	// The groups are those of all APIServices, see extensions.go.
	groups := http.HandlerFunc(s.serveExtension)
	s.generic.Handler.NonGoRestfulMux.Handle(genericapiserver.APIGroupPrefix,
		aggregated.WrapAggregatedDiscoveryToHandler(groups, s.generic.AggregatedDiscoveryGroupManager, s.generic.AggregatedDiscoveryGroupManager))
	s.generic.Handler.NonGoRestfulMux.UnlistedHandle(genericapiserver.APIGroupPrefix+"/", groups)
	return nil
}

func (s *Server) installVersion(gv schema.GroupVersion, all groupVersions) error {
	storages := all[gv]
	root, manager := genericapiserver.APIGroupPrefix, s.generic.AggregatedDiscoveryGroupManager
	if gv.Group == "" {
		root, manager = genericapiserver.DefaultLegacyAPIPrefix, s.generic.AggregatedLegacyDiscoveryGroupManager
	}
	served := make(map[string][]string, len(storages))
	for path := range storages {
		served[path] = all.versions(gv, path)
	}
	v := &endpoints.APIGroupVersion{
		Storage:                     storages,
		Root:                        root,
		GroupVersion:                gv,
		AllServedVersionsByResource: served,
		OptionsExternalVersion:      &schema.GroupVersion{Version: "v1"},
		Serializer:                  s.codecs.factory,
		ParameterCodec:              s.codecs.params,
		Typer:                       s.codecs.scheme,
		Creater:                     s.codecs.scheme,
		Convertor:                   s.codecs.scheme,
		ConvertabilityChecker:       s.codecs.scheme,
		Defaulter:                   s.codecs.scheme,
		UnsafeConvertor:             runtime.UnsafeObjectConvertor(s.codecs.scheme),
		Namer:                       runtime.Namer(meta.NewAccessor()),
		TypeConverter:               s.schemas,
		EquivalentResourceRegistry:  s.generic.EquivalentResourceRegistry,
		Authorizer:                  s.authorizer,
		Admit:                       s.admission,
		MinRequestTimeout:           watchTimeout,
		MaxRequestBodyBytes:         maxRequestBody,
	}
	resources, _, err := v.InstallREST(s.generic.Handler.GoRestfulContainer)
	if err != nil {
		return fmt.Errorf("serve %s: %w", gv, err)
	}
	manager.AddGroupVersion(gv.Group, apidiscovery.APIVersionDiscovery{
		Freshness: apidiscovery.DiscoveryFreshnessCurrent, Version: gv.Version, Resources: resources,
	})
	return nil
}

// addresses tells clients nothing: the one address they know is right.
type addresses struct{}

func (addresses) ServerAddressByClientCIDRs(net.IP) []metav1.ServerAddressByClientCIDR { return nil }
