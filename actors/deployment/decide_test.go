package deployment

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func template(image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}}
}

func web(replicas int32, image, surge, unavailable string) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "web-uid", Generation: 1},
		Spec: appsv1.DeploymentSpec{Replicas: &replicas, Template: template(image),
			Selector:                &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			ProgressDeadlineSeconds: ptr.To[int32](600), RevisionHistoryLimit: ptr.To[int32](2),
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
				MaxSurge: ptr.To(intstr.Parse(surge)), MaxUnavailable: ptr.To(intstr.Parse(unavailable))}}},
	}
}

// set is the n-th set of a Deployment: it has spec replicas, of which some are available.
func set(d *appsv1.Deployment, n int, image string, replicas, available int32) *appsv1.ReplicaSet {
	of := d.DeepCopy()
	of.Spec.Template = template(image)
	surge, _ := limits(d)
	rs := newSet(of, replicas, surge, int64(n))
	rs.Name = fmt.Sprint("web-", n)
	rs.CreationTimestamp = metav1.NewTime(now.Add(time.Duration(n-100) * time.Hour))
	rs.Status = appsv1.ReplicaSetStatus{Replicas: replicas, ReadyReplicas: available, AvailableReplicas: available, TerminatingReplicas: ptr.To[int32](0)}
	return rs
}

func sizes(p plan) map[string]int32 {
	out := make(map[string]int32)
	if p.create != nil {
		out["new"] = *p.create.Spec.Replicas
	}
	for _, c := range p.update {
		if *c.from.Spec.Replicas != *c.to.Spec.Replicas {
			out[c.from.Name] = *c.to.Spec.Replicas
		}
	}
	return out
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name                       string
		replicas                   int32
		surge, unavailable         string
		wantSurge, wantUnavailable int32
	}{
		{name: "surge rounds up, unavailable down", replicas: 10, surge: "25%", unavailable: "25%", wantSurge: 3, wantUnavailable: 2},
		{name: "one replica", replicas: 1, surge: "25%", unavailable: "25%", wantSurge: 1, wantUnavailable: 0},
		{name: "never both zero", replicas: 3, surge: "0", unavailable: "10%", wantSurge: 0, wantUnavailable: 1},
		{name: "no more than all", replicas: 2, surge: "1", unavailable: "5", wantSurge: 1, wantUnavailable: 2},
		{name: "no replicas", replicas: 0, surge: "25%", unavailable: "25%", wantSurge: 0, wantUnavailable: 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, u := limits(web(tc.replicas, "a", tc.surge, tc.unavailable))
			if s != tc.wantSurge || u != tc.wantUnavailable {
				t.Errorf("surge %d, unavailable %d; want %d, %d", s, u, tc.wantSurge, tc.wantUnavailable)
			}
		})
	}
}

