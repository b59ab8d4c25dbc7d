package apiextensions

import (
	"fmt"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

func TestSchemasHaveASize(t *testing.T) {
	t.Parallel()
	deep := func(n int) *apiextensionsv1.JSONSchemaProps {
		s := &apiextensionsv1.JSONSchemaProps{Type: "string"}
		for i := 1; i < n; i++ {
			s = &apiextensionsv1.JSONSchemaProps{Type: "array", Items: &apiextensionsv1.JSONSchemaPropsOrArray{Schema: s}}
		}
		return s
	}
	wide := func(n int) *apiextensionsv1.JSONSchemaProps {
		s := &apiextensionsv1.JSONSchemaProps{Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{}}
		for i := 1; i < n; i++ {
			s.Properties[fmt.Sprint(i)] = apiextensionsv1.JSONSchemaProps{Type: "string"}
		}
		return s
	}
	const path = "spec.versions[0].schema.openAPIV3Schema"
	for name, test := range map[string]struct {
		schema *apiextensionsv1.JSONSchemaProps
		want   string
	}{
		"deep":     {deep(maxDepth), ""},
		"too deep": {deep(maxDepth + 1), path + ": Forbidden: must not be nested deeper than 256 levels"},
		"wide":     {wide(maxSchemas - 1), ""},
		"too wide": {wide(maxSchemas + 1), path + ": Too many: 30001: must have at most 30000 items"},
		"none":     {nil, ""},
	} {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		crd.Spec.Versions = []apiextensionsv1.CustomResourceDefinitionVersion{{Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: test.schema}}}
		got := ""
		if errs := validateSize(crd); len(errs) > 0 {
			got = errs[0].Error()
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
