package api

import (
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	extensionsopenapi "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	apiopenapi "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	aggregatoropenapi "k8s.io/kube-aggregator/pkg/generated/openapi"
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
	c := genericapiserver.DefaultOpenAPIV3Config(definitions, apiopenapi.NewDefinitionNamer(s))
	c.GetDefinitionName = definitionNames(s)
	c.Definitions = definitions(func(name string) spec.Ref {
		def, _ := c.GetDefinitionName(name)
		return spec.MustCreateRef("#/components/schemas/" + common.EscapeJsonPointer(def))
	})
	c.Info.Title, c.Info.Version = schemaTitle, version
	return c
}

func openAPIv2(s *runtime.Scheme, version string) *common.Config {
	c := genericapiserver.DefaultOpenAPIConfig(definitions, apiopenapi.NewDefinitionNamer(s))
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

// definitions are the schemas of the Go types of all kinds.
func definitions(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	out := openapi.GetOpenAPIDefinitions(ref)
	for _, more := range []common.GetOpenAPIDefinitions{extensionsopenapi.GetOpenAPIDefinitions, aggregatoropenapi.GetOpenAPIDefinitions} {
		for name, def := range more(ref) {
			if _, ok := out[name]; !ok {
				out[name] = def
			}
		}
	}
	return out
}