func TestRollingSteps(t *testing.T) {
	t.Parallel()
	d := web(10, "b", "3", "2")
	type sets = []*appsv1.ReplicaSet
	for _, tc := range []struct {
		name string
		sets sets
		want map[string]int32
	}{
		{name: "first version", want: map[string]int32{"new": 10}},
		{name: "new set within the surge", sets: sets{set(d, 1, "a", 10, 10)}, want: map[string]int32{"new": 3}},
		{name: "old shrinks to the least available", sets: sets{set(d, 1, "a", 10, 10), set(d, 2, "b", 3, 0)}, want: map[string]int32{"web-1": 8}},
		{name: "new grows into the room", sets: sets{set(d, 1, "a", 8, 8), set(d, 2, "b", 3, 0)}, want: map[string]int32{"web-2": 5}},
		{name: "nothing while the new is not available", sets: sets{set(d, 1, "a", 8, 8), set(d, 2, "b", 5, 0)}, want: map[string]int32{}},
		{name: "as many as became available", sets: sets{set(d, 1, "a", 8, 8), set(d, 2, "b", 5, 4)}, want: map[string]int32{"web-1": 4}},
		{name: "old ones that do not work go first", sets: sets{set(d, 1, "a", 10, 4), set(d, 2, "b", 3, 0)}, want: map[string]int32{"web-1": 8}},
		{name: "oldest first", sets: sets{set(d, 1, "a", 4, 4), set(d, 2, "c", 4, 4), set(d, 3, "b", 5, 4)}, want: map[string]int32{"web-1": 0}},
		{name: "the last old one goes", sets: sets{set(d, 1, "a", 2, 2), set(d, 2, "b", 10, 10)}, want: map[string]int32{"web-1": 0}},
		{name: "done", sets: sets{set(d, 1, "a", 0, 0), set(d, 2, "b", 10, 10)}, want: map[string]int32{}},
		{name: "back to an old version", sets: sets{set(d, 1, "b", 0, 0), set(d, 2, "a", 10, 10)}, want: map[string]int32{"web-1": 3}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, sizes(decide(snapshot{deployment: d, sets: tc.sets, now: now}))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestStaleStatusTakesNoMore: sets were shrunk, their statuses still count the pods that go.
func TestStaleStatusTakesNoMore(t *testing.T) {
	t.Parallel()
	d := web(10, "b", "3", "2")
	for name, sets := range map[string][]*appsv1.ReplicaSet{
		"old":         {set(d, 1, "a", 8, 10), set(d, 2, "b", 5, 0)},
		"old and new": {set(d, 1, "a", 2, 6), set(d, 2, "c", 1, 1), set(d, 3, "b", 10, 5)},
	} {
		if got := sizes(decide(snapshot{deployment: d, sets: sets, now: now})); len(got) != 0 {
			t.Errorf("%s: sizes %v, want none changed", name, got)
		}
	}
}

func TestRecreateSteps(t *testing.T) {
	t.Parallel()
	d := web(3, "b", "1", "1")
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	for _, tc := range []struct {
		name    string
		sets    []*appsv1.ReplicaSet
		running bool
		want    map[string]int32
	}{
		{name: "old goes first", sets: []*appsv1.ReplicaSet{set(d, 1, "a", 3, 3)}, running: true, want: map[string]int32{"web-1": 0}},
		{name: "waits for its pods", sets: []*appsv1.ReplicaSet{set(d, 1, "a", 0, 0)}, running: true, want: map[string]int32{}},
		{name: "then all at once", sets: []*appsv1.ReplicaSet{set(d, 1, "a", 0, 0)}, want: map[string]int32{"new": 3}},
		{name: "back to an old version", sets: []*appsv1.ReplicaSet{set(d, 1, "b", 0, 0), set(d, 2, "a", 0, 0)}, want: map[string]int32{"web-1": 3}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			running := func(*appsv1.ReplicaSet) bool { return tc.running }
			if diff := cmp.Diff(tc.want, sizes(decide(snapshot{deployment: d, sets: tc.sets, running: running, now: now}))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestResize(t *testing.T) {
	t.Parallel()
	type sets = []*appsv1.ReplicaSet
	for _, tc := range []struct {
		name     string
		from, to int32
		sets     func(d *appsv1.Deployment) sets
		paused   bool
		want     map[string]int32
	}{
		{name: "one set takes it all", from: 5, to: 8, sets: func(d *appsv1.Deployment) sets { return sets{set(d, 1, "b", 5, 5)} }, want: map[string]int32{"web-1": 8}},
		{name: "several share by size", from: 10, to: 15, sets: func(d *appsv1.Deployment) sets { return sets{set(d, 1, "a", 8, 8), set(d, 2, "b", 5, 0)} },
			want: map[string]int32{"web-1": 11, "web-2": 7}},
		{name: "down in proportion", from: 10, to: 5, sets: func(d *appsv1.Deployment) sets { return sets{set(d, 1, "a", 8, 8), set(d, 2, "b", 5, 0)} },
			want: map[string]int32{"web-1": 5, "web-2": 3}},
		{name: "to nothing", from: 10, to: 0, sets: func(d *appsv1.Deployment) sets { return sets{set(d, 1, "a", 8, 8), set(d, 2, "b", 5, 0)} },
			want: map[string]int32{"web-1": 0, "web-2": 0}},
		{name: "paused with one set", from: 3, to: 4, paused: true, sets: func(d *appsv1.Deployment) sets { return sets{set(d, 1, "a", 3, 3)} }, want: map[string]int32{"web-1": 4}},
		{name: "paused without a set", from: 3, to: 4, paused: true, sets: func(*appsv1.Deployment) sets { return nil }, want: map[string]int32{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := web(tc.from, "b", "3", "2")
			all := tc.sets(d)
			d.Spec.Replicas, d.Spec.Paused = &tc.to, tc.paused
			p := decide(snapshot{deployment: d, sets: all, now: now})
			if diff := cmp.Diff(tc.want, sizes(p)); diff != "" {
				t.Error(diff)
			}
			for _, c := range p.update {
				if got := c.to.Annotations[desiredAnnotation]; got != fmt.Sprint(tc.to) {
					t.Errorf("%s says desired-replicas %s", c.to.Name, got)
				}
			}
		})
	}
}

func TestHistoryLimit(t *testing.T) {
	t.Parallel()
	d := web(1, "e", "1", "0")
	all := []*appsv1.ReplicaSet{set(d, 4, "a", 0, 0), set(d, 2, "b", 0, 0), set(d, 3, "c", 0, 0), set(d, 1, "d", 0, 0), set(d, 5, "e", 1, 1)}
	all[1].Status.ObservedGeneration, all[1].Generation = 1, 2 // not settled: stays for now
	p := decide(snapshot{deployment: d, sets: all, now: now})
	var names []string
	for _, rs := range p.remove {
		names = append(names, rs.Name)
	}
	if diff := cmp.Diff([]string{"web-1", "web-3"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestRevisions(t *testing.T) {
	t.Parallel()
	d := web(1, "a", "1", "0")
	d.Annotations = map[string]string{"kubernetes.io/change-cause": "undo", revisionAnnotation: "7", corev1.LastAppliedConfigAnnotation: "{}"}
	back, newest := set(d, 3, "a", 0, 0), set(d, 7, "b", 1, 1)
	back.Annotations[historyAnnotation] = "1"
	p := decide(snapshot{deployment: d, sets: []*appsv1.ReplicaSet{back, newest}, now: now})
	want := map[string]string{"kubernetes.io/change-cause": "undo", revisionAnnotation: "8", historyAnnotation: "1,3", desiredAnnotation: "1", maxAnnotation: "2"}
	if diff := cmp.Diff(want, p.update[0].to.Annotations); diff != "" || p.revision != "8" {
		t.Errorf("deployment gets %s; %s", p.revision, diff)
	}
}

func TestTemplateHashDiffers(t *testing.T) {
	t.Parallel()
	a, b := template("a"), template("b")
	seen := map[string]bool{templateHash(&a, nil): true, templateHash(&b, nil): true, templateHash(&a, ptr.To[int32](1)): true}
	if len(seen) != 3 || !seen[templateHash(a.DeepCopy(), nil)] {
		t.Errorf("hashes %v", seen)
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	d := web(2, "a", "1", "0")
	cond := func(reason string, ago time.Duration) *appsv1.DeploymentCondition {
		return &appsv1.DeploymentCondition{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: reason, LastUpdateTime: metav1.NewTime(now.Add(-ago))}
	}
	for _, tc := range []struct {
		name      string
		available int32
		was       *appsv1.DeploymentCondition
		seen      int32 // available replicas last time
		want      string
		after     time.Duration
	}{
		{name: "found", want: `True FoundNewReplicaSet Found new replica set "web-1"`, after: 600 * time.Second},
		{name: "moving", available: 1, was: cond("NewReplicaSetCreated", time.Minute), want: `True ReplicaSetUpdated ReplicaSet "web-1" is progressing.`, after: 600 * time.Second},
		{name: "standing", available: 1, seen: 1, was: cond("ReplicaSetUpdated", time.Minute), want: `True ReplicaSetUpdated `, after: 540 * time.Second},
		{name: "too late", available: 1, seen: 1, was: cond("ReplicaSetUpdated", time.Hour), want: `False ProgressDeadlineExceeded ReplicaSet "web-1" has timed out progressing.`},
		{name: "done", available: 2, was: cond("ReplicaSetUpdated", time.Minute), want: `True NewReplicaSetAvailable ReplicaSet "web-1" has successfully progressed.`},
		{name: "a pod lost after it was done", available: 1, seen: 2, was: cond("NewReplicaSetAvailable", time.Hour), want: "True NewReplicaSetAvailable "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := d.DeepCopy()
			d.Status = appsv1.DeploymentStatus{Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: tc.seen, AvailableReplicas: tc.seen}
			if tc.was != nil {
				d.Status.Conditions = []appsv1.DeploymentCondition{*tc.was}
			}
			p := decide(snapshot{deployment: d, sets: []*appsv1.ReplicaSet{set(d, 1, "a", 2, tc.available)}, now: now})
			c := condition(&p.status, appsv1.DeploymentProgressing)
			if got := fmt.Sprint(c.Status, " ", c.Reason, " ", c.Message); got != tc.want || p.after != tc.after {
				t.Errorf("got %s, again after %s; want %s, %s", got, p.after, tc.want, tc.after)
			}
		})
	}
}
