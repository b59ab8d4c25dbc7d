package check

import (
	"regexp"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Invalid turns the messages of a string validator into field errors.
func Invalid(value any, msgs []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range msgs {
		errs = append(errs, field.Invalid(path, value, msg))
	}
	return errs
}

// NonNegative refuses numbers below zero.
func NonNegative[N ~int | ~int32 | ~int64](n N, path *field.Path) field.ErrorList {
	return apivalidation.ValidateNonnegativeField(int64(n), path)
}

// OptionalNonNegative is [NonNegative] for a number that may be left out.
func OptionalNonNegative[N ~int32 | ~int64](n *N, path *field.Path) field.ErrorList {
	if n == nil {
		return nil
	}
	return NonNegative(*n, path)
}

// Positive refuses zero and numbers below.
func Positive[N ~int | ~int32 | ~int64](n N, path *field.Path) field.ErrorList {
	if n > 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, n, "must be greater than 0")}
}

// OneOf refuses values outside a set; an empty one is missing.
func OneOf[T ~string](v T, valid sets.Set[T], path *field.Path) field.ErrorList {
	if v == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return OneOfOrBad(v, valid, path)
}

// OneOfOrBad refuses values outside a set, the empty one too, all with the list of valid ones.
func OneOfOrBad[T ~string](v T, valid sets.Set[T], path *field.Path) field.ErrorList {
	if valid.Has(v) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, v, sets.List(valid))}
}

// OptionalOneOf is [OneOfOrBad] for a value that may be left out.
func OptionalOneOf[T ~string](v *T, valid sets.Set[T], path *field.Path) field.ErrorList {
	if v == nil {
		return nil
	}
	return OneOfOrBad(*v, valid, path)
}

// QualifiedName checks a label-like key ("example.com/name").
func QualifiedName(v string, path *field.Path) field.ErrorList {
	return Invalid(v, content.IsLabelKey(v), path)
}

// LabelValue checks the value of a label.
func LabelValue(v string, path *field.Path) field.ErrorList {
	return Invalid(v, content.IsLabelValue(v), path)
}

// DNSLabel checks a DNS label.
func DNSLabel(v string, path *field.Path) field.ErrorList {
	return Invalid(v, validation.IsDNS1123Label(v), path)
}

// DNSSubdomain checks a DNS subdomain.
func DNSSubdomain(v string, path *field.Path) field.ErrorList {
	return Invalid(v, validation.IsDNS1123Subdomain(v), path)
}

// Port checks a port number.
func Port(n int32, path *field.Path) field.ErrorList {
	return Invalid(n, validation.IsValidPortNum(int(n)), path)
}

// PortNumOrName checks a port that is given by number or by a container port's name.
func PortNumOrName(p intstr.IntOrString, path *field.Path) field.ErrorList {
	switch p.Type {
	case intstr.Int:
		return Invalid(p.IntValue(), validation.IsValidPortNum(p.IntValue()), path)
	case intstr.String:
		return Invalid(p.StrVal, validation.IsValidPortName(p.StrVal), path)
	}
	return field.ErrorList{field.InternalError(path, errUnknownType)}
}

// NonNegativeIntOrPercent checks a count or a percentage.
func NonNegativeIntOrPercent(v intstr.IntOrString, path *field.Path) field.ErrorList {
	switch v.Type {
	case intstr.String:
		return Invalid(v, validation.IsValidPercent(v.StrVal), path)
	case intstr.Int:
		return NonNegative(v.IntValue(), path)
	}
	return field.ErrorList{field.Invalid(path, v, "must be an integer or percentage (e.g '5%%')")}
}

var percent = regexp.MustCompile(`^([0-9]+)%$`)

// Percent returns the number of a percentage; ok is false when v is none.
func Percent(v intstr.IntOrString) (n int, ok bool) {
	if v.Type != intstr.String {
		return 0, false
	}
	m := percent.FindStringSubmatch(v.StrVal)
	if m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(m[1])
	return n, err == nil
}

// AtMost100Percent refuses percentages above 100.
func AtMost100Percent(v intstr.IntOrString, path *field.Path) field.ErrorList {
	if n, ok := Percent(v); !ok || n <= 100 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, v, "must not be greater than 100%")}
}

var standardFinalizers = sets.New(string(corev1.FinalizerKubernetes), metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents)

// FinalizerName checks the name of a finalizer: one of Kubernetes' own, or one with a domain.
func FinalizerName(name string, path *field.Path) field.ErrorList {
	errs := apivalidation.ValidateFinalizerName(name, path)
	if !strings.Contains(name, "/") && !standardFinalizers.Has(name) {
		errs = append(errs, field.Invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified"))
	}
	return errs
}
