package apiextensions

import (
	"fmt"
	"regexp/syntax"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The library bounds what rules cost when they run, not how large a schema is, nor what it takes to
// compile it. A definition of a megabyte with nothing but brackets in it would take a hundred times
// that in memory, for ever, and one of patterns gigabytes while it is checked; the largest ones in use
// have a few thousand schemas, some twenty levels deep, and a few hundred rules.
const (
	maxSchemas  = 30_000
	maxDepth    = 256
	maxRules    = 1_000
	maxRuleText = 256 << 10 // bytes of all expressions
	maxSteps    = 500_000   // of all patterns, see steps
)

// validateSize refuses schemas that are large or deep beyond all use.
func validateSize(crd *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	left := budget{maxSchemas, maxRules, maxRuleText, maxSteps}
	for i := range crd.Spec.Versions {
		v := &crd.Spec.Versions[i]
		if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
			continue
		}
		if left.take(v.Schema.OpenAPIV3Schema, maxDepth) {
			continue
		}
		path := field.NewPath("spec", "versions").Index(i).Child("schema", "openAPIV3Schema")
		switch {
		case left.schemas <= 0:
			return field.ErrorList{field.TooMany(path, maxSchemas+1, maxSchemas)}
		case left.rules < 0:
			return field.ErrorList{field.Forbidden(path, fmt.Sprintf("must not have more than %d validation rules", maxRules))}
		case left.text < 0:
			return field.ErrorList{field.Forbidden(path, fmt.Sprintf("must not have more than %d bytes of validation rules", maxRuleText))}
		case left.steps < 0:
			return field.ErrorList{field.Forbidden(path, fmt.Sprintf("must not have patterns of more than %d steps", maxSteps))}
		}
		return field.ErrorList{field.Forbidden(path, fmt.Sprintf("must not be nested deeper than %d levels", maxDepth))}
	}
	return nil
}

// budget is what a definition may still have.
type budget struct{ schemas, rules, text, steps int }

// take counts what a schema has and says whether that is not too much, in not too many levels.
func (b *budget) take(s *apiextensionsv1.JSONSchemaProps, depth int) bool {
	b.schemas--
	b.rules -= len(s.XValidations)
	for i := range s.XValidations {
		b.text -= len(s.XValidations[i].Rule) + len(s.XValidations[i].MessageExpression)
	}
	if s.Pattern != "" {
		b.steps -= patternSteps(s.Pattern)
	}
	if depth == 0 || b.schemas <= 0 || b.rules < 0 || b.text < 0 || b.steps < 0 {
		return false
	}
	ok := true
	one := func(s *apiextensionsv1.JSONSchemaProps) { ok = ok && (s == nil || b.take(s, depth-1)) }
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
	for _, d := range s.Dependencies {
		one(d.Schema)
	}
	return ok
}

// patternSteps is about the number of instructions a pattern is compiled to. What is no pattern costs
// nothing: it is refused for that.
func patternSteps(pattern string) int {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0
	}
	return steps(re)
}

func steps(re *syntax.Regexp) int {
	n := 1
	if re.Op == syntax.OpLiteral {
		n = len(re.Rune)
	}
	for _, sub := range re.Sub {
		n += steps(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return min(n, maxSteps+1)
}
