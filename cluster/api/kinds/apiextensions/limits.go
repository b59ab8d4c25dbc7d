package apiextensions

import (
	"fmt"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The library bounds what rules cost, not how large a schema is. A definition of a megabyte with
// nothing but brackets in it would take a hundred times that in memory, for ever; the largest ones in
// use have a few thousand schemas, some twenty levels deep.
const (
	maxSchemas = 30_000
	maxDepth   = 256
)

// validateSize refuses schemas that are large or deep beyond all use.
func validateSize(crd *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	left := maxSchemas
	for i := range crd.Spec.Versions {
		v := &crd.Spec.Versions[i]
		if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
			continue
		}
		path := field.NewPath("spec", "versions").Index(i).Child("schema", "openAPIV3Schema")
		if !shallow(v.Schema.OpenAPIV3Schema, maxDepth, &left) {
			if left <= 0 {
				return field.ErrorList{field.TooMany(path, maxSchemas+1, maxSchemas)}
			}
			return field.ErrorList{field.Forbidden(path, fmt.Sprintf("must not be nested deeper than %d levels", maxDepth))}
		}
	}
	return nil
}

// shallow counts schemas and says whether there are not too many in too many levels.
func shallow(s *apiextensionsv1.JSONSchemaProps, depth int, left *int) bool {
	*left--
	if depth == 0 || *left <= 0 {
		return false
	}
	ok := true
	one := func(s *apiextensionsv1.JSONSchemaProps) { ok = ok && (s == nil || shallow(s, depth-1, left)) }
	many := func(list []apiextensionsv1.JSONSchemaProps) {
		for i := range list {
			one(&list[i])
		}
	}
	named := func(set map[string]apiextensionsv1.JSONSchemaProps) {
		for _, s := range set {
			one(&s)
		}
	}
	if s.Items != nil {
		one(s.Items.Schema)
		many(s.Items.JSONSchemas)
	}
	if s.AdditionalProperties != nil {
		one(s.AdditionalProperties.Schema)
	}
	if s.AdditionalItems != nil {
		one(s.AdditionalItems.Schema)
	}
	one(s.Not)
	many(s.AllOf)
	many(s.AnyOf)
	many(s.OneOf)
	named(s.Properties)
	named(s.PatternProperties)
	named(s.Definitions)
	return ok
}
