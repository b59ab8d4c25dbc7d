package podspec

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Kinds of which Kubernetes words it differently: of a daemon set it says only that a missing selector
// selects nothing.
const (
	daemonSet   = "daemonset"
	statefulSet = "statefulset"
)

// ValidateSelector checks the selector of a workload and that it selects the pods made from its
// template. path is that of the spec both are in, kind the workload's name in errors.
func ValidateSelector(sel *metav1.LabelSelector, t *corev1.PodTemplateSpec, kind string, path *field.Path) field.ErrorList {
	at := path.Child("selector")
	errs := metavalidation.ValidateLabelSelector(sel, metavalidation.LabelSelectorValidationOptions{}, at)
	switch {
	case sel == nil && kind != daemonSet:
		errs = append(errs, field.Required(at, ""))
	case sel != nil && len(sel.MatchLabels)+len(sel.MatchExpressions) == 0:
		errs = append(errs, field.Invalid(at, sel, "empty selector is invalid for "+kind))
	}
	selector, err := metav1.LabelSelectorAsSelector(sel)
	if err != nil {
		if kind == daemonSet { // the first check has said it
			return errs
		}
		return append(errs, field.Invalid(at, sel, map[bool]string{kind != statefulSet: "invalid label selector"}[true]))
	}
	if !selector.Empty() && !selector.Matches(labels.Set(t.Labels)) {
		errs = append(errs, field.Invalid(path.Child("template", "metadata", "labels"), t.Labels, "`selector` does not match template `labels`"))
	}
	return errs
}

// ValidateLasting checks a template whose pods are to run for good: they are started again
// whatever happens, and have no deadline.
func ValidateLasting(t *corev1.PodTemplateSpec, kind string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if t.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(path.Child("spec", "restartPolicy"), t.Spec.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(path.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in "+kind+" is not Supported"))
	}
	return errs
}
