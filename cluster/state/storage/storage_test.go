package storage_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/cluster/state/storage"
	"github.com/troupe-run/troupe/messages"
)

var configMaps = state.Resource{
	Resource: messages.ConfigMaps,
	Kind:     corev1.SchemeGroupVersion.WithKind("ConfigMap"),
	New:      func() objects.Object { return &corev1.ConfigMap{} },
}

const prefix = "/registry/configmaps"

func serve(t testing.TB, store *state.Store) *storage.Storage {
	t.Helper()
	s, err := storage.New(storage.Config{
		Store: store, Resource: messages.ConfigMaps, Prefix: prefix,
		New:     func() runtime.Object { return &corev1.ConfigMap{} },
		NewList: func() runtime.Object { return &corev1.ConfigMapList{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "uid-1"},
		Data:       map[string]string{"key": value},
	}
}

func key(name string) string { return prefix + "/ns/" + name }

func create(t testing.TB, s *storage.Storage, name, value string) *corev1.ConfigMap {
	t.Helper()
	var out corev1.ConfigMap
	if err := s.Create(t.Context(), key(name), configMap(name, value), &out, 0); err != nil {
		t.Fatal(err)
	}
	return &out
}

func set(value string) apistorage.UpdateFunc {
	return apistorage.SimpleUpdate(func(in runtime.Object) (runtime.Object, error) {
		in.(*corev1.ConfigMap).Data["key"] = value
		return in, nil
	})
}

// TestStoredObjectsAreOutOfReach changes everything the caller has in hand, before and after.
func TestStoredObjectsAreOutOfReach(t *testing.T) {
	t.Parallel()
	store := openStore(t, configMaps)
	s := serve(t, store)
	in := configMap("a", "stored")
	var out corev1.ConfigMap
	if err := s.Create(t.Context(), key("a"), in, &out, 0); err != nil {
		t.Fatal(err)
	}
	in.Data["key"], out.Data["key"] = "changed", "changed"
	var got corev1.ConfigMap
	if err := s.Get(t.Context(), key("a"), apistorage.GetOptions{}, &got); err != nil || got.Data["key"] != "stored" {
		t.Fatalf("got %v, %v", got.Data, err)
	}
	got.Data["key"] = "changed"
	refused := errors.New("refused")
	err := s.GuaranteedUpdate(t.Context(), key("a"), &out, false, nil, func(in runtime.Object, _ apistorage.ResponseMeta) (runtime.Object, *uint64, error) {
		in.(*corev1.ConfigMap).Data["key"] = "changed"
		return nil, nil, refused
	}, nil)
	if !errors.Is(err, refused) {
		t.Fatal(err)
	}
	if o, _ := objects.Get[*corev1.ConfigMap](store, messages.KeyOf(messages.ConfigMaps, "ns", "a")); o.Data["key"] != "stored" {
		t.Errorf("the store's object was changed to %q", o.Data["key"])
	}
}

func TestUnchangedIsNotWritten(t *testing.T) {
	t.Parallel()
	store := openStore(t, configMaps)
	s := serve(t, store)
	created := create(t, s, "a", "same")
	rev := store.Revision()
	var out corev1.ConfigMap
	if err := s.GuaranteedUpdate(t.Context(), key("a"), &out, false, nil, set("same"), nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(created, &out); diff != "" || store.Revision() != rev {
		t.Errorf("written at %d after %d (-want +got):\n%s", store.Revision(), rev, diff)
	}
}

// TestConcurrentUpdates appends from many goroutines at once: nothing may be lost.
func TestConcurrentUpdates(t *testing.T) {
	t.Parallel()
	s := serve(t, openStore(t, configMaps))
	create(t, s, "a", "")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			err := s.GuaranteedUpdate(t.Context(), key("a"), &corev1.ConfigMap{}, false, nil,
				apistorage.SimpleUpdate(func(in runtime.Object) (runtime.Object, error) {
					in.(*corev1.ConfigMap).Data[fmt.Sprint(i)] = "here"
					return in, nil
				}), nil)
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var got corev1.ConfigMap
	if err := s.Get(t.Context(), key("a"), apistorage.GetOptions{}, &got); err != nil || len(got.Data) != 21 {
		t.Errorf("%d keys, %v", len(got.Data), err)
	}
}

// TestKinds checks that objects say their kind, and items of a list do not, as Kubernetes has it.
func TestKinds(t *testing.T) {
	t.Parallel()
	s := serve(t, openStore(t, configMaps))
	if out := create(t, s, "a", ""); out.Kind != "ConfigMap" || out.APIVersion != "v1" {
		t.Errorf("object is a %s %s", out.APIVersion, out.Kind)
	}
	var list corev1.ConfigMapList
	if err := s.GetList(t.Context(), prefix, apistorage.ListOptions{Predicate: apistorage.Everything, Recursive: true}, &list); err != nil {
		t.Fatal(err)
	}
	if item := list.Items[0]; item.Kind != "" || item.APIVersion != "" {
		t.Errorf("item is a %s %s", item.APIVersion, item.Kind)
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	s := serve(t, openStore(t, configMaps))
	err := s.Create(t.Context(), key("big"), configMap("big", strings.Repeat("x", 2<<20)), nil, 0)
	if !apierrors.IsRequestEntityTooLargeError(err) {
		t.Errorf("got %v", err)
	}
}

func TestDeleteAndRecreate(t *testing.T) {
	t.Parallel()
	store := openStore(t, configMaps)
	s := serve(t, store)
	first := create(t, s, "a", "1")
	w, err := s.Watch(t.Context(), prefix, apistorage.ListOptions{ResourceVersion: first.ResourceVersion, Predicate: apistorage.Everything, Recursive: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	var gone corev1.ConfigMap
	if err := s.Delete(t.Context(), key("a"), &gone, apistorage.NewUIDPreconditions("other"), apistorage.ValidateAllObjectFunc, nil, apistorage.DeleteOptions{}); !apistorage.IsInvalidObj(err) {
		t.Errorf("delete with a wrong uid: %v", err)
	}
	if err := s.Delete(t.Context(), key("a"), &gone, apistorage.NewUIDPreconditions("uid-1"), apistorage.ValidateAllObjectFunc, nil, apistorage.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	second := create(t, s, "a", "2")
	want := []watch.Event{{Type: watch.Deleted, Object: &gone}, {Type: watch.Added, Object: second}}
	for _, e := range want {
		if diff := cmp.Diff(e, <-w.ResultChan()); diff != "" {
			t.Errorf("watch (-want +got):\n%s", diff)
		}
	}
}

// TestSlowWatchExpires lets a client that reads nothing fall behind: it gets 410 and relists.
func TestSlowWatchExpires(t *testing.T) {
	t.Parallel()
	store := openStore(t, configMaps)
	s := serve(t, store)
	rev := create(t, s, "a", "0").ResourceVersion
	w, err := s.Watch(t.Context(), prefix, apistorage.ListOptions{ResourceVersion: rev, Predicate: apistorage.Everything, Recursive: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for i := range 300 {
		if err := s.GuaranteedUpdate(t.Context(), key("a"), &corev1.ConfigMap{}, false, nil, set(fmt.Sprint(i+1)), nil); err != nil {
			t.Fatal(err)
		}
	}
	store.Compact(store.Revision())
	n := 0
	for e := range w.ResultChan() {
		if e.Type == watch.Error {
			if !apierrors.IsResourceExpired(apierrors.FromObject(e.Object)) {
				t.Errorf("got %v", e.Object)
			}
			return
		}
		n++
	}
	t.Errorf("the watch ended after %d events without an error", n)
}

// TestBookmarksBeforeDeadline runs in a bubble: a quiet watch is told every minute, and once
// before it ends, how far it is.
func TestBookmarksBeforeDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, openStore(t, configMaps))
		rev := create(t, s, "a", "").ResourceVersion
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
		defer cancel()
		begun := time.Now()
		pred := apistorage.Everything
		pred.AllowWatchBookmarks = true
		w, err := s.Watch(ctx, prefix, apistorage.ListOptions{ResourceVersion: rev, Predicate: pred, Recursive: true})
		if err != nil {
			t.Fatal(err)
		}
		var at []time.Duration
		for e := range w.ResultChan() {
			if e.Type != watch.Bookmark || e.Object.(*corev1.ConfigMap).ResourceVersion != rev {
				t.Errorf("got %v", e)
			}
			at = append(at, time.Since(begun))
		}
		if diff := cmp.Diff([]time.Duration{time.Minute, 2 * time.Minute, 148 * time.Second}, at); diff != "" {
			t.Errorf("bookmarks (-want +got):\n%s", diff)
		}
	})
}

// TestDecoratorServesCustomResources goes the way a CustomResourceDefinition goes.
func TestDecoratorServesCustomResources(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	config := &storagebackend.ConfigForResource{
		Config:        storagebackend.Config{Codec: unstructured.UnstructuredJSONScheme},
		GroupResource: schema.GroupResource{Group: "example.com", Resource: "widgets"},
	}
	s, destroy, err := storage.Decorator(store)(config, "/registry/example.com/widgets", nil,
		func() runtime.Object { return &unstructured.Unstructured{} },
		func() runtime.Object { return &unstructured.UnstructuredList{} }, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer destroy()
	widget := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v1", "kind": "Widget",
		"metadata": map[string]any{"namespace": "ns", "name": "w"}, "spec": map[string]any{"size": int64(3)},
	}}
	var out unstructured.Unstructured
	if err := s.Create(t.Context(), "/registry/example.com/widgets/ns/w", widget, &out, 0); err != nil {
		t.Fatal(err)
	}
	var list unstructured.UnstructuredList
	list.SetAPIVersion("example.com/v1")
	if err := s.GetList(t.Context(), "/registry/example.com/widgets", apistorage.ListOptions{Predicate: apistorage.Everything, Recursive: true}, &list); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]unstructured.Unstructured{out}, list.Items); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	list.Items[0].SetKind("Gadget")
	if o, _ := store.Get(messages.KeyOf(messages.Resource{Group: "example.com", Resource: "widgets"}, "ns", "w")); o.GetObjectKind().GroupVersionKind().Kind != "Widget" {
		t.Error("the store's object was changed through a list")
	}
}

func BenchmarkGuaranteedUpdate(b *testing.B) {
	s := serve(b, openStore(b, configMaps))
	create(b, s, "a", "")
	for i := 0; b.Loop(); i++ {
		if err := s.GuaranteedUpdate(b.Context(), key("a"), &corev1.ConfigMap{}, false, nil, set(fmt.Sprint(i)), nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList(b *testing.B) {
	s := serve(b, openStore(b, configMaps))
	for i := range 5000 {
		create(b, s, fmt.Sprint(i), "")
	}
	for b.Loop() {
		var list corev1.ConfigMapList
		if err := s.GetList(b.Context(), prefix, apistorage.ListOptions{Predicate: apistorage.Everything, Recursive: true}, &list); err != nil || len(list.Items) != 5000 {
			b.Fatal(len(list.Items), err)
		}
	}
}
