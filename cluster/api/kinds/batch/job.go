package batch

import (
	"context"
	"fmt"
	"maps"
	"math"
	"reflect"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

var (
	specPath   = field.NewPath("spec")
	statusPath = field.NewPath("status")
)

// Job describes batch/v1 Job.
func Job() kind.Kind {
	return kind.Kind{
		GVK:        batchv1.SchemeGroupVersion.WithKind("Job"),
		Resource:   "jobs",
		Singular:   "job",
		Categories: []string{"all"},
		Namespaced: true,
		New:        func() kind.Object { return &batchv1.Job{} },
		NewList:    func() runtime.Object { return &batchv1.JobList{} },

		Default: func(obj kind.Object) { defaultJob(obj.(*batchv1.Job)) },
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateJob(obj.(*batchv1.Job))
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			return validateJobUpdate(obj.(*batchv1.Job), old.(*batchv1.Job))
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			job := obj.(*batchv1.Job)
			job.Status = batchv1.JobStatus{}
			same := sameLabels(job)
			if !ptr.Deref(job.Spec.ManualSelector, false) {
				generateSelector(job)
			}
			if same {
				job.Labels = maps.Clone(job.Spec.Template.Labels)
			}
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			job := obj.(*batchv1.Job)
			job.Status = old.(*batchv1.Job).Status
			if sameLabels(job) {
				job.Labels = maps.Clone(job.Labels)
			}
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*batchv1.Job).Spec, old.(*batchv1.Job).Spec)
		},
		Warnings: func(_ context.Context, obj, old kind.Object) []string {
			return jobWarnings(obj.(*batchv1.Job), old)
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				obj.(*batchv1.Job).Spec = old.(*batchv1.Job).Spec
			},
			Validate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
				return validateJobStatusUpdate(obj.(*batchv1.Job), old.(*batchv1.Job))
			},
		},

		Fields: func(obj kind.Object) fields.Set {
			return fields.Set{"status.successful": strconv.Itoa(int(obj.(*batchv1.Job).Status.Succeeded))}
		},
		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Status", "Status of the job."),
			table.Col("Completions", batchv1.JobStatus{}.SwaggerDoc()["succeeded"]),
			table.Col("Duration", "Time required to complete the job."),
			table.Age(),
			table.Wide(table.Col("Containers", "Names of each container in the template.")),
			table.Wide(table.Col("Images", "Images referenced by each container in the template.")),
			table.Wide(table.Col("Selector", batchv1.JobSpec{}.SwaggerDoc()["selector"])),
		},
		Row: func(obj kind.Object) []any {
			job := obj.(*batchv1.Job)
			names, images := table.Containers(job.Spec.Template.Spec.Containers)
			return []any{
				job.Name, jobState(job), completions(job), jobDuration(&job.Status), table.Since(job.CreationTimestamp),
				names, images, table.Selector(job.Spec.Selector),
			}
		},
	}
}

// sameLabels says whether a Job has got the labels of its template by default: then it also has those that
// tell its pods from others'.
func sameLabels(job *batchv1.Job) bool {
	own, template := reflect.ValueOf(job.Labels), reflect.ValueOf(job.Spec.Template.Labels)
	return !own.IsNil() && own.Pointer() == template.Pointer()
}

func defaultJob(job *batchv1.Job) {
	spec := &job.Spec
	if spec.Completions == nil && spec.Parallelism == nil {
		spec.Completions = ptr.To[int32](1)
	}
	if spec.Parallelism == nil {
		spec.Parallelism = ptr.To[int32](1)
	}
	if spec.BackoffLimit == nil {
		spec.BackoffLimit = ptr.To[int32](6)
		if spec.BackoffLimitPerIndex != nil {
			spec.BackoffLimit = ptr.To[int32](math.MaxInt32) // each index has its own
		}
	}
	if len(job.Labels) == 0 && spec.Template.Labels != nil {
		job.Labels = spec.Template.Labels // the very same, see sameLabels
	}
	if spec.CompletionMode == nil {
		spec.CompletionMode = ptr.To(batchv1.NonIndexedCompletion)
	}
	if spec.Suspend == nil {
		spec.Suspend = ptr.To(false)
	}
	if spec.ManualSelector == nil {
		spec.ManualSelector = ptr.To(false)
	}
	if spec.PodReplacementPolicy == nil {
		spec.PodReplacementPolicy = ptr.To(batchv1.TerminatingOrFailed)
		if spec.PodFailurePolicy != nil {
			spec.PodReplacementPolicy = ptr.To(batchv1.Failed)
		}
	}
	if p := spec.PodFailurePolicy; p != nil {
		for i := range p.Rules {
			for j := range p.Rules[i].OnPodConditions {
				if c := &p.Rules[i].OnPodConditions[j]; c.Status == "" {
					c.Status = corev1.ConditionTrue
				}
			}
		}
	}
	podspec.DefaultTemplate(&spec.Template)
}

