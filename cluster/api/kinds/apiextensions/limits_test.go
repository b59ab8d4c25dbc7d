package apiextensions

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
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
	ruled := func(n int, rule string) *apiextensionsv1.JSONSchemaProps {
		return &apiextensionsv1.JSONSchemaProps{Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{
			"a": {Type: "object", XValidations: slices.Repeat(apiextensionsv1.ValidationRules{{Rule: rule}}, n)}}}
	}
	patterned := func(n int, pattern string) *apiextensionsv1.JSONSchemaProps {
		s := wide(n)
		for name, p := range s.Properties {
			p.Pattern = pattern
			s.Properties[name] = p
		}
		return s
	}
	const path = "spec.versions[0].schema.openAPIV3Schema"
	for name, test := range map[string]struct {
		schema *apiextensionsv1.JSONSchemaProps
		want   string
	}{
		"deep":       {deep(maxDepth), ""},
		"too deep":   {deep(maxDepth + 1), path + ": Forbidden: must not be nested deeper than 256 levels"},
		"wide":       {wide(maxSchemas - 1), ""},
		"too wide":   {wide(maxSchemas + 1), path + ": Too many: 30001: must have at most 30000 items"},
		"none":       {nil, ""},
		"ruled":      {ruled(maxRules, "true"), ""},
		"rules":      {ruled(maxRules+1, "true"), path + ": Forbidden: must not have more than 1000 validation rules"},
		"rule":       {ruled(1, strings.Repeat("x", maxRuleText+1)), path + ": Forbidden: must not have more than 262144 bytes of validation rules"},
		"patterns":   {patterned(1000, `^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`), ""},
		"pattern":    {patterned(200, `(aa|bc|de){1000}`), path + ": Forbidden: must not have patterns of more than 500000 steps"},
		"no pattern": {patterned(10, `((a{1000}){1000}`), ""},
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

// TestLimitsAreForWhatIsNew: a definition that is too large already can still be changed.
func TestLimitsAreForWhatIsNew(t *testing.T) {
	t.Parallel()
	build := func(rules int) *apiextensionsv1.CustomResourceDefinition {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		crd.Spec.Versions = []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Schema: &apiextensionsv1.CustomResourceValidation{
			OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XValidations: slices.Repeat(apiextensionsv1.ValidationRules{{Rule: "x"}}, rules)}}}}
		return crd
	}
	k := CustomResourceDefinition()
	for _, tc := range []struct {
		old, now int
		refused  bool
	}{{1, maxRules + 1, true}, {maxRules + 1, maxRules + 2, false}, {maxRules + 1, 1, false}} {
		refused := slices.ContainsFunc(k.ValidateUpdate(t.Context(), build(tc.now), build(tc.old)), func(err *field.Error) bool { return strings.Contains(err.Detail, "validation rules") })
		if refused != tc.refused {
			t.Errorf("from %d to %d rules: refused %v", tc.old, tc.now, refused)
		}
	}
}

// TestEveryPlaceOfSchemasIsLookedAt nests schemas by each field that can hold any.
func TestEveryPlaceOfSchemasIsLookedAt(t *testing.T) {
	t.Parallel()
	props := reflect.TypeFor[apiextensionsv1.JSONSchemaProps]()
	places := 0
	for i := range props.NumField() {
		f := props.Field(i)
		for _, hold := range holders(f.Type) {
			places++
			s := apiextensionsv1.JSONSchemaProps{Type: "object"}
			for range maxDepth {
				outer := apiextensionsv1.JSONSchemaProps{Type: "object"}
				reflect.ValueOf(&outer).Elem().Field(i).Set(hold(s))
				s = outer
			}
			if left := (budget{maxSchemas, maxRules, maxRuleText, maxSteps}); left.take(&s, maxDepth) {
				t.Errorf("%d levels of %s are taken", maxDepth+1, f.Name)
			}
		}
	}
	if places == 0 {
		t.Error("no field holds a schema")
	}
}

// holders returns how a value of type t can hold a schema, in each of its ways.
func holders(t reflect.Type) (out []func(apiextensionsv1.JSONSchemaProps) reflect.Value) {
	schema := reflect.TypeFor[apiextensionsv1.JSONSchemaProps]()
	if t == schema {
		return append(out, func(s apiextensionsv1.JSONSchemaProps) reflect.Value { return reflect.ValueOf(s) })
	}
	within := func(inner reflect.Type, wrap func(reflect.Value) reflect.Value) {
		for _, hold := range holders(inner) {
			out = append(out, func(s apiextensionsv1.JSONSchemaProps) reflect.Value { return wrap(hold(s)) })
		}
	}
	switch t.Kind() {
	case reflect.Pointer:
		within(t.Elem(), func(v reflect.Value) reflect.Value {
			p := reflect.New(t.Elem())
			p.Elem().Set(v)
			return p
		})
	case reflect.Slice:
		within(t.Elem(), func(v reflect.Value) reflect.Value { return reflect.Append(reflect.MakeSlice(t, 0, 1), v) })
	case reflect.Map:
		within(t.Elem(), func(v reflect.Value) reflect.Value {
			m := reflect.MakeMap(t)
			m.SetMapIndex(reflect.ValueOf("a"), v)
			return m
		})
	case reflect.Struct:
		for i := range t.NumField() {
			within(t.Field(i).Type, func(v reflect.Value) reflect.Value {
				s := reflect.New(t).Elem()
				s.Field(i).Set(v)
				return s
			})
		}
	}
	return out
}
