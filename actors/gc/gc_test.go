package gc

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/controller/controllertest"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/messages"
)

// object is any namespaced object here: a ConfigMap "name" of uid "name", owned as said.
func object(name string, owners ...metav1.OwnerReference) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), OwnerReferences: owners}}
}

// by refers to the ConfigMap of that name and uid and blocks its deletion.
func by(name string) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: name, UID: types.UID(name), BlockOwnerDeletion: ptr.To(true)}
}

func remove(t *testing.T, w *controllertest.World, name string, policy metav1.DeletionPropagation) {
	t.Helper()
	if err := w.Delete(t.Context(), messages.KeyOf(messages.ConfigMaps, "default", name), metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
		t.Fatal(err)
	}
	w.Settle()
}

// left returns the names of what there is, "!" marks what is being deleted.
func left(w *controllertest.World) (out []string) {
	for _, o := range w.List(messages.ConfigMaps, "") {
		name := o.GetName()
		if o.GetDeletionTimestamp() != nil {
			name += "!"
		}
		out = append(out, name)
	}
	return out
}

func TestCascade(t *testing.T) {
	t.Parallel()
	held := object("c", by("b"))
	held.Finalizers = []string{"example.com/hold"}
	loose := by("a")
	loose.BlockOwnerDeletion = nil
	heldLoosely := object("b", loose)
	heldLoosely.Finalizers = held.Finalizers
	for _, tc := range []struct {
		name   string
		objs   []objects.Object
		policy metav1.DeletionPropagation
		want   []string
	}{
		{name: "background takes dependents of dependents", policy: metav1.DeletePropagationBackground,
			objs: []objects.Object{object("a"), object("b", by("a")), object("c", by("b")), object("other")}, want: []string{"other"}},
		{name: "orphan leaves them", policy: metav1.DeletePropagationOrphan,
			objs: []objects.Object{object("a"), object("b", by("a")), object("c", by("b"))}, want: []string{"b", "c"}},
		{name: "foreground goes from the leaves", policy: metav1.DeletePropagationForeground,
			objs: []objects.Object{object("a"), object("b", by("a")), object("c", by("b"))}},
		{name: "foreground waits for what blocks", policy: metav1.DeletePropagationForeground,
			objs: []objects.Object{object("a"), object("b", by("a")), held}, want: []string{"a!", "b!", "c!"}},
		{name: "foreground does not wait for what does not block", policy: metav1.DeletePropagationForeground,
			objs: []objects.Object{object("a"), heldLoosely}, want: []string{"b!"}},
		{name: "another owner keeps it", policy: metav1.DeletePropagationBackground,
			objs: []objects.Object{object("a"), object("b"), object("c", by("a"), by("b"))}, want: []string{"b", "c"}},
		{name: "another owner keeps it in the foreground too", policy: metav1.DeletePropagationForeground,
			objs: []objects.Object{object("a"), object("b"), object("c", by("a"), by("b"))}, want: []string{"b", "c"}},
		{name: "a circle does not wait for itself", policy: metav1.DeletePropagationForeground,
			objs: []objects.Object{object("a", by("c")), object("b", by("a")), object("c", by("b"))}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
				w.Start(Spec(w.Deps()))
				remove(t, w, "a", tc.policy)
				if diff := cmp.Diff(tc.want, left(w)); diff != "" {
					t.Error(diff)
				}
			}, tc.objs...)
		})
	}
}

func TestAKeptObjectLosesTheGoneOwner(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		c := objectstest.Must[*corev1.ConfigMap](t, w.Store, messages.KeyOf(messages.ConfigMaps, "default", "c"))
		if diff := cmp.Diff([]metav1.OwnerReference{by("b")}, c.OwnerReferences); diff != "" {
			t.Error(diff)
		}
	}, object("b"), object("c", by("gone"), by("b")))
}

func TestOwnersAreToldApartByUID(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		again := object("a")
		again.UID = "second life"
		w.Put(again) // delete and create, seen as one step
		w.Settle()
		w.Put(object("late", by("a")))
		w.Settle()
		if diff := cmp.Diff([]string{"a"}, left(w)); diff != "" {
			t.Error(diff)
		}
	}, object("a"), object("b", by("a")))
}

func TestWhatHappenedWhileNobodyLookedIsMadeUp(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		w.Settle()
		if got := left(w); len(got) != 0 {
			t.Errorf("left %v", got)
		}
	}, object("b", by("gone")), object("c", by("b")))
}

func TestOwnersOfOtherKinds(t *testing.T) {
	t.Parallel()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "n"}}
	custom := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.com/v1", "kind": "Widget"}}
	custom.SetName("w")
	custom.SetNamespace("default")
	custom.SetUID("w")
	ofNode := object("of-node", metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: "n", UID: "n"})
	ofCustom := object("of-custom", metav1.OwnerReference{APIVersion: "example.com/v1", Kind: "Widget", Name: "w", UID: "w"})
	ofUnknown := object("of-unknown", metav1.OwnerReference{APIVersion: "example.org/v1", Kind: "Thing", Name: "t", UID: "t"})
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		w.Settle()
		if diff := cmp.Diff([]string{"of-custom", "of-node", "of-unknown"}, left(w)); diff != "" {
			t.Error(diff)
		}
		w.Drop(objectstest.KeyOf(node))
		w.Drop(objectstest.KeyOf(custom))
		w.Settle()
		if diff := cmp.Diff([]string{"of-unknown"}, left(w)); diff != "" {
			t.Error(diff)
		}
	}, node, custom, ofNode, ofCustom, ofUnknown)
}

