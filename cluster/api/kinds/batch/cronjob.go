package batch

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// CronJob describes batch/v1 CronJob.
func CronJob() kind.Kind {
	spec, status := batchv1.CronJobSpec{}.SwaggerDoc(), batchv1.CronJobStatus{}.SwaggerDoc()
	return kind.Kind{
		GVK:        batchv1.SchemeGroupVersion.WithKind("CronJob"),
		Resource:   "cronjobs",
		Singular:   "cronjob",
		ShortNames: []string{"cj"},
		Categories: []string{"all"},
		Namespaced: true,
		New:        func() kind.Object { return &batchv1.CronJob{} },
		NewList:    func() runtime.Object { return &batchv1.CronJobList{} },

		Default: func(obj kind.Object) { defaultCronJob(&obj.(*batchv1.CronJob).Spec) },
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			c := obj.(*batchv1.CronJob)
			errs := validateCronJob(&c.Spec, nil)
			if len(c.Name) > maxCronJobName {
				errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), c.Name, fmt.Sprintf("must be no more than %d characters", maxCronJobName)))
			}
			return errs
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			return validateCronJob(&obj.(*batchv1.CronJob).Spec, &old.(*batchv1.CronJob).Spec)
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			obj.(*batchv1.CronJob).Status = batchv1.CronJobStatus{}
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			obj.(*batchv1.CronJob).Status = old.(*batchv1.CronJob).Status
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*batchv1.CronJob).Spec, old.(*batchv1.CronJob).Spec)
		},
		Warnings: func(_ context.Context, obj, old kind.Object) []string {
			return cronJobWarnings(obj.(*batchv1.CronJob), old)
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				obj.(*batchv1.CronJob).Spec = old.(*batchv1.CronJob).Spec
			},
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Schedule", spec["schedule"]),
			table.Col("Timezone", spec["timeZone"]),
			{Name: "Suspend", Type: "boolean", Description: spec["suspend"]},
			table.Int("Active", status["active"]),
			table.Col("Last Schedule", status["lastScheduleTime"]),
			table.Age(),
			table.Wide(table.Col("Containers", "Names of each container in the template.")),
			table.Wide(table.Col("Images", "Images referenced by each container in the template.")),
			table.Wide(table.Col("Selector", batchv1.JobSpec{}.SwaggerDoc()["selector"])),
		},
		Row: func(obj kind.Object) []any { return cronJobRow(obj.(*batchv1.CronJob)) },
	}
}

// maxCronJobName leaves room for the time that the names of its jobs end in.
const maxCronJobName = validation.DNS1035LabelMaxLength - 11

func defaultCronJob(spec *batchv1.CronJobSpec) {
	if spec.ConcurrencyPolicy == "" {
		spec.ConcurrencyPolicy = batchv1.AllowConcurrent
	}
	if spec.Suspend == nil {
		spec.Suspend = ptr.To(false)
	}
	if spec.SuccessfulJobsHistoryLimit == nil {
		spec.SuccessfulJobsHistoryLimit = ptr.To[int32](3)
	}
	if spec.FailedJobsHistoryLimit == nil {
		spec.FailedJobsHistoryLimit = ptr.To[int32](1)
	}
	// The rest of the job is completed when one is made of the template.
	podspec.DefaultTemplate(&spec.JobTemplate.Spec.Template)
}

var concurrencyPolicies = sets.New(batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent)

