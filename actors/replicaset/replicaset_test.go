package replicaset

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/controller/controllertest"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/messages"
)

var webKey = messages.KeyOf(messages.ReplicaSets, "default", "web")

func web(replicas int32) *appsv1.ReplicaSet {
	app := map[string]string{"app": "web"}
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "web-uid", Generation: 1},
		Spec: appsv1.ReplicaSetSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: app},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: app}}},
	}
}

func scale(t *testing.T, w *controllertest.World, replicas int32) {
	t.Helper()
	_, err := w.Mutate(t.Context(), webKey, "", func(o objects.Object) (objects.Object, error) {
		o.(*appsv1.ReplicaSet).Spec.Replicas = &replicas
		return o, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Settle()
}

// setReady makes a pod run and be ready.
func setReady(w *controllertest.World, pod *corev1.Pod) {
	pod = pod.DeepCopy()
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
	w.Put(pod)
}

func pods(w *controllertest.World) []*corev1.Pod {
	return objects.List[*corev1.Pod](w, messages.Pods, "default")
}

func status(t *testing.T, w *controllertest.World) appsv1.ReplicaSetStatus {
	t.Helper()
	return objectstest.Must[*appsv1.ReplicaSet](t, w.Store, webKey).Status
}

func TestCreatesPodsOfTheTemplate(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		all := pods(w)
		if len(all) != 3 {
			t.Fatalf("%d pods, want 3", len(all))
		}
		pod := all[0]
		want := []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "web-uid", Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true)}}
		if diff := cmp.Diff(want, pod.OwnerReferences); diff != "" || pod.GenerateName != "web-" || pod.Labels["app"] != "web" {
			t.Errorf("pod %q labels %v %s", pod.GenerateName, pod.Labels, diff)
		}
		if got := status(t, w); got.Replicas != 3 || got.ReadyReplicas != 0 || got.ObservedGeneration != 1 {
			t.Errorf("status %+v", got)
		}
		events := w.Recorder.Events()
		if len(events) != 3 || !strings.Contains(events[0], "replicasets.apps/default/web Normal SuccessfulCreate: Created pod: web-") {
			t.Errorf("events %q", events)
		}
	}, web(3))
}

func TestScalesDownAndReplacesLostPods(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		kept := pods(w)[1]
		setReady(w, kept)
		scale(t, w, 1)
		if all := pods(w); len(all) != 1 || all[0].Name != kept.Name {
			t.Fatalf("%d pods, want the ready one", len(all))
		}
		w.Drop(objectstest.KeyOf(kept))
		w.Settle()
		if all := pods(w); len(all) != 1 || all[0].UID == kept.UID {
			t.Errorf("the lost pod was not replaced: %d pods", len(all))
		}
	}, web(3))
}

func TestAdoptsAndReleases(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		free := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "free", Labels: map[string]string{"app": "web"}}}
		setReady(w, free)
		w.Settle()
		all := pods(w)
		if len(all) != 2 || !slices.ContainsFunc(all, func(p *corev1.Pod) bool { return p.Name == "free" && metav1.IsControlledBy(p, web(0)) }) {
			t.Fatalf("not adopted, or none deleted for it: %d pods", len(all))
		}
		stray := objectstest.Must[*corev1.Pod](t, w.Store, messages.KeyOf(messages.Pods, "default", "free"))
		stray.Labels = nil
		w.Put(stray)
		w.Settle()
		stray = objectstest.Must[*corev1.Pod](t, w.Store, objectstest.KeyOf(stray))
		if len(stray.OwnerReferences) != 0 || len(pods(w)) != 3 {
			t.Errorf("not released or not replaced: %d pods, owners %v", len(pods(w)), stray.OwnerReferences)
		}
	}, web(2))
}

func TestAnEndedPodIsNotAdopted(t *testing.T) {
	t.Parallel()
	over := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "over", Labels: map[string]string{"app": "web"}}, Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		if p := objectstest.Must[*corev1.Pod](t, w.Store, objectstest.KeyOf(over)); len(p.OwnerReferences) != 0 || len(pods(w)) != 2 {
			t.Errorf("%d pods, owners of the ended one %v", len(pods(w)), p.OwnerReferences)
		}
	}, web(1), over)
}

