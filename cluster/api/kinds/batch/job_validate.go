package batch

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
)

// What a status can keep track of bounds jobs that count by index.
const (
	maxParallelism   = 100000
	maxFailedIndexes = 100000
	highCompletions  = 100000
	highParallelism  = 10000
	highFailed       = 10000
	maxManagedBy     = 63
)

var (
	completionModes = sets.New(batchv1.NonIndexedCompletion, batchv1.IndexedCompletion)
	replacements    = sets.New(batchv1.Failed, batchv1.TerminatingOrFailed)
)

func indexed(spec *batchv1.JobSpec) bool {
	return ptr.Deref(spec.CompletionMode, "") == batchv1.IndexedCompletion
}

func validateJob(job *batchv1.Job) field.ErrorList {
	errs := validateGenerated(job)
	errs = append(errs, validateSelected(&job.Spec)...)
	if n := ptr.Deref(job.Spec.Completions, 0); indexed(&job.Spec) && n > 0 {
		if host := fmt.Sprintf("%s-%d", job.Name, n-1); len(validation.IsDNS1123Label(host)) > 0 {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), job.Name, "will not able to create pod with invalid DNS label: "+host))
		}
	}
	return errs
}

// validateGenerated checks the labels of a job that selects its pods by its own UID.
func validateGenerated(job *batchv1.Job) field.ErrorList {
	if ptr.Deref(job.Spec.ManualSelector, false) || job.Spec.Selector == nil {
		return nil
	}
	var errs field.ErrorList
	if job.UID == "" {
		errs = append(errs, field.Required(field.NewPath("metadata", "uid"), ""))
	}
	at := specPath.Child("template", "metadata", "labels")
	own := ownLabels(job)
	for _, key := range []string{legacyUID, legacyJobName, batchv1.ControllerUidLabel, batchv1.JobNameLabel} {
		switch have, ok := job.Spec.Template.Labels[key]; {
		case !ok:
			errs = append(errs, field.Required(at.Key(key), fmt.Sprintf("must be '%s'", own[key])))
		case have != own[key]:
			errs = append(errs, field.Invalid(at.Key(key), job.Spec.Template.Labels, fmt.Sprintf("must be '%s'", own[key])))
		}
	}
	if sel, err := metav1.LabelSelectorAsSelector(job.Spec.Selector); err == nil && !sel.Matches(labels.Set(own)) {
		errs = append(errs, field.Invalid(specPath.Child("selector"), job.Spec.Selector, "`selector` not auto-generated"))
	}
	return errs
}

// validateSelected checks the spec of a job, whose selector has to select its pods.
func validateSelected(spec *batchv1.JobSpec) field.ErrorList {
	errs := validateJobSpec(spec, specPath)
	if spec.Selector == nil {
		return append(errs, field.Required(specPath.Child("selector"), ""))
	}
	errs = append(errs, metavalidation.ValidateLabelSelector(spec.Selector, metavalidation.LabelSelectorValidationOptions{}, specPath.Child("selector"))...)
	if sel, err := metav1.LabelSelectorAsSelector(spec.Selector); err == nil && !sel.Matches(labels.Set(spec.Template.Labels)) {
		errs = append(errs, field.Invalid(specPath.Child("template", "metadata", "labels"), spec.Template.Labels, "`selector` does not match template `labels`"))
	}
	return errs
}

