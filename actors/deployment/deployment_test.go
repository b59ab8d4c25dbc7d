package deployment

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/controller/controllertest"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/actors/replicaset"
	"github.com/troupe-run/troupe/messages"
)

var webKey = messages.KeyOf(messages.Deployments, "default", "web")

func start(w *controllertest.World, healthy func(*corev1.Pod) bool) {
	w.Start(Spec(w.Deps()))
	w.Start(replicaset.Spec(w.Deps()))
	w.Start(w.Kubelet(300*time.Millisecond, healthy))
}

func edit(t *testing.T, w *controllertest.World, fn func(*appsv1.Deployment)) {
	t.Helper()
	_, err := w.Mutate(t.Context(), webKey, "", func(o objects.Object) (objects.Object, error) {
		fn(o.(*appsv1.Deployment))
		return o, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, w *controllertest.World) *appsv1.Deployment {
	t.Helper()
	return objectstest.Must[*appsv1.Deployment](t, w.Store, webKey)
}

func listSets(w *controllertest.World) []*appsv1.ReplicaSet {
	return objects.List[*appsv1.ReplicaSet](w, messages.ReplicaSets, "default")
}

func images(w *controllertest.World) map[string]int {
	out := make(map[string]int)
	for _, p := range objects.List[*corev1.Pod](w, messages.Pods, "default") {
		out[p.Spec.Containers[0].Image]++
	}
	return out
}

func reason(d *appsv1.Deployment, t appsv1.DeploymentConditionType) string {
	if c := condition(&d.Status, t); c != nil {
		return c.Reason
	}
	return ""
}

func TestRollsOutWithinItsLimits(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		start(w, nil)
		time.Sleep(10 * time.Second)
		first := get(t, w)
		want := appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 10, UpdatedReplicas: 10, ReadyReplicas: 10, AvailableReplicas: 10, TerminatingReplicas: ptr.To[int32](0)}
		if diff := cmp.Diff(want, first.Status, cmpopts.IgnoreFields(want, "Conditions")); diff != "" {
			t.Error(diff)
		}
		if a, p := reason(first, appsv1.DeploymentAvailable), reason(first, appsv1.DeploymentProgressing); a != "MinimumReplicasAvailable" || p != "NewReplicaSetAvailable" || first.Annotations[revisionAnnotation] != "1" {
			t.Errorf("available %s, progressing %s, revision %s", a, p, first.Annotations[revisionAnnotation])
		}
		most, least := 0, 10
		stop := w.Follow([]messages.Resource{messages.Pods}, func(objects.Change) {
			all, ready := 0, 0
			for _, p := range objects.List[*corev1.Pod](w, messages.Pods, "default") {
				if p.DeletionTimestamp != nil {
					continue
				}
				all++
				if len(p.Status.Conditions) > 1 {
					ready++
				}
			}
			most, least = max(most, all), min(least, ready)
		})
		edit(t, w, func(d *appsv1.Deployment) { d.Spec.Template = template("b") })
		time.Sleep(time.Minute)
		stop()
		if diff := cmp.Diff(map[string]int{"b": 10}, images(w)); diff != "" {
			t.Error(diff)
		}
		if most > 13 || least < 8 {
			t.Errorf("at most %d pods, at least %d ready; want 13 and 8", most, least)
		}
		if d := get(t, w); reason(d, appsv1.DeploymentProgressing) != "NewReplicaSetAvailable" || d.Annotations[revisionAnnotation] != "2" || d.Status.Replicas != 10 {
			t.Errorf("status %+v", d.Status)
		}
	}, web(10, "a", "3", "2"))
}

func TestEvents(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		name := listSets(w)[0].Name
		edit(t, w, func(d *appsv1.Deployment) { d.Spec.Replicas = ptr.To[int32](1) })
		w.Settle()
		want := []string{
			"deployments.apps/default/web Normal ScalingReplicaSet: Scaled up replica set " + name + " from 0 to 3",
			"deployments.apps/default/web Normal ScalingReplicaSet: Scaled down replica set " + name + " from 3 to 1",
		}
		if diff := cmp.Diff(want, w.Recorder.Events()); diff != "" {
			t.Error(diff)
		}
	}, web(3, "a", "25%", "25%"))
}

func TestUndoComesBackToTheOldSet(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		start(w, nil)
		for _, image := range []string{"a", "b", "a"} {
			edit(t, w, func(d *appsv1.Deployment) { d.Spec.Template = template(image) })
			time.Sleep(time.Minute)
		}
		if diff := cmp.Diff(map[string]int{"a": 3}, images(w)); diff != "" || len(listSets(w)) != 2 {
			t.Errorf("%d sets; %s", len(listSets(w)), diff)
		}
		if d := get(t, w); d.Annotations[revisionAnnotation] != "3" {
			t.Errorf("revision %s", d.Annotations[revisionAnnotation])
		}
	}, web(3, "a", "25%", "25%"))
}