// The labels that tell the pods of a job from all others. The ones without a domain are older.
const (
	legacyJobName = "job-name"
	legacyUID     = "controller-uid"
)

// ownLabels are what the pods of a job with a generated selector wear.
func ownLabels(job *batchv1.Job) map[string]string {
	return map[string]string{
		batchv1.JobNameLabel: job.Name, legacyJobName: job.Name,
		batchv1.ControllerUidLabel: string(job.UID), legacyUID: string(job.UID),
	}
}

// generateSelector makes the job select its own pods by its UID. Labels that a user has set stay:
// validation refuses them when they are wrong.
func generateSelector(job *batchv1.Job) {
	t := &job.Spec.Template
	t.Labels = maps.Clone(t.Labels)
	if t.Labels == nil {
		t.Labels = make(map[string]string)
	}
	for key, value := range ownLabels(job) {
		if _, ok := t.Labels[key]; !ok {
			t.Labels[key] = value
		}
	}
	if job.Spec.Selector == nil {
		job.Spec.Selector = &metav1.LabelSelector{}
	}
	if job.Spec.Selector.MatchLabels == nil {
		job.Spec.Selector.MatchLabels = make(map[string]string)
	}
	if _, ok := job.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel]; !ok {
		job.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel] = string(job.UID)
	}
}

func jobWarnings(job *batchv1.Job, old kind.Object) []string {
	return append(podspec.NameWarnings(job, old), jobSpecWarnings(&job.Spec, specPath, job, old)...)
}

// jobSpecWarnings speaks of a spec that is new in obj.
func jobSpecWarnings(spec *batchv1.JobSpec, path *field.Path, obj, old kind.Object) []string {
	if !podspec.News(obj, old) {
		return nil
	}
	var out []string
	if ptr.Deref(spec.Completions, 0) > highCompletions && ptr.Deref(spec.Parallelism, 0) > highParallelism {
		out = append(out, "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail")
	}
	return append(out, podspec.Warnings(&spec.Template.ObjectMeta, &spec.Template.Spec, path.Child("template"))...)
}

func hasCondition(s *batchv1.JobStatus, t batchv1.JobConditionType) bool {
	for i := range s.Conditions {
		if s.Conditions[i].Type == t {
			return s.Conditions[i].Status == corev1.ConditionTrue
		}
	}
	return false
}

// jobState is a job's condition in one word.
func jobState(job *batchv1.Job) string {
	for _, t := range []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed} {
		if hasCondition(&job.Status, t) {
			return string(t)
		}
	}
	if job.DeletionTimestamp != nil {
		return "Terminating"
	}
	for _, t := range []batchv1.JobConditionType{batchv1.JobSuspended, batchv1.JobFailureTarget, batchv1.JobSuccessCriteriaMet} {
		if hasCondition(&job.Status, t) {
			return string(t)
		}
	}
	return "Running"
}

func completions(job *batchv1.Job) string {
	if job.Spec.Completions != nil {
		return fmt.Sprintf("%d/%d", job.Status.Succeeded, *job.Spec.Completions)
	}
	if n := ptr.Deref(job.Spec.Parallelism, 0); n > 1 {
		return fmt.Sprintf("%d/1 of %d", job.Status.Succeeded, n)
	}
	return fmt.Sprintf("%d/1", job.Status.Succeeded)
}

func jobDuration(s *batchv1.JobStatus) string {
	switch {
	case s.StartTime == nil:
		return ""
	case s.CompletionTime == nil:
		return duration.HumanDuration(time.Since(s.StartTime.Time))
	}
	return duration.HumanDuration(s.CompletionTime.Sub(s.StartTime.Time))
}
