package authorization

import (
	"errors"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateLabelSelector(s *authorizationv1.LabelSelectorAttributes, at *field.Path) field.ErrorList {
	if s == nil {
		return nil
	}
	errs := oneForm(s.RawSelector, len(s.Requirements), at)
	for i := range s.Requirements {
		errs = append(errs, metavalidation.ValidateLabelSelectorRequirement(s.Requirements[i],
			metavalidation.LabelSelectorValidationOptions{}, at.Child("requirements").Index(i))...)
	}
	return errs
}

func validateFieldSelector(s *authorizationv1.FieldSelectorAttributes, at *field.Path) field.ErrorList {
	if s == nil {
		return nil
	}
	errs := oneForm(s.RawSelector, len(s.Requirements), at)
	for i, r := range s.Requirements {
		at := at.Child("requirements").Index(i)
		if r.Key == "" {
			errs = append(errs, field.Required(at.Child("key"), "must be specified"))
		}
		switch r.Operator {
		case metav1.FieldSelectorOpIn, metav1.FieldSelectorOpNotIn:
			if len(r.Values) == 0 {
				errs = append(errs, field.Required(at.Child("values"), "must be specified when `operator` is 'In' or 'NotIn'"))
			}
		case metav1.FieldSelectorOpExists, metav1.FieldSelectorOpDoesNotExist:
			if len(r.Values) > 0 {
				errs = append(errs, field.Forbidden(at.Child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"))
			}
		default:
			errs = append(errs, field.Invalid(at.Child("operator"), r.Operator, "not a valid selector operator"))
		}
	}
	return errs
}

// oneForm says that a selector is given either as text or in parts.
func oneForm(raw string, parts int, at *field.Path) field.ErrorList {
	switch {
	case raw != "" && parts > 0:
		return field.ErrorList{field.Invalid(at.Child("rawSelector"), raw, "may not specified at the same time as requirements")}
	case raw == "" && parts == 0:
		return field.ErrorList{field.Required(at.Child("requirements"), fmt.Sprintf("when %s is specified, requirements or rawSelector is required", at))}
	}
	return nil
}

// labelRequirements returns the parts of a selector that could be read. The others are left out,
// which makes the question a wider one, never a narrower.
func labelRequirements(s *authorizationv1.LabelSelectorAttributes) (labels.Requirements, error) {
	if s.RawSelector != "" {
		parsed, err := labels.Parse(s.RawSelector)
		if err != nil {
			return nil, err
		}
		out, _ := parsed.Requirements()
		return out, nil
	}
	operators := map[metav1.LabelSelectorOperator]selection.Operator{
		metav1.LabelSelectorOpIn: selection.In, metav1.LabelSelectorOpNotIn: selection.NotIn,
		metav1.LabelSelectorOpExists: selection.Exists, metav1.LabelSelectorOpDoesNotExist: selection.DoesNotExist,
	}
	var out labels.Requirements
	var errs []error
	for _, r := range s.Requirements {
		op, ok := operators[r.Operator]
		if !ok {
			errs = append(errs, fmt.Errorf("%q is not a valid label selector operator", r.Operator))
			continue
		}
		requirement, err := labels.NewRequirement(r.Key, op, r.Values)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, *requirement)
	}
	return out, errors.Join(errs...)
}

// fieldRequirements is labelRequirements for fields, of which only single values can be compared.
func fieldRequirements(s *authorizationv1.FieldSelectorAttributes) (fields.Requirements, error) {
	if s.RawSelector != "" {
		parsed, err := fields.ParseSelector(s.RawSelector)
		if err != nil {
			return nil, err
		}
		return parsed.Requirements(), nil
	}
	var out fields.Requirements
	var errs []error
	for _, r := range s.Requirements {
		op := selection.Equals
		switch {
		case (r.Operator == metav1.FieldSelectorOpIn || r.Operator == metav1.FieldSelectorOpNotIn) && len(r.Values) != 1:
			errs = append(errs, fmt.Errorf("fieldSelectors in %q with operator %q must have exactly one value", r.Key, r.Operator))
			continue
		case r.Operator == metav1.FieldSelectorOpNotIn:
			op = selection.NotEquals
		case r.Operator != metav1.FieldSelectorOpIn:
			errs = append(errs, fmt.Errorf("fieldSelectors do not yet support %q", r.Operator))
			continue
		}
		out = append(out, fields.Requirement{Field: r.Key, Operator: op, Value: r.Values[0]})
	}
	return out, errors.Join(errs...)
}
