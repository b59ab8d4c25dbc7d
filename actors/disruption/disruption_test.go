package disruption

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/controller/controllertest"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/messages"
)

var app = map[string]string{"app": "web"}

// web is a pod of the app.
func web(name string, isReady bool, owner *metav1.OwnerReference) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Labels: app}}
	p.Status.Phase = corev1.PodRunning
	c := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse}
	if isReady {
		c.Status = corev1.ConditionTrue
	}
	p.Status.Conditions = append(p.Status.Conditions, c)
	if owner != nil {
		p.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	return p
}

func leaving(p *corev1.Pod) *corev1.Pod {
	p.DeletionTimestamp = ptr.To(metav1.Now())
	return p
}

func budget(minimum, maximum string) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "b", Generation: 3},
		Spec: policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: app}}}
	if minimum != "" {
		b.Spec.MinAvailable = ptr.To(intstr.Parse(minimum))
	}
	if maximum != "" {
		b.Spec.MaxUnavailable = ptr.To(intstr.Parse(maximum))
	}
	return b
}

func TestCount(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	three := []*corev1.Pod{web("a", true, nil), web("b", true, nil), web("c", true, nil)}
	type result struct{ healthy, desired, expected, allowed int32 }
	for _, tt := range []struct {
		name     string
		min, max string
		pods     []*corev1.Pod
		scale    scale
		gone     map[string]time.Duration // evicted so long ago
		want     result
		left     []string
		again    time.Duration
		err      string
	}{
		{name: "a number that is there", min: "2", pods: three, want: result{3, 2, 3, 1}},
		{name: "a number that is not there", min: "5", pods: three, want: result{3, 5, 3, 0}},
		{name: "no pods", min: "0", want: result{0, 0, 0, 0}},
		{name: "none is needed", min: "0", pods: three, want: result{3, 0, 3, 3}},
		{name: "a part, rounded up", min: "50%", pods: three, scale: scale{pods: 3}, want: result{3, 2, 3, 1}},
		{name: "a part of more than there are", min: "50%", pods: three, scale: scale{pods: 7}, want: result{3, 4, 7, 0}},
		{name: "some may be missing", max: "1", pods: three, scale: scale{pods: 3}, want: result{3, 2, 3, 1}},
		{name: "some are missing", max: "1", pods: three, scale: scale{pods: 4}, want: result{3, 3, 4, 0}},
		{name: "more may be missing than there are", max: "5", pods: three, scale: scale{pods: 3}, want: result{3, 0, 3, 3}},
		{name: "a part may be missing, rounded up", max: "30%", pods: three, scale: scale{pods: 3}, want: result{3, 2, 3, 1}},
		{name: "unready and leaving pods", min: "1", want: result{1, 1, 3, 0},
			pods: []*corev1.Pod{web("a", true, nil), web("b", false, nil), leaving(web("c", true, nil))}},
		{name: "an evicted pod does not count", min: "1", pods: three, gone: map[string]time.Duration{"a": 10 * time.Second, "old": time.Second},
			want: result{2, 1, 3, 1}, left: []string{"a"}, again: 110 * time.Second},
		{name: "until it was not deleted", min: "1", pods: three, gone: map[string]time.Duration{"a": 2 * time.Minute}, want: result{3, 1, 3, 2}},
		{name: "an owner without a scale", max: "1", pods: three, scale: scale{err: errors.New("no scale")}, err: "no scale"},
		{name: "a number does not ask for it", min: "1", pods: three, scale: scale{err: errors.New("no scale")}, want: result{3, 1, 3, 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := budget(tt.min, tt.max)
			for name, ago := range tt.gone {
				if b.Status.DisruptedPods == nil {
					b.Status.DisruptedPods = map[string]metav1.Time{}
				}
				b.Status.DisruptedPods[name] = metav1.NewTime(now.Add(-ago))
			}
			out, _, err := count(b, tt.pods, func() scale { return tt.scale }, now)
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Fatalf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			st := out.status
			if got := (result{st.CurrentHealthy, st.DesiredHealthy, st.ExpectedPods, st.DisruptionsAllowed}); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			c := apimeta.FindStatusCondition(st.Conditions, policyv1.DisruptionAllowedCondition)
			want := [2]string{"False", "InsufficientPods"}
			if tt.want.allowed > 0 {
				want = [2]string{"True", "SufficientPods"}
			}
			if got := [2]string{string(c.Status), c.Reason}; got != want || c.ObservedGeneration != 3 || st.ObservedGeneration != 3 {
				t.Errorf("condition %+v", c)
			}
			var left []string
			for name := range st.DisruptedPods {
				left = append(left, name)
			}
			if diff := cmp.Diff(tt.left, left); diff != "" {
				t.Errorf("evicted pods (-want +got):\n%s", diff)
			}
			if tt.again > 0 != !out.again.IsZero() || tt.again > 0 && out.again != now.Add(tt.again) {
				t.Errorf("again at %s", out.again)
			}
		})
	}
}