func TestAnOwnerInAnotherNamespaceIsNone(t *testing.T) {
	t.Parallel()
	far := object("far")
	far.Namespace = "elsewhere"
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		w.Settle()
		if diff := cmp.Diff([]string{"far"}, left(w)); diff != "" {
			t.Error(diff)
		}
		want := "configmaps/default/near Warning OwnerRefInvalidNamespace: ownerRef [v1/ConfigMap, name: far, uid: far] does not exist in namespace default"
		if ev := w.Recorder.Events(); len(ev) != 1 || ev[0] != want {
			t.Errorf("events %q", ev)
		}
	}, far, object("near", by("far")))
}

func TestAnOwnerAddedMeanwhileCounts(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		once := true
		w.FailWith(func(wr objectstest.Write) error {
			if wr.Verb == "delete" && once {
				once = false
				if wr.Options.Preconditions.ResourceVersion == nil {
					t.Error("deletion does not depend on the version that was judged")
				}
			}
			return nil
		})
		w.Start(Spec(w.Deps()))
		w.Settle()
		if once {
			t.Error("nothing was deleted")
		}
	}, object("b", by("gone")))
}

func TestEventsAreNotCollected(t *testing.T) {
	t.Parallel()
	ev := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "e", OwnerReferences: []metav1.OwnerReference{by("gone")}}}
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		w.Settle()
		if got := w.Writes(); len(got) != 0 {
			t.Errorf("writes %v", got)
		}
	}, ev)
}

func TestDeploymentToPods(t *testing.T) {
	t.Parallel()
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "d"}}
	rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1", UID: "rs",
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment"))}}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1-a", UID: "p",
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(rs, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))}}, Spec: corev1.PodSpec{NodeName: "n"}}
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		foreground := metav1.DeletePropagationForeground
		if err := w.Delete(t.Context(), objectstest.KeyOf(d), metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
			t.Fatal(err)
		}
		w.Settle()
		if p := objectstest.Must[*corev1.Pod](t, w.Store, objectstest.KeyOf(pod)); p.DeletionTimestamp == nil {
			t.Error("the pod is not being deleted")
		}
		if _, ok := w.Get(objectstest.KeyOf(d)); !ok {
			t.Error("the deployment did not wait for its pod")
		}
		w.Drop(objectstest.KeyOf(pod))
		w.Settle()
		for _, obj := range []objects.Object{d, rs} {
			if _, ok := w.Get(objectstest.KeyOf(obj)); ok {
				t.Errorf("%s is still there", objectstest.KeyOf(obj))
			}
		}
	}, d, rs, pod)
}

func pod(name, node string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}, Spec: corev1.PodSpec{NodeName: node}}
	for _, fn := range change {
		fn(p)
	}
	return p
}

func leaving(p *corev1.Pod) {
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = ptr.To(metav1.Now()), ptr.To[int64](30)
}

func podsLeft(w *controllertest.World) (out []string) {
	for _, p := range w.List(messages.Pods, "") {
		out = append(out, p.GetName())
	}
	return out
}

func TestPodsOfALostNodeGoAfterAWhile(t *testing.T) {
	t.Parallel()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(PodSpec(w.Deps()))
		w.Drop(objectstest.KeyOf(node))
		w.Settle()
		if diff := cmp.Diff([]string{"running"}, podsLeft(w)); diff != "" {
			t.Errorf("at once, only what is to be deleted anyway goes: %s", diff)
		}
		time.Sleep(10 * time.Second)
		w.Put(node) // it registers anew
		time.Sleep(10 * time.Second)
		w.Drop(objectstest.KeyOf(node))
		time.Sleep(30 * time.Second)
		if diff := cmp.Diff([]string{"running"}, podsLeft(w)); diff != "" {
			t.Errorf("30 s after the node was lost again: %s", diff)
		}
		w.Writes()
		time.Sleep(time.Minute)
		if got := podsLeft(w); len(got) != 0 {
			t.Errorf("left %v", got)
		}
		first := w.Writes()[0].Object.(*corev1.Pod).Status
		if first.Phase != corev1.PodFailed || first.Conditions[0].Reason != "DeletionByPodGC" {
			t.Errorf("status before deletion %+v", first)
		}
	}, node, pod("running", "n"), pod("leaving", "n", leaving))
}

func TestPodsNobodyFinishes(t *testing.T) {
	t.Parallel()
	down := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "down"}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute}}}}
	up := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "up"}}
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(PodSpec(w.Deps()))
		w.Settle()
		if diff := cmp.Diff([]string{"leaving", "out", "unplaced"}, podsLeft(w)); diff != "" {
			t.Error(diff)
		}
	}, down, up, pod("unplaced", ""), pod("unplaced-leaving", "", leaving), pod("leaving", "up", leaving), pod("out", "down"), pod("out-leaving", "down", leaving))
}

func TestTheOldestOfTooManyEndedPodsGo(t *testing.T) {
	t.Parallel()
	at := func(n int) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.Phase, p.CreationTimestamp = corev1.PodSucceeded, metav1.NewTime(time.Unix(int64(n), 0))
		}
	}
	up := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "up"}}
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(newPodCollector(w.Deps(), 2).spec())
		w.Settle()
		if diff := cmp.Diff([]string{"b", "d", "running"}, podsLeft(w)); diff != "" {
			t.Error(diff)
		}
	}, up, pod("a", "up", at(1)), pod("b", "up", at(9)), pod("c", "up", at(2)), pod("d", "up", at(8)), pod("running", "up"))
}

func TestVerdictIsPatient(t *testing.T) {
	t.Parallel()
	if v := judge(object("a", by("x"), by("y")), []relation{unresolvable, dangling}, nil); v.policy != "" || v.strip[0] != "y" {
		t.Errorf("verdict %+v for an object that names an owner nobody can resolve", v)
	}
}