// validateJobSpec checks what jobs and templates of jobs have in common.
func validateJobSpec(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	errs := check.OptionalNonNegative(spec.Parallelism, path.Child("parallelism"))
	errs = append(errs, check.OptionalNonNegative(spec.Completions, path.Child("completions"))...)
	errs = append(errs, check.OptionalNonNegative(spec.ActiveDeadlineSeconds, path.Child("activeDeadlineSeconds"))...)
	errs = append(errs, check.OptionalNonNegative(spec.BackoffLimit, path.Child("backoffLimit"))...)
	errs = append(errs, check.OptionalNonNegative(spec.TTLSecondsAfterFinished, path.Child("ttlSecondsAfterFinished"))...)
	errs = append(errs, check.OptionalNonNegative(spec.BackoffLimitPerIndex, path.Child("backoffLimitPerIndex"))...)
	if spec.MaxFailedIndexes != nil {
		errs = append(errs, check.NonNegative(*spec.MaxFailedIndexes, path.Child("maxFailedIndexes"))...)
		if spec.BackoffLimitPerIndex == nil {
			errs = append(errs, field.Required(path.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
		}
	}
	if by := spec.ManagedBy; by != nil {
		errs = append(errs, validation.IsDomainPrefixedPath(path.Child("managedBy"), *by)...)
		if len(*by) > maxManagedBy {
			errs = append(errs, field.TooLong(path.Child("managedBy"), *by, maxManagedBy))
		}
	}
	if spec.CompletionMode != nil {
		errs = append(errs, check.OneOfOrBad(*spec.CompletionMode, completionModes, path.Child("completionMode"))...)
		errs = append(errs, validateCounting(spec, path)...)
	}
	if spec.PodFailurePolicy != nil {
		errs = append(errs, validateFailurePolicy(spec, path.Child("podFailurePolicy"))...)
	}
	if spec.SuccessPolicy != nil {
		if indexed(spec) {
			errs = append(errs, validateSuccessPolicy(spec, path.Child("successPolicy"))...)
		} else {
			errs = append(errs, field.Invalid(path.Child("successPolicy"), *spec.SuccessPolicy, "requires indexed completion mode"))
		}
	}
	if p := spec.PodReplacementPolicy; p != nil {
		valid := replacements
		if spec.PodFailurePolicy != nil {
			valid = sets.New(batchv1.Failed)
		}
		errs = append(errs, check.OneOfOrBad(*p, valid, path.Child("podReplacementPolicy"))...)
	}
	errs = append(errs, podspec.ValidateTemplate(&spec.Template, path.Child("template"), podspec.Options{})...)
	return append(errs, validateRestart(spec, path.Child("template", "spec", "restartPolicy"))...)
}

// validateRestart checks that pods of a job come to an end. A policy that nobody has chosen is
// "Always" by default, so the message for that asks for a choice.
func validateRestart(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	switch policy := spec.Template.Spec.RestartPolicy; {
	case policy == "" || policy == corev1.RestartPolicyAlways:
		return field.ErrorList{field.Required(path, fmt.Sprintf("valid values: %q, %q", corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever))}
	case policy != corev1.RestartPolicyOnFailure && policy != corev1.RestartPolicyNever:
		return field.ErrorList{field.NotSupported(path, policy, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever})}
	case spec.PodFailurePolicy != nil && policy != corev1.RestartPolicyNever:
		return field.ErrorList{field.Invalid(path, policy, fmt.Sprintf("only %q is supported when podFailurePolicy is specified", corev1.RestartPolicyNever))}
	}
	return nil
}

// validateCounting checks what only makes sense, or only stays small, in one of the modes.
func validateCounting(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	failed := path.Child("maxFailedIndexes")
	if *spec.CompletionMode == batchv1.NonIndexedCompletion {
		if spec.BackoffLimitPerIndex != nil {
			errs = append(errs, field.Invalid(path.Child("backoffLimitPerIndex"), *spec.BackoffLimitPerIndex, "requires indexed completion mode"))
		}
		if spec.MaxFailedIndexes != nil {
			errs = append(errs, field.Invalid(failed, *spec.MaxFailedIndexes, "requires indexed completion mode"))
		}
		return errs
	}
	if !indexed(spec) {
		return nil
	}
	if spec.Completions == nil {
		errs = append(errs, field.Required(path.Child("completions"), fmt.Sprintf("when completion mode is %s", batchv1.IndexedCompletion)))
	}
	if n := spec.Parallelism; n != nil && *n > maxParallelism {
		errs = append(errs, field.Invalid(path.Child("parallelism"), *n, fmt.Sprintf("must be less than or equal to %d when completion mode is %s", maxParallelism, batchv1.IndexedCompletion)))
	}
	if n := spec.MaxFailedIndexes; n != nil {
		if spec.Completions != nil && *n > *spec.Completions {
			errs = append(errs, field.Invalid(failed, *n, "must be less than or equal to completions"))
		}
		if *n > maxFailedIndexes {
			errs = append(errs, field.Invalid(failed, *n, fmt.Sprintf("must be less than or equal to %d", maxFailedIndexes)))
		}
	}
	if ptr.Deref(spec.Completions, 0) <= highCompletions || spec.BackoffLimitPerIndex == nil {
		return errs
	}
	const many = "must be less than or equal to %d when completions are above %d and used with backoff limit per index"
	if spec.MaxFailedIndexes == nil {
		errs = append(errs, field.Required(failed, fmt.Sprintf("must be specified when completions is above %d", highCompletions)))
	} else if *spec.MaxFailedIndexes > highFailed {
		errs = append(errs, field.Invalid(failed, *spec.MaxFailedIndexes, fmt.Sprintf(many, highFailed, highCompletions)))
	}
	if n := spec.Parallelism; n != nil && *n > highParallelism {
		errs = append(errs, field.Invalid(path.Child("parallelism"), *n, fmt.Sprintf(many, highParallelism, highCompletions)))
	}
	return errs
}

func validateJobUpdate(job, old *batchv1.Job) field.ErrorList {
	spec, was := &job.Spec, &old.Spec
	errs := validateSelected(spec)
	errs = append(errs, validateCompletionsUpdate(spec, was)...)
	errs = append(errs, apivalidation.ValidateImmutableField(spec.Selector, was.Selector, specPath.Child("selector"))...)
	before := &was.Template
	if suspended(old) {
		before = before.DeepCopy()
		adoptScheduling(before, &spec.Template)
	}
	errs = append(errs, apivalidation.ValidateImmutableField(&spec.Template, before, specPath.Child("template"))...)
	for _, fixed := range []struct {
		child    string
		now, was any
	}{
		{"completionMode", spec.CompletionMode, was.CompletionMode},
		{"podFailurePolicy", spec.PodFailurePolicy, was.PodFailurePolicy},
		{"backoffLimitPerIndex", spec.BackoffLimitPerIndex, was.BackoffLimitPerIndex},
		{"managedBy", spec.ManagedBy, was.ManagedBy},
		{"successPolicy", spec.SuccessPolicy, was.SuccessPolicy},
	} {
		errs = append(errs, apivalidation.ValidateImmutableField(fixed.now, fixed.was, specPath.Child(fixed.child))...)
	}
	return errs
}

// suspended says that nothing of the job runs, so that queues may still choose where it will.
func suspended(job *batchv1.Job) bool {
	return ptr.Deref(job.Spec.Suspend, false) && (job.Status.StartTime == nil || hasCondition(&job.Status, batchv1.JobSuspended))
}

// adoptScheduling takes over from next what may change in the template of a suspended job.
func adoptScheduling(t, next *corev1.PodTemplateSpec) {
	var affinity *corev1.NodeAffinity
	if next.Spec.Affinity != nil {
		affinity = next.Spec.Affinity.NodeAffinity
	}
	if t.Spec.Affinity == nil && next.Spec.Affinity != nil {
		t.Spec.Affinity = &corev1.Affinity{}
	}
	if t.Spec.Affinity != nil {
		t.Spec.Affinity.NodeAffinity = affinity
		if next.Spec.Affinity == nil && *t.Spec.Affinity == (corev1.Affinity{}) {
			t.Spec.Affinity = nil
		}
	}
	t.Spec.NodeSelector, t.Spec.Tolerations, t.Spec.SchedulingGates = next.Spec.NodeSelector, next.Spec.Tolerations, next.Spec.SchedulingGates
	t.Annotations, t.Labels = next.Annotations, next.Labels
}

// validateCompletionsUpdate lets jobs that count by index grow and shrink with their parallelism.
func validateCompletionsUpdate(spec, old *batchv1.JobSpec) field.ErrorList {
	at := specPath.Child("completions")
	if !indexed(spec) {
		return apivalidation.ValidateImmutableField(spec.Completions, old.Completions, at)
	}
	if apiequality.Semantic.DeepEqual(spec.Completions, old.Completions) || apiequality.Semantic.DeepEqual(spec.Completions, spec.Parallelism) {
		return nil
	}
	return field.ErrorList{field.Invalid(at, spec.Completions, fmt.Sprintf("can only be modified in tandem with %s", specPath.Child("parallelism")))}
}