func owned(o objects.Object, kind, version string) *metav1.OwnerReference {
	return metav1.NewControllerRef(o, schema.FromAPIVersionAndKind(version, kind))
}

func TestBudgetsFollowTheirPods(t *testing.T) {
	t.Parallel()
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "d"}, Spec: appsv1.DeploymentSpec{Replicas: ptr.To[int32](3)}}
	rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1", UID: "rs", OwnerReferences: []metav1.OwnerReference{*owned(d, "Deployment", "apps/v1")}},
		Spec: appsv1.ReplicaSetSpec{Replicas: ptr.To[int32](2)}}
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "work", UID: "job"}}
	of := owned(rs, "ReplicaSet", "apps/v1")
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		key := messages.KeyOf(messages.PodDisruptionBudgets, "default", "b")
		b := func() *policyv1.PodDisruptionBudget {
			w.Settle()
			return objectstest.Must[*policyv1.PodDisruptionBudget](t, w.Store, key)
		}
		w.Start(Spec(w.Deps()))
		w.Start(StaleSpec(w.Deps()))
		w.Put(d, rs, job, budget("", "1"), web("a", true, of), web("b", true, of), web("c", false, of))
		if st := b().Status; st.ExpectedPods != 3 || st.DesiredHealthy != 2 || st.CurrentHealthy != 2 || st.DisruptionsAllowed != 0 {
			t.Errorf("at first %+v", st)
		}
		w.Put(web("c", true, of))
		if st := b().Status; st.DisruptionsAllowed != 1 {
			t.Errorf("all are ready: %+v", st)
		}

		// An eviction that the API has counted, and that deletes nothing.
		now := b().DeepCopy()
		now.Status.DisruptedPods, now.Status.DisruptionsAllowed = map[string]metav1.Time{"a": metav1.Now()}, 0
		w.Put(now)
		if st := b().Status; st.CurrentHealthy != 2 || st.DisruptionsAllowed != 0 || len(st.DisruptedPods) != 1 {
			t.Errorf("one was evicted: %+v", st)
		}
		time.Sleep(deletionTimeout + time.Second)
		synctest.Wait()
		if st := b().Status; st.CurrentHealthy != 3 || st.DisruptionsAllowed != 1 || len(st.DisruptedPods) != 0 {
			t.Errorf("it was not deleted: %+v", st)
		}

		// A promise of others that nobody keeps.
		promised := web("b", true, of)
		promised.Status.Conditions = append(promised.Status.Conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "PreemptionByScheduler", LastTransitionTime: metav1.Now()})
		w.Put(promised)
		condition := func() corev1.ConditionStatus {
			w.Settle()
			p := objectstest.Must[*corev1.Pod](t, w.Store, messages.KeyOf(messages.Pods, "default", "b"))
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.DisruptionTarget {
					return c.Status
				}
			}
			return ""
		}
		if got := condition(); got != corev1.ConditionTrue {
			t.Errorf("the promise is %q at once", got)
		}
		time.Sleep(deletionTimeout + time.Second)
		if got := condition(); got != corev1.ConditionFalse {
			t.Errorf("the promise is %q after its time", got)
		}

		// Pods whose number nobody knows.
		w.Put(web("w", true, owned(job, "Job", "batch/v1")))
		c := apimeta.FindStatusCondition(b().Status.Conditions, policyv1.DisruptionAllowedCondition)
		if c.Reason != policyv1.SyncFailedReason || c.Message != "jobs.batch does not implement the scale subresource" || b().Status.DisruptionsAllowed != 0 {
			t.Errorf("condition %+v", c)
		}
	})
}
