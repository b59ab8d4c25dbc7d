package api

import (
	"net/http"
	"slices"
	"sync"

	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	apiopenapi "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/common"
	openapiutil "k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/openapi"
)

// schemaTitle is what Kubernetes calls its own document; clients' caches compare it.
const schemaTitle = "Kubernetes"

// definitionNames names the Go types in schemas. The stock namer lists every registered version,
// the internal one too, which the outside must not see.
func definitionNames(s *runtime.Scheme) func(string) (string, spec.Extensions) {
	namer := apiopenapi.NewDefinitionNamer(s)
	return func(name string) (string, spec.Extensions) {
		out, ext := namer.GetDefinitionName(name)
		gvks, ok := ext["x-kubernetes-group-version-kind"].([]any)
		if !ok {
			return out, ext
		}
		gvks = slices.DeleteFunc(slices.Clone(gvks), func(gvk any) bool {
			m, ok := gvk.(map[string]any)
			return ok && m["version"] == runtime.APIVersionInternal
		})
		if len(gvks) == 0 {
			return out, nil
		}
		return out, spec.Extensions{"x-kubernetes-group-version-kind": gvks}
	}
}

func openAPIv3(s *runtime.Scheme, version string) *common.OpenAPIV3Config {
	c := genericapiserver.DefaultOpenAPIV3Config(openapi.GetOpenAPIDefinitions, apiopenapi.NewDefinitionNamer(s))
	c.GetDefinitionName = definitionNames(s)
	c.Definitions = openapi.GetOpenAPIDefinitions(func(name string) spec.Ref {
		def, _ := c.GetDefinitionName(name)
		return spec.MustCreateRef("#/components/schemas/" + common.EscapeJsonPointer(def))
	})
	c.Info.Title, c.Info.Version = schemaTitle, version
	return c
}

func openAPIv2(s *runtime.Scheme, version string) *common.Config {
	c := genericapiserver.DefaultOpenAPIConfig(openapi.GetOpenAPIDefinitions, apiopenapi.NewDefinitionNamer(s))
	c.GetDefinitionName = definitionNames(s)
	c.Info.Title, c.Info.Version = schemaTitle, version
	return c
}

// typeConverter builds what server-side apply knows of the kinds.
func typeConverter(s *runtime.Scheme, kinds []kind.Kind) (managedfields.TypeConverter, error) {
	// Besides the kinds, what their subresources speak.
	objs := []runtime.Object{
		&authenticationv1.TokenRequest{}, &autoscalingv1.Scale{}, &corev1.Binding{}, &policyv1.Eviction{},
	}
	for i := range kinds {
		objs = append(objs, kinds[i].New())
		for _, v := range kinds[i].Versions {
			objs = append(objs, v.New())
		}
	}
	names := make([]string, len(objs))
	for i := range objs {
		names[i] = openapiutil.GetCanonicalTypeName(objs[i])
	}
	defs, err := builder3.BuildOpenAPIDefinitionsForResources(openAPIv3(s, ""), names...)
	if err != nil {
		return nil, err
	}
	return managedfields.NewTypeConverter(defs, false)
}

// serveSchemas answers /openapi/v2 and /openapi/v3, building each when it is first asked for.
func (s *Server) serveSchemas(version string) {
	container, m := s.generic.Handler.GoRestfulContainer, s.generic.Handler.NonGoRestfulMux
	v2 := sync.OnceValue(func() http.Handler {
		sub := mux.NewPathRecorderMux("openapi-v2")
		routes.OpenAPI{Config: openAPIv2(s.codecs.scheme, version)}.InstallV2(container, sub)
		return sub
	})
	v3 := sync.OnceValue(func() http.Handler {
		sub := mux.NewPathRecorderMux("openapi-v3")
		routes.OpenAPI{V3Config: openAPIv3(s.codecs.scheme, version)}.InstallV3(container, sub)
		return sub
	})
	lazy := func(build func() http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { build().ServeHTTP(w, r) })
	}
	m.UnlistedHandle("/openapi/v2", lazy(v2))
	m.Handle("/openapi/v3", lazy(v3))
	m.HandlePrefix("/openapi/v3/", lazy(v3))
}
