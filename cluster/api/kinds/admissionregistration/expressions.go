package admissionregistration

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	"k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

// maxConditions is how many match conditions one hook or policy may have.
const maxConditions = 64

// An object's expressions are compiled when it is written, and again where it applies; a thousand take
// a good part of a second. Kubernetes has no such limits, and nobody comes near them.
const (
	maxExpressions    = 1_000
	maxExpressionText = 256 << 10 // bytes of all
)

// validateSize refuses more expressions than that, unless there were too many before. What it refuses
// is not to be compiled.
func validateSize(now, before []string, at *field.Path) field.ErrorList {
	if !tooLarge(now) || tooLarge(before) {
		return nil
	}
	return field.ErrorList{field.Forbidden(at, fmt.Sprintf("must not have more than %d expressions, or %d bytes of them", maxExpressions, maxExpressionText))}
}

func tooLarge(expressions []string) bool {
	n, text := 0, 0
	for _, x := range expressions {
		text += len(x)
		if x != "" {
			n++
		}
	}
	return n > maxExpressions || text > maxExpressionText
}

// baseEnv takes tens of milliseconds to build and some megabytes, so only who has expressions pays.
var baseEnv = sync.OnceValue(func() *environment.EnvSet {
	return environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
})

var stateless = sync.OnceValue(func() plugincel.Compiler { return plugincel.NewCompiler(baseEnv()) })

// expressions compiles the expressions of one object. Those that the object had before are good
// with the language of its time; new ones must be with what every server of a cluster knows.
type expressions struct {
	before sets.Set[string]
	params bool
	// composed knows the variables of a policy.
	composed *plugincel.CompositedCompiler
}

// newExpressions is for an object with variables, or without.
func newExpressions(variables, params bool, before []string) (*expressions, error) {
	e := &expressions{before: sets.New(before...), params: params}
	if !variables {
		return e, nil
	}
	var err error
	e.composed, err = plugincel.NewCompositedCompiler(baseEnv())
	return e, err
}

func (e *expressions) mode(expression string) environment.Type {
	if e.before.Has(expression) {
		return environment.StoredExpressions
	}
	return environment.NewExpressions
}

// check compiles an expression; authorizer and patch say what it may use beside the request.
func (e *expressions) check(x plugincel.ExpressionAccessor, authorizer, patch bool, at *field.Path) field.ErrorList {
	opts := plugincel.OptionalVariableDeclarations{HasParams: e.params, HasAuthorizer: authorizer, HasPatchTypes: patch}
	if e.composed != nil {
		return celErrors(e.composed.CompileCELExpression(x, opts, e.mode(x.GetExpression())), x.GetExpression(), at)
	}
	return celErrors(stateless().CompileCELExpression(x, opts, e.mode(x.GetExpression())), x.GetExpression(), at)
}

func celErrors(r plugincel.CompilationResult, expression string, at *field.Path) field.ErrorList {
	if r.Error == nil {
		return nil
	}
	switch r.Error.Type {
	case cel.ErrorTypeRequired:
		return field.ErrorList{field.Required(at, r.Error.Detail)}
	case cel.ErrorTypeInvalid:
		return field.ErrorList{field.Invalid(at, expression, r.Error.Detail)}
	}
	return field.ErrorList{field.InternalError(at, r.Error)}
}

// conditions checks match conditions, which know no variables.
func (e *expressions) conditions(list []admissionv1.MatchCondition, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(list) > maxConditions {
		errs = append(errs, field.TooMany(at, len(list), maxConditions))
		list = list[:maxConditions]
	}
	plain := expressions{before: e.before, params: e.params}
	seen := sets.New[string]()
	for i, c := range list {
		at := at.Index(i)
		if x := strings.TrimSpace(c.Expression); x == "" {
			errs = append(errs, field.Required(at.Child("expression"), ""))
		} else {
			errs = append(errs, plain.check(&matchconditions.MatchCondition{Expression: x}, true, false, at.Child("expression"))...)
		}
		if c.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
			continue
		}
		errs = append(errs, check.QualifiedName(c.Name, at.Child("name"))...)
		if seen.Has(c.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		seen.Insert(c.Name)
	}
	return errs
}

var (
	identifier = regexp.MustCompile("^[_a-zA-Z][_a-zA-Z0-9]*$")
	reserved   = sets.New("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if",
		"import", "let", "loop", "package", "namespace", "return", "var", "void", "while")
)

// variables checks the variables of a policy and makes them known to the expressions that follow.
func (e *expressions) variables(list []admissionv1.Variable, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, v := range list {
		at := at.Index(i)
		if strings.TrimSpace(v.Name) == "" {
			errs = append(errs, field.Required(at.Child("name"), "name is not specified"))
		} else if !identifier.MatchString(v.Name) || reserved.Has(v.Name) {
			errs = append(errs, field.Invalid(at.Child("name"), v.Name, "must be a valid CEL identifier"))
		}
		if strings.TrimSpace(v.Expression) == "" {
			errs = append(errs, field.Required(at.Child("expression"), "expression is not specified"))
			continue
		}
		opts := plugincel.OptionalVariableDeclarations{HasParams: e.params, HasAuthorizer: true}
		result := e.composed.CompileAndStoreVariable(&validating.Variable{Name: v.Name, Expression: v.Expression}, opts, e.mode(v.Expression))
		errs = append(errs, celErrors(result, v.Expression, at.Child("expression"))...)
	}
	return errs
}

// internal is the error of a compiler that could not be made.
func internal(at *field.Path, err error) field.ErrorList {
	return field.ErrorList{field.InternalError(at, fmt.Errorf("make a CEL compiler: %w", err))}
}
