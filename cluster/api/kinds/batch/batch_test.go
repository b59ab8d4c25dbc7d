package batch

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

func testJob(change ...func(*batchv1.Job)) *batchv1.Job {
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "pi", Namespace: "ns", UID: "u1"},
		Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "pi"}},
			Spec:       corev1.PodSpec{RestartPolicy: "Never", Containers: []corev1.Container{{Name: "c", Image: "pi:1"}}},
		}},
	}
	for _, c := range change {
		c(job)
	}
	return job
}

func TestJobDefaults(t *testing.T) {
	t.Parallel()
	job := testJob(func(j *batchv1.Job) { j.Status.Active = 4 })
	kindtest.Want(t, kindtest.Create(Job(), job))
	want := batchv1.JobSpec{
		Parallelism: ptr.To[int32](1), Completions: ptr.To[int32](1), BackoffLimit: ptr.To[int32](6),
		CompletionMode: ptr.To(batchv1.NonIndexedCompletion), Suspend: ptr.To(false), ManualSelector: ptr.To(false),
		PodReplacementPolicy: ptr.To(batchv1.TerminatingOrFailed), Template: job.Spec.Template,
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{batchv1.ControllerUidLabel: "u1"}},
	}
	if diff := cmp.Diff(want, job.Spec); diff != "" {
		t.Error(diff)
	}
	labels := map[string]string{"app": "pi", "job-name": "pi", "controller-uid": "u1", batchv1.JobNameLabel: "pi", batchv1.ControllerUidLabel: "u1"}
	if diff := cmp.Diff(labels, job.Spec.Template.Labels); diff != "" {
		t.Error(diff)
	}
	// A job that says nothing of its labels has those of its pods.
	if diff := cmp.Diff(labels, job.Labels); diff != "" || job.Status.Active != 0 {
		t.Error(diff, job.Status)
	}
	labeled := testJob(func(j *batchv1.Job) { j.Labels = map[string]string{"app": "pi"} })
	kindtest.Want(t, kindtest.Create(Job(), labeled))
	if diff := cmp.Diff(map[string]string{"app": "pi"}, labeled.Labels); diff != "" {
		t.Error(diff)
	}
	queue := testJob(func(j *batchv1.Job) { j.Spec.Parallelism = ptr.To[int32](3) })
	kindtest.Want(t, kindtest.Create(Job(), queue))
	if queue.Spec.Completions != nil {
		t.Errorf("a queue of work has %d completions", *queue.Spec.Completions)
	}
}