func validateCronJob(spec, old *batchv1.CronJobSpec) field.ErrorList {
	errs := validateSchedule(spec, old)
	if spec.TimeZone != nil && (old == nil || ptr.Deref(old.TimeZone, "") != *spec.TimeZone) {
		errs = append(errs, validateTimeZone(*spec.TimeZone, specPath.Child("timeZone"))...)
	}
	errs = append(errs, check.OptionalNonNegative(spec.StartingDeadlineSeconds, specPath.Child("startingDeadlineSeconds"))...)
	errs = append(errs, check.OneOf(spec.ConcurrencyPolicy, concurrencyPolicies, specPath.Child("concurrencyPolicy"))...)
	errs = append(errs, check.OptionalNonNegative(spec.SuccessfulJobsHistoryLimit, specPath.Child("successfulJobsHistoryLimit"))...)
	errs = append(errs, check.OptionalNonNegative(spec.FailedJobsHistoryLimit, specPath.Child("failedJobsHistoryLimit"))...)

	job, at := &spec.JobTemplate.Spec, specPath.Child("jobTemplate", "spec")
	errs = append(errs, validateJobSpec(job, at)...)
	if job.Selector != nil {
		errs = append(errs, field.Invalid(at.Child("selector"), job.Selector, "`selector` will be auto-generated"))
	}
	if ptr.Deref(job.ManualSelector, false) {
		errs = append(errs, field.NotSupported(at.Child("manualSelector"), *job.ManualSelector, []string{"nil", "false"}))
	}
	return errs
}

// validateSchedule checks the times. A time zone among them was once taken though never promised;
// old objects may keep theirs.
func validateSchedule(spec, old *batchv1.CronJobSpec) field.ErrorList {
	at := specPath.Child("schedule")
	if spec.Schedule == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	if strings.Contains(spec.Schedule, "TZ") {
		switch {
		case spec.TimeZone != nil:
			return field.ErrorList{field.Invalid(at, spec.Schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule")}
		case old == nil || !strings.Contains(old.Schedule, "TZ"):
			return field.ErrorList{field.Invalid(at, spec.Schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead")}
		case old.Schedule == spec.Schedule:
			return nil
		}
	}
	if _, err := ParseSchedule(spec.Schedule); err != nil {
		return field.ErrorList{field.Invalid(at, spec.Schedule, err.Error())}
	}
	return nil
}

// ParseSchedule reads the times of a CronJob.
func ParseSchedule(text string) (cron.Schedule, error) {
	// The parser slices beyond a zone that nothing follows.
	if (strings.HasPrefix(text, "TZ=") || strings.HasPrefix(text, "CRON_TZ=")) && !strings.Contains(text, " ") {
		return nil, fmt.Errorf("expected exactly 5 fields, found 0: [%s]", text)
	}
	return cron.ParseStandard(text)
}

func validateTimeZone(zone string, path *field.Path) field.ErrorList {
	switch {
	case zone == "":
		return field.ErrorList{field.Invalid(path, zone, "timeZone must be nil or non-empty string")}
	case strings.EqualFold(zone, "Local"):
		return field.ErrorList{field.Invalid(path, zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")}
	}
	if _, err := time.LoadLocation(zone); err != nil {
		return field.ErrorList{field.Invalid(path, zone, err.Error())}
	}
	return nil
}

func cronJobWarnings(c *batchv1.CronJob, old kind.Object) []string {
	out := append(podspec.NameWarnings(c, old), jobSpecWarnings(&c.Spec.JobTemplate.Spec, specPath.Child("jobTemplate", "spec"), c, old)...)
	if strings.Contains(c.Spec.Schedule, "TZ") {
		out = append(out, "CRON_TZ or TZ used in spec.schedule is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details")
	}
	return out
}

func cronJobRow(c *batchv1.CronJob) []any {
	last, suspend := table.None, "<unset>"
	if c.Status.LastScheduleTime != nil {
		last = table.Since(*c.Status.LastScheduleTime)
	}
	if s := c.Spec.Suspend; s != nil {
		suspend = map[bool]string{true: "True", false: "False"}[*s]
	}
	names, images := table.Containers(c.Spec.JobTemplate.Spec.Template.Spec.Containers)
	return []any{
		c.Name, c.Spec.Schedule, ptr.Deref(c.Spec.TimeZone, table.None), suspend, int64(len(c.Status.Active)), last,
		table.Since(c.CreationTimestamp), names, images, table.Selector(c.Spec.JobTemplate.Spec.Selector),
	}
}
