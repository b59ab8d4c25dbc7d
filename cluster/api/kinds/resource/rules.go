package resource

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	dracel "k8s.io/dynamic-resource-allocation/cel"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

var specPath = field.NewPath("spec")

// eachOf checks the items of a list of at most limit (below zero: any number).
func eachOf[T any](list []T, limit int, path *field.Path, validate func(*T, *field.Path) field.ErrorList) field.ErrorList {
	var errs field.ErrorList
	if limit >= 0 && len(list) > limit {
		errs = append(errs, field.TooMany(path, len(list), limit))
	}
	for i := range list {
		errs = append(errs, validate(&list[i], path.Index(i))...)
	}
	return errs
}

// setOf is [eachOf] for items with a key that no two share.
func setOf[T any, K comparable](list []T, limit int, path *field.Path, key func(*T) K, validate func(*T, *field.Path) field.ErrorList) field.ErrorList {
	seen := make(map[K]bool, len(list))
	return eachOf(list, limit, path, func(item *T, at *field.Path) field.ErrorList {
		errs := validate(item, at)
		k := key(item)
		if seen[k] {
			errs = append(errs, field.Duplicate(at, k))
		}
		seen[k] = true
		return errs
	})
}

// required checks a text that has to be there by one of the string validators.
func required(v string, path *field.Path, valid func(string) []string) field.ErrorList {
	if v == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return check.Invalid(v, valid(v), path)
}

func validateDriver(name string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(name) > resourcev1.DriverNameMaxLength {
		errs = append(errs, field.TooLong(path, name, resourcev1.DriverNameMaxLength))
	}
	return append(errs, required(name, path, func(v string) []string { return validation.IsDNS1123Subdomain(strings.ToLower(v)) })...)
}

func validatePool(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if len(name) > resourcev1.PoolNameMaxLength {
		errs = append(errs, field.TooLong(path, name, resourcev1.PoolNameMaxLength))
	}
	for part := range strings.SplitSeq(name, "/") {
		errs = append(errs, check.DNSSubdomain(part, path)...)
	}
	return errs
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// validateQualifiedName checks "name" or "domain/name", where the name is a C identifier, as CEL wants it.
func validateQualifiedName(name string, path *field.Path, domain bool) field.ErrorList {
	var errs field.ErrorList
	parts := strings.Split(name, "/")
	switch {
	case len(parts) > 2:
		return nil // an oversight in Kubernetes, which objects may rely on
	case len(parts) == 2 && parts[0] == "":
		errs = append(errs, field.Invalid(path, "", "the domain must not be empty"))
	case len(parts) == 2:
		errs = append(errs, validateDriver(parts[0], path)...)
	case domain:
		errs = append(errs, field.Invalid(path, name, "a fully qualified name must be a domain and a name separated by a slash"))
	}
	id := parts[len(parts)-1]
	if len(id) > resourcev1.DeviceMaxIDLength {
		errs = append(errs, field.TooLong(path, id, resourcev1.DeviceMaxIDLength))
	}
	switch {
	case id == "" && len(parts) == 2:
		errs = append(errs, field.Invalid(path, "", "the name must not be empty"))
	case !identifier.MatchString(id):
		errs = append(errs, field.Invalid(path, id, validation.RegexError("a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
			"[A-Za-z_][A-Za-z0-9_]*", "my_name", "MY_NAME", "MyName")))
	}
	return errs
}

// features of selectors: all fields of devices are served, so expressions may speak of them.
var features = dracel.Features{EnableConsumableCapacity: true, EnableListTypeAttributes: true}

func validateSelectors(list []resourcev1.DeviceSelector, path *field.Path, stored bool) field.ErrorList {
	return eachOf(list, resourcev1.DeviceSelectorsMaxSize, path, func(s *resourcev1.DeviceSelector, at *field.Path) field.ErrorList {
		at = at.Child("cel")
		if s.CEL == nil {
			return field.ErrorList{field.Required(at, "")}
		}
		return validateExpression(s.CEL.Expression, at.Child("expression"), stored)
	})
}

// validateExpression compiles a selector, unless it was accepted before.
func validateExpression(text string, path *field.Path, stored bool) field.ErrorList {
	if stored {
		return nil
	}
	env := environment.NewExpressions
	if len(text) > resourcev1.CELSelectorExpressionMaxLength {
		return field.ErrorList{field.TooLong(path, "", resourcev1.CELSelectorExpressionMaxLength)}
	}
	result := dracel.GetCompiler(features).CompileCELExpression(text, dracel.Options{EnvType: &env})
	switch {
	case result.Error == nil && result.MaxCost > resourcev1.CELSelectorExpressionMaxCost:
		return field.ErrorList{field.Forbidden(path, "too complex, exceeds cost limit")}
	case result.Error == nil:
		return nil
	}
	switch result.Error.Type {
	case apiservercel.ErrorTypeRequired:
		return field.ErrorList{field.Required(path, result.Error.Detail)}
	case apiservercel.ErrorTypeInvalid:
		return field.ErrorList{field.Invalid(path, text, result.Error.Detail)}
	}
	return field.ErrorList{field.InternalError(path, errors.New(result.Error.Detail))}
}

func validateConfiguration(c *resourcev1.DeviceConfiguration, path *field.Path, stored bool) field.ErrorList {
	path = path.Child("opaque")
	if c.Opaque == nil {
		return field.ErrorList{field.Required(path, "")}
	}
	errs := validateDriver(c.Opaque.Driver, path.Child("driver"))
	return append(errs, validateRaw(&c.Opaque.Parameters, path.Child("parameters"), stored, resourcev1.OpaqueParametersMaxLength)...)
}

// validateRaw checks what only a driver understands: it has to be an object, and not a large one.
func validateRaw(raw *runtime.RawExtension, path *field.Path, stored bool, limit int) field.ErrorList {
	const omitted = "<value omitted>"
	if len(raw.Raw) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	if !stored && len(raw.Raw) > limit {
		return field.ErrorList{field.TooLong(path, "", limit)}
	}
	var v any
	if err := json.Unmarshal(raw.Raw, &v); err != nil {
		return field.ErrorList{field.Invalid(path, omitted, fmt.Sprintf("error parsing data as JSON: %v", err))}
	}
	if v == nil {
		return field.ErrorList{field.Required(path, "")}
	}
	if _, ok := v.(map[string]any); !ok {
		return field.ErrorList{field.Invalid(path, omitted, "must be a valid JSON object")}
	}
	return nil
}