func TestJobValidation(t *testing.T) {
	t.Parallel()
	indexed := func(n int32, more ...func(*batchv1.Job)) func(*batchv1.Job) {
		return func(j *batchv1.Job) {
			j.Spec.CompletionMode, j.Spec.Completions = ptr.To(batchv1.IndexedCompletion), &n
			for _, m := range more {
				m(j)
			}
		}
	}
	for name, tc := range map[string]struct {
		change func(*batchv1.Job)
		want   []string
	}{
		"no restart policy": {func(j *batchv1.Job) { j.Spec.Template.Spec.RestartPolicy = "" }, []string{"FieldValueRequired spec.template.spec.restartPolicy"}},
		"negative numbers": {func(j *batchv1.Job) {
			j.Spec.Completions, j.Spec.Parallelism, j.Spec.BackoffLimit = ptr.To[int32](-1), ptr.To[int32](-1), ptr.To[int32](-1)
			j.Spec.ActiveDeadlineSeconds, j.Spec.TTLSecondsAfterFinished = ptr.To[int64](-1), ptr.To[int32](-1)
		}, []string{"FieldValueInvalid spec.activeDeadlineSeconds", "FieldValueInvalid spec.backoffLimit", "FieldValueInvalid spec.completions",
			"FieldValueInvalid spec.parallelism", "FieldValueInvalid spec.ttlSecondsAfterFinished"}},
		"someone else's label": {func(j *batchv1.Job) { j.Spec.Template.Labels["job-name"] = "e" }, []string{"FieldValueInvalid spec.template.metadata.labels[job-name]"}},
		"own selector": {func(j *batchv1.Job) {
			j.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "pi"}}
		}, []string{"FieldValueInvalid spec.selector"}},
		"manual": {func(j *batchv1.Job) {
			j.Spec.ManualSelector, j.Spec.Selector = ptr.To(true), &metav1.LabelSelector{MatchLabels: map[string]string{"app": "e"}}
		}, []string{"FieldValueInvalid spec.template.metadata.labels"}},
		"mode":           {func(j *batchv1.Job) { j.Spec.CompletionMode = ptr.To(batchv1.CompletionMode("Any")) }, []string{"FieldValueNotSupported spec.completionMode"}},
		"indexed, short": {indexed(3), nil},
		"per index, not indexed": {func(j *batchv1.Job) { j.Spec.BackoffLimitPerIndex = ptr.To[int32](1) },
			[]string{"FieldValueInvalid spec.backoffLimitPerIndex"}},
		"too many failures": {indexed(3, func(j *batchv1.Job) { j.Spec.MaxFailedIndexes = ptr.To[int32](4) }),
			[]string{"FieldValueInvalid spec.maxFailedIndexes", "FieldValueRequired spec.backoffLimitPerIndex"}},
		"very many": {indexed(200000, func(j *batchv1.Job) { j.Spec.BackoffLimitPerIndex = ptr.To[int32](1) }), []string{"FieldValueRequired spec.maxFailedIndexes"}},
		"manager":   {func(j *batchv1.Job) { j.Spec.ManagedBy = ptr.To("me") }, []string{"FieldValueInvalid spec.managedBy"}},
		"failure policy": {func(j *batchv1.Job) {
			j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
				{Action: "FailJob", OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: "In", Values: []int32{0, 3, 3, 2}, ContainerName: ptr.To("x")}},
				{Action: "Run"},
				{Action: "Ignore", OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: "DisruptionTarget"}}},
			}}
		}, []string{"FieldValueDuplicate spec.podFailurePolicy.rules[0].onExitCodes.values[2]", "FieldValueInvalid spec.podFailurePolicy.rules[0].onExitCodes.containerName",
			"FieldValueInvalid spec.podFailurePolicy.rules[0].onExitCodes.values", "FieldValueInvalid spec.podFailurePolicy.rules[0].onExitCodes.values[0]",
			"FieldValueInvalid spec.podFailurePolicy.rules[1]", "FieldValueNotSupported spec.podFailurePolicy.rules[1].action"}},
		"success policy": {indexed(5, func(j *batchv1.Job) {
			j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{
				{SucceededIndexes: ptr.To("0,2-4"), SucceededCount: ptr.To[int32](5)}, {}, {SucceededIndexes: ptr.To("3,1")}, {SucceededIndexes: ptr.To("0-9")}}}
		}), []string{"FieldValueInvalid spec.successPolicy.rules[0].succeededCount", "FieldValueRequired spec.successPolicy.rules[1]",
			"FieldValueInvalid spec.successPolicy.rules[2].succeededIndexes", "FieldValueInvalid spec.successPolicy.rules[3].succeededIndexes"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Create(Job(), testJob(tc.change)), tc.want...)
		})
	}
}

func TestJobUpdate(t *testing.T) {
	t.Parallel()
	old := testJob()
	kindtest.Want(t, kindtest.Create(Job(), old))
	for name, tc := range map[string]struct {
		change func(old, job *batchv1.Job)
		want   []string
	}{
		"scale and suspend": {func(_, j *batchv1.Job) { j.Spec.Parallelism, j.Spec.Suspend = ptr.To[int32](7), ptr.To(true) }, nil},
		"completions":       {func(_, j *batchv1.Job) { j.Spec.Completions = ptr.To[int32](7) }, []string{"FieldValueInvalid spec.completions"}},
		"template":          {func(_, j *batchv1.Job) { j.Spec.Template.Spec.NodeSelector = map[string]string{"a": "b"} }, []string{"FieldValueInvalid spec.template"}},
		"template of a suspended one": {func(o, j *batchv1.Job) {
			o.Spec.Suspend = ptr.To(true)
			j.Spec.Template.Spec.NodeSelector = map[string]string{"a": "b"}
			j.Spec.Template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}}
		}, nil},
		"elastic": {func(o, j *batchv1.Job) {
			o.Spec.CompletionMode, j.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion), ptr.To(batchv1.IndexedCompletion)
			j.Spec.Completions, j.Spec.Parallelism = ptr.To[int32](3), ptr.To[int32](3)
		}, nil},
		"policies": {func(_, j *batchv1.Job) {
			j.Spec.CompletionMode, j.Spec.ManagedBy = ptr.To(batchv1.IndexedCompletion), ptr.To("example.com/me")
		}, []string{"FieldValueInvalid spec.completionMode", "FieldValueInvalid spec.managedBy"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			was, job := old.DeepCopy(), old.DeepCopy()
			tc.change(was, job)
			kindtest.Want(t, kindtest.Update(Job(), job, was), tc.want...)
		})
	}
}

