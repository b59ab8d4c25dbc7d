package batch

import (
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

// validateJobStatusUpdate checks what a controller reports: times and conditions fit each other,
// and what is finished stays so.
func validateJobStatusUpdate(job, old *batchv1.Job) field.ErrorList {
	s, was := &job.Status, &old.Status
	errs := validateCounts(s)
	errs = append(errs, validateFinished(s)...)
	conditions := statusPath.Child("conditions")
	for _, t := range []batchv1.JobConditionType{batchv1.JobFailed, batchv1.JobComplete} {
		if hasCondition(was, t) && !hasCondition(s, t) {
			errs = append(errs, field.Invalid(conditions, field.OmitValueType{}, "cannot disable the terminal "+string(t)+"=True condition"))
		}
	}
	running := !ptr.Deref(job.Spec.Suspend, false)
	if start := statusPath.Child("startTime"); running && was.StartTime != nil {
		switch {
		case s.StartTime == nil:
			errs = append(errs, field.Required(start, "startTime cannot be removed for unsuspended job"))
		case !s.StartTime.Equal(was.StartTime) && !hasCondition(was, batchv1.JobSuspended):
			errs = append(errs, field.Required(start, "startTime cannot be modified for unsuspended job"))
		}
	}
	if was.CompletionTime != nil && !was.CompletionTime.Equal(s.CompletionTime) {
		errs = append(errs, field.Invalid(statusPath.Child("completionTime"), s.CompletionTime, "completionTime cannot be mutated"))
	}
	return errs
}

func validateCounts(s *batchv1.JobStatus) field.ErrorList {
	errs := check.NonNegative(s.Active, statusPath.Child("active"))
	errs = append(errs, check.NonNegative(s.Succeeded, statusPath.Child("succeeded"))...)
	errs = append(errs, check.NonNegative(s.Failed, statusPath.Child("failed"))...)
	errs = append(errs, check.OptionalNonNegative(s.Ready, statusPath.Child("ready"))...)
	errs = append(errs, check.OptionalNonNegative(s.Terminating, statusPath.Child("terminating"))...)
	if s.Ready != nil && *s.Ready > s.Active {
		errs = append(errs, field.Invalid(statusPath.Child("ready"), *s.Ready, "cannot set more ready pods than active"))
	}
	if s.UncountedTerminatedPods == nil {
		return errs
	}
	at := statusPath.Child("uncountedTerminatedPods")
	seen := sets.New[types.UID]()
	for _, list := range []struct {
		child string
		uids  []types.UID
	}{{"succeeded", s.UncountedTerminatedPods.Succeeded}, {"failed", s.UncountedTerminatedPods.Failed}} {
		for i, uid := range list.uids {
			switch path := at.Child(list.child).Index(i); {
			case uid == "":
				errs = append(errs, field.Invalid(path, uid, "must not be empty"))
			case seen.Has(uid):
				errs = append(errs, field.Duplicate(path, uid))
			}
			seen.Insert(uid)
		}
	}
	return errs
}

func validateFinished(s *batchv1.JobStatus) field.ErrorList {
	var errs field.ErrorList
	complete, failed := hasCondition(s, batchv1.JobComplete), hasCondition(s, batchv1.JobFailed)
	conditions, end := statusPath.Child("conditions"), statusPath.Child("completionTime")
	if complete && failed {
		errs = append(errs, field.Invalid(conditions, field.OmitValueType{}, "cannot set Complete=True and Failed=true conditions"))
	}
	if complete && hasCondition(s, batchv1.JobFailureTarget) {
		errs = append(errs, field.Invalid(conditions, field.OmitValueType{}, "cannot set Complete=True and FailureTarget=true conditions"))
	}
	if complete || failed {
		if s.Active > 0 {
			errs = append(errs, field.Invalid(statusPath.Child("active"), s.Active, "active>0 is invalid for finished job"))
		}
		if ptr.Deref(s.Terminating, 0) > 0 {
			errs = append(errs, field.Invalid(statusPath.Child("terminating"), s.Terminating, "terminating>0 is invalid for finished job"))
		}
		if s.StartTime == nil {
			errs = append(errs, field.Required(statusPath.Child("startTime"), "startTime is required for finished job"))
		}
	}
	switch {
	case complete && s.CompletionTime == nil:
		errs = append(errs, field.Required(end, "completionTime is required for Complete jobs"))
	case !complete && s.CompletionTime != nil:
		errs = append(errs, field.Invalid(end, s.CompletionTime, "cannot set completionTime when there is no Complete=True condition"))
	}
	if s.StartTime != nil && s.CompletionTime != nil && s.CompletionTime.Before(s.StartTime) {
		errs = append(errs, field.Invalid(end, s.CompletionTime, "completionTime cannot be set before startTime"))
	}
	return errs
}