func TestAvailableAfterMinReadySeconds(t *testing.T) {
	t.Parallel()
	rs := web(1)
	rs.Spec.MinReadySeconds = 10
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		setReady(w, pods(w)[0])
		w.Settle()
		if got := status(t, w); got.ReadyReplicas != 1 || got.AvailableReplicas != 0 {
			t.Errorf("status at once %+v", got)
		}
		time.Sleep(10 * time.Second)
		if got := status(t, w); got.AvailableReplicas != 1 {
			t.Errorf("status later %+v", got)
		}
	}, rs)
}

func TestAFailureToCreateIsReportedAndHeals(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.FailWith(func(wr objectstest.Write) error {
			if wr.Verb == "create" {
				return errors.New("exceeded quota")
			}
			return nil
		})
		w.Start(Spec(w.Deps()))
		got := status(t, w).Conditions
		if len(got) != 1 || got[0].Reason != "FailedCreate" || got[0].Message != "exceeded quota" {
			t.Errorf("conditions %+v", got)
		}
		if ev := w.Recorder.Events(); len(ev) != 1 || !strings.HasSuffix(ev[0], "Warning FailedCreate: Error creating: exceeded quota") {
			t.Errorf("events %q; slow start tries one", ev)
		}
		w.FailWith(nil)
		time.Sleep(time.Minute)
		if got := status(t, w); len(got.Conditions) != 0 || len(pods(w)) != 20 {
			t.Errorf("not healed: %d pods, %+v", len(pods(w)), got)
		}
	}, web(20))
}

func TestALeavingSetCreatesNothing(t *testing.T) {
	t.Parallel()
	rs := web(3)
	rs.DeletionTimestamp, rs.Finalizers = ptr.To(metav1.Now()), []string{"orphan"}
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		if n := len(pods(w)); n != 0 {
			t.Errorf("%d pods", n)
		}
	}, rs)
}

// TestABurstCostsFewStatusWrites drives 500 pods through four changes each within a second.
func TestABurstCostsFewStatusWrites(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		all := pods(w)
		w.Writes()
		for i, pod := range all {
			pod = pod.DeepCopy()
			pod.Spec.NodeName = "n"
			w.Put(pod)
			setReady(w, pod)
			time.Sleep(2 * time.Millisecond)
			if i == 250 {
				scale(t, w, 500) // no change
			}
		}
		w.Settle()
		if n := len(w.Writes()); n > 25 {
			t.Errorf("%d writes in a second", n)
		}
		if got := status(t, w); got.ReadyReplicas != 500 || got.Replicas != 500 {
			t.Errorf("status %+v", got)
		}
	}, web(500))
}

// TestNeverTooMany kills and strays pods at random moments and counts after each step.
func TestNeverTooMany(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		for i := range 50 {
			all := pods(w)
			victim := all[i%len(all)]
			if i%3 == 0 {
				w.Drop(objectstest.KeyOf(victim))
			} else {
				setReady(w, victim)
			}
			time.Sleep(time.Duration(i) * time.Millisecond)
		}
		w.Settle()
		created := 0
		for _, wr := range w.Writes() {
			switch wr.Verb {
			case "create":
				created++
			case "delete":
				t.Errorf("deleted %s: there was one too many", wr.Key)
			}
		}
		if created != 10+17 {
			t.Errorf("created %d pods, want 27", created)
		}
	}, web(10))
}

func BenchmarkPass(b *testing.B) {
	w := objectstest.New(clock.RealClock{})
	rs := web(500)
	w.Put(rs)
	for i := range 500 {
		pod := podOf(rs)
		pod.Name, pod.UID = fmt.Sprint("p", i), types.UID(fmt.Sprint(i))
		pod.CreationTimestamp = metav1.Now()
		w.Put(pod)
	}
	all := objects.List[*corev1.Pod](w, messages.Pods, "")
	for b.Loop() {
		count(rs, all, time.Now())
	}
}