func TestJobStatus(t *testing.T) {
	t.Parallel()
	k, old := Job(), testJob()
	start := metav1.NewTime(time.Unix(1000, 0))
	old.Status.StartTime = &start
	done := old.DeepCopy()
	done.Status.CompletionTime = ptr.To(metav1.NewTime(start.Add(90 * time.Second)))
	done.Status.Succeeded, done.Status.Conditions = 1, []batchv1.JobCondition{{Type: "Complete", Status: "True"}}
	kindtest.Want(t, kindtest.Sub(k.Status, done, old))
	kindtest.Want(t, kindtest.Sub(k.Status, old.DeepCopy(), done), "FieldValueInvalid status.conditions", "FieldValueInvalid status.completionTime")
	bad := done.DeepCopy()
	bad.Status.StartTime, bad.Status.Active = nil, 1
	kindtest.Want(t, kindtest.Sub(k.Status, bad, old), "FieldValueInvalid status.active", "FieldValueRequired status.startTime", "FieldValueRequired status.startTime")
	done.Spec.Completions = ptr.To[int32](1)
	want := []any{"pi", "Complete", "1/1", "90s", "<unknown>", "c", "pi:1", "<none>"}
	if diff := cmp.Diff(want, k.Row(done)); diff != "" {
		t.Error(diff)
	}
	if got := k.Fields(done)["status.successful"]; got != "1" {
		t.Errorf("status.successful is %q", got)
	}
}

func TestCronJob(t *testing.T) {
	t.Parallel()
	k := CronJob()
	build := func(change ...func(*batchv1.CronJob)) *batchv1.CronJob {
		c := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "tick"},
			Spec: batchv1.CronJobSpec{Schedule: "*/5 * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: testJob().Spec}}}
		for _, ch := range change {
			ch(c)
		}
		return c
	}
	c := build()
	kindtest.Want(t, kindtest.Create(k, c))
	if s := c.Spec; s.ConcurrencyPolicy != "Allow" || *s.Suspend || *s.SuccessfulJobsHistoryLimit != 3 || *s.FailedJobsHistoryLimit != 1 || s.JobTemplate.Spec.Completions != nil {
		t.Errorf("%+v", s)
	}
	want := []any{"tick", "*/5 * * * *", "<none>", "False", int64(0), "<none>", "<unknown>", "c", "pi:1", "<none>"}
	if diff := cmp.Diff(want, k.Row(c)); diff != "" {
		t.Error(diff)
	}
	for name, tc := range map[string]struct {
		change func(*batchv1.CronJob)
		want   []string
	}{
		"words":       {func(c *batchv1.CronJob) { c.Spec.Schedule = "@hourly" }, nil},
		"no schedule": {func(c *batchv1.CronJob) { c.Spec.Schedule = "" }, []string{"FieldValueRequired spec.schedule"}},
		"six fields":  {func(c *batchv1.CronJob) { c.Spec.Schedule = "0 0 * * * *" }, []string{"FieldValueInvalid spec.schedule"}},
		"zone inside": {func(c *batchv1.CronJob) { c.Spec.Schedule = "TZ=UTC" }, []string{"FieldValueInvalid spec.schedule"}},
		"zone":        {func(c *batchv1.CronJob) { c.Spec.TimeZone = ptr.To("Moon/Base") }, []string{"FieldValueInvalid spec.timeZone"}},
		"local":       {func(c *batchv1.CronJob) { c.Spec.TimeZone = ptr.To("local") }, []string{"FieldValueInvalid spec.timeZone"}},
		"long name": {func(c *batchv1.CronJob) { c.Name = "a23456789012345678901234567890123456789012345678901234" },
			[]string{"FieldValueInvalid metadata.name"}},
		"rest": {func(c *batchv1.CronJob) {
			c.Spec.ConcurrencyPolicy, c.Spec.StartingDeadlineSeconds, c.Spec.FailedJobsHistoryLimit = "Any", ptr.To[int64](-1), ptr.To[int32](-1)
			c.Spec.JobTemplate.Spec.Selector, c.Spec.JobTemplate.Spec.ManualSelector = &metav1.LabelSelector{}, ptr.To(true)
		}, []string{"FieldValueInvalid spec.failedJobsHistoryLimit", "FieldValueInvalid spec.jobTemplate.spec.selector", "FieldValueInvalid spec.startingDeadlineSeconds",
			"FieldValueNotSupported spec.concurrencyPolicy", "FieldValueNotSupported spec.jobTemplate.spec.manualSelector"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Create(k, build(tc.change)), tc.want...)
		})
	}
	old := build(func(c *batchv1.CronJob) { c.Spec.Schedule = "TZ=UTC 0 * * * *" })
	kindtest.Want(t, kindtest.Update(k, old.DeepCopy(), old))
}
