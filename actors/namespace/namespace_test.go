package namespace

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/troupe-run/troupe/actors/controller/controllertest"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/messages"
)

var teamKey = messages.KeyOf(messages.Namespaces, "", "team")

func team() *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}, Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}}}
}

func meta(name string, finalizers ...string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "team", Name: name, Finalizers: finalizers}
}

func deleteTeam(t *testing.T, w *controllertest.World) {
	t.Helper()
	if err := w.Delete(t.Context(), teamKey, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.Settle()
}

// said returns a condition of the namespace as "status reason message".
func said(t *testing.T, w *controllertest.World, kind corev1.NamespaceConditionType) string {
	t.Helper()
	for _, c := range objectstest.Must[*corev1.Namespace](t, w.Store, teamKey).Status.Conditions {
		if c.Type == kind {
			return string(c.Status) + " " + c.Reason + " " + c.Message
		}
	}
	return ""
}

func TestPodsGoFirstThenAllThenTheNamespace(t *testing.T) {
	t.Parallel()
	pod := &corev1.Pod{ObjectMeta: meta("p"), Spec: corev1.PodSpec{NodeName: "n"}}
	custom := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.com/v1", "kind": "Widget"}}
	custom.SetNamespace("team")
	custom.SetName("w")
	elsewhere := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "c"}}
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		deleteTeam(t, w)
		if p := objectstest.Must[*corev1.Pod](t, w.Store, objectstest.KeyOf(pod)); p.DeletionTimestamp == nil || *p.DeletionGracePeriodSeconds != 30 {
			t.Error("the pod is not being deleted with its grace")
		}
		if _, ok := w.Get(messages.KeyOf(messages.ConfigMaps, "team", "c")); !ok {
			t.Error("the ConfigMap went before the pod")
		}
		want := "True SomeResourcesRemain Some resources are remaining: configmaps. has 1 resource instances, pods. has 1 resource instances, widgets.example.com has 1 resource instances"
		if got := said(t, w, corev1.NamespaceContentRemaining); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		w.Drop(objectstest.KeyOf(pod))
		w.Settle()
		for _, key := range []messages.Key{teamKey, objectstest.KeyOf(custom), messages.KeyOf(messages.ConfigMaps, "team", "c")} {
			if _, ok := w.Get(key); ok {
				t.Errorf("%s is still there", key)
			}
		}
		if _, ok := w.Get(objectstest.KeyOf(elsewhere)); !ok {
			t.Error("another namespace was emptied")
		}
	}, team(), pod, custom, elsewhere, &corev1.ConfigMap{ObjectMeta: meta("c")})
}

func TestFinalizersThatHoldAreNamed(t *testing.T) {
	t.Parallel()
	held := &corev1.ConfigMap{ObjectMeta: meta("held", "example.com/a", "example.com/b")}
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		deleteTeam(t, w)
		want := "True SomeFinalizersRemain Some content in the namespace has finalizers remaining: example.com/a in 1 resource instances, example.com/b in 1 resource instances"
		if got := said(t, w, corev1.NamespaceFinalizersRemaining); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		w.Writes()
		time.Sleep(time.Hour)
		if got := w.Writes(); len(got) != 0 {
			t.Errorf("writes while waiting: %v", got)
		}
		_, err := w.Mutate(t.Context(), objectstest.KeyOf(held), "", func(o objects.Object) (objects.Object, error) {
			o.SetFinalizers(nil)
			return o, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		w.Settle()
		if _, ok := w.Get(teamKey); ok {
			t.Error("the namespace is still there")
		}
	}, team(), held)
}

func TestARefusalIsShownAndOthersGo(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.FailWith(func(wr objectstest.Write) error {
			if wr.Key.Name == "a" {
				return errors.New("webhook says no")
			}
			return nil
		})
		w.Start(Spec(w.Deps()))
		deleteTeam(t, w)
		want := "True ContentDeletionFailed Failed to delete all resource types, delete configmaps/team/a: webhook says no"
		if got := said(t, w, corev1.NamespaceDeletionContentFailure); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if n := len(w.List(messages.ConfigMaps, "team")); n != 1 {
			t.Errorf("%d ConfigMaps left, want the refused one", n)
		}
		w.FailWith(nil)
		time.Sleep(time.Minute)
		if _, ok := w.Get(teamKey); ok {
			t.Error("the namespace is still there")
		}
	}, team(), &corev1.ConfigMap{ObjectMeta: meta("a")}, &corev1.ConfigMap{ObjectMeta: meta("b")})
}

func TestALivingNamespaceIsLeftAlone(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		w.Put(&corev1.ConfigMap{ObjectMeta: meta("b")})
		w.Settle()
		if got := w.Writes(); len(got) != 0 {
			t.Errorf("writes %v", got)
		}
	}, team(), &corev1.ConfigMap{ObjectMeta: meta("a")})
}

func TestConditionsKeepTheirTransitionTime(t *testing.T) {
	t.Parallel()
	first, later := time.Unix(100, 0), time.Unix(200, 0)
	content := []item{{messages.KeyOf(messages.ConfigMaps, "team", "a"), &corev1.ConfigMap{ObjectMeta: meta("a")}}}
	was := conditions(nil, content, nil, first)
	if diff := cmp.Diff(was, conditions(was, content, nil, later)); diff != "" {
		t.Error(diff)
	}
	for _, c := range conditions(was, nil, nil, later) {
		if want := c.Type == corev1.NamespaceContentRemaining; c.LastTransitionTime.Time.Equal(later) != want {
			t.Errorf("%s changed at %s", c.Type, c.LastTransitionTime)
		}
	}
}