func TestABrokenVersionKeepsTheOldOneAndMissesItsDeadline(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		start(w, func(p *corev1.Pod) bool { return p.Spec.Containers[0].Image != "broken" })
		time.Sleep(time.Minute)
		edit(t, w, func(d *appsv1.Deployment) { d.Spec.Template = template("broken") })
		time.Sleep(9 * time.Minute)
		if got := reason(get(t, w), appsv1.DeploymentProgressing); got != "ReplicaSetUpdated" {
			t.Errorf("after nine minutes: %s", got)
		}
		time.Sleep(2 * time.Minute)
		d := get(t, w)
		if diff := cmp.Diff(map[string]int{"a": 4, "broken": 1}, images(w)); diff != "" || reason(d, appsv1.DeploymentProgressing) != "ProgressDeadlineExceeded" || d.Status.AvailableReplicas != 4 {
			t.Errorf("status %+v %s", d.Status, diff)
		}
	}, web(4, "a", "1", "0"))
}

func TestRecreateNeverMixes(t *testing.T) {
	t.Parallel()
	d := web(3, "a", "1", "1")
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		start(w, nil)
		time.Sleep(time.Minute)
		stop := w.Follow([]messages.Resource{messages.Pods}, func(objects.Change) {
			if n := len(images(w)); n > 1 {
				t.Errorf("%d versions at a time", n)
			}
		})
		edit(t, w, func(d *appsv1.Deployment) { d.Spec.Template = template("b") })
		time.Sleep(time.Minute)
		stop()
		if diff := cmp.Diff(map[string]int{"b": 3}, images(w)); diff != "" {
			t.Error(diff)
		}
	}, d)
}

func TestPauseHoldsAndResumeGoesOn(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		start(w, nil)
		time.Sleep(time.Minute)
		edit(t, w, func(d *appsv1.Deployment) { d.Spec.Paused, d.Spec.Template = true, template("b") })
		time.Sleep(time.Minute)
		if d := get(t, w); reason(d, appsv1.DeploymentProgressing) != "DeploymentPaused" || len(listSets(w)) != 1 {
			t.Errorf("%d sets, %+v", len(listSets(w)), d.Status)
		}
		edit(t, w, func(d *appsv1.Deployment) { d.Spec.Paused = false })
		time.Sleep(time.Minute)
		if d := get(t, w); reason(d, appsv1.DeploymentProgressing) != "NewReplicaSetAvailable" || images(w)["b"] != 3 {
			t.Errorf("pods %v, %+v", images(w), d.Status)
		}
	}, web(3, "a", "25%", "25%"))
}

func TestAdoptsAMatchingSet(t *testing.T) {
	t.Parallel()
	d := web(3, "a", "25%", "25%")
	free := set(d, 1, "a", 3, 3)
	free.OwnerReferences = nil
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		all := listSets(w)
		if len(all) != 1 || !metav1.IsControlledBy(all[0], d) {
			t.Errorf("%d sets, owners of the first %v", len(all), all[0].OwnerReferences)
		}
	}, d, free)
}

func TestANameTakenMovesTheHashOn(t *testing.T) {
	t.Parallel()
	d := web(3, "a", "25%", "25%")
	squatter := newSet(d, 3, 1, 1)
	squatter.OwnerReferences, squatter.Labels, squatter.Spec.Template = nil, nil, template("other")
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		w.Settle()
		if d := get(t, w); ptr.Deref(d.Status.CollisionCount, 0) != 1 || len(listSets(w)) != 2 {
			t.Errorf("%d sets, collisions %v", len(listSets(w)), d.Status.CollisionCount)
		}
	}, d, squatter)
}

func TestASetThatCannotBeMadeIsReported(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.FailWith(func(wr objectstest.Write) error {
			if wr.Verb == "create" {
				return errors.New("exceeded quota")
			}
			return nil
		})
		w.Start(Spec(w.Deps()))
		if got := reason(get(t, w), appsv1.DeploymentProgressing); got != "ReplicaSetCreateError" {
			t.Errorf("reason %s", got)
		}
		w.FailWith(nil)
		time.Sleep(time.Minute)
		if len(listSets(w)) != 1 {
			t.Error("not made later")
		}
	}, web(3, "a", "25%", "25%"))
}

func TestASizeChangedBySomebodyElseIsNotOverwritten(t *testing.T) {
	t.Parallel()
	d := web(3, "a", "25%", "25%")
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		seen := set(d, 1, "a", 5, 5)
		planned := seen.DeepCopy()
		planned.Spec.Replicas = ptr.To[int32](4)
		found := set(d, 1, "a", 9, 5)
		seen.UID, found.UID = "rs", "rs"
		w.Put(found)
		s := &deployments{Deps: w.Deps()}
		if err := s.update(t.Context(), d, change{seen, planned}); !apierrors.IsConflict(err) {
			t.Errorf("got %v, want a conflict", err)
		}
	}, d)
}
