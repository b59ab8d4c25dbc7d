package custom

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Stamps names each version that custom resources are served in by what its schemas are made of, so
// that it is known whether they changed without making them.
func (s *Server) Stamps() map[schema.GroupVersion]string {
	made := map[schema.GroupVersion][]string{}
	for _, crd := range s.all() {
		for _, v := range crd.Spec.Versions {
			if v.Served {
				gv := schema.GroupVersion{Group: crd.Spec.Group, Version: v.Name}
				made[gv] = append(made[gv], fmt.Sprintf("%s.%d", crd.UID, crd.Generation))
			}
		}
	}
	out := make(map[schema.GroupVersion]string, len(made))
	for gv, of := range made {
		slices.Sort(of)
		out[gv] = fmt.Sprintf("%X", sha256.Sum256([]byte(strings.Join(of, " "))))
	}
	return out
}

// SchemasV3 makes the document of /openapi/v3 for one version.
func (s *Server) SchemasV3(gv schema.GroupVersion) (*spec3.OpenAPI, error) {
	var specs []*spec3.OpenAPI
	err := s.each(func(crd *apiextensionsv1.CustomResourceDefinition, version string) error {
		if crd.Spec.Group != gv.Group || version != gv.Version {
			return nil
		}
		one, err := builder.BuildOpenAPIV3(crd, version, builder.Options{IncludeSelectableFields: true})
		specs = append(specs, one)
		return err
	})
	if err != nil {
		return nil, err
	}
	return builder.MergeSpecsV3(specs...)
}

// SchemasV2 adds what is custom to the document of /openapi/v2.
func (s *Server) SchemasV2(static *spec.Swagger) (*spec.Swagger, error) {
	var specs []*spec.Swagger
	err := s.each(func(crd *apiextensionsv1.CustomResourceDefinition, version string) error {
		one, err := builder.BuildOpenAPIV2(crd, version, builder.Options{V2: true, IncludeSelectableFields: true})
		if err != nil {
			return err
		}
		one.Definitions = handler.PruneDefaults(one.Definitions)
		specs = append(specs, one)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return builder.MergeSpecs(static, specs...)
}

// each calls fn with all that is served, in the order of names.
func (s *Server) each(fn func(crd *apiextensionsv1.CustomResourceDefinition, version string) error) error {
	for _, crd := range s.all() {
		for _, v := range crd.Spec.Versions {
			if !v.Served {
				continue
			}
			if err := fn(crd, v.Name); err != nil {
				return fmt.Errorf("schema of %s in %s: %w", crd.Name, v.Name, err)
			}
		}
	}
	return nil
}
