package informer_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/cluster/state/informer"
	"github.com/troupe-run/troupe/messages"
)

func open(t *testing.T) *state.Store {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	end := context.WithoutCancel(t.Context())
	b, err := bus.Start(t.Context(), bus.Config{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(end) })
	s, err := state.Open(t.Context(), state.Config{Bus: b, Log: log, Resources: []state.Resource{{
		Resource: messages.ConfigMaps, Kind: corev1.SchemeGroupVersion.WithKind("ConfigMap"),
		New: func() objects.Object { return &corev1.ConfigMap{} },
	}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(end) })
	return s
}

func put(t *testing.T, s *state.Store, namespace, name, value string) {
	t.Helper()
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: map[string]string{"v": value}}
	data, err := s.Encode(messages.ConfigMaps, cm)
	if err != nil {
		t.Fatal(err)
	}
	key := messages.KeyOf(messages.ConfigMaps, namespace, name)
	e, _, _ := s.Lookup(key)
	if _, err := s.Commit(t.Context(), state.Op{Key: key, Expect: e.Rev, Object: cm, Data: data}); err != nil {
		t.Fatal(err)
	}
}

func drop(t *testing.T, s *state.Store, namespace, name string) {
	t.Helper()
	key := messages.KeyOf(messages.ConfigMaps, namespace, name)
	e, _, _ := s.Lookup(key)
	if _, err := s.Commit(t.Context(), state.Op{Key: key, Expect: e.Rev}); err != nil {
		t.Fatal(err)
	}
}

// record is a handler that writes down what it hears.
func record(heard chan<- string) cache.ResourceEventHandler {
	say := func(verb string, obj any) string {
		cm := obj.(*corev1.ConfigMap)
		return fmt.Sprint(verb, " ", cm.Namespace, "/", cm.Name, "=", cm.Data["v"])
	}
	return cache.ResourceEventHandlerDetailedFuncs{
		AddFunc:    func(obj any, initial bool) { heard <- say(fmt.Sprint("add ", initial), obj) },
		UpdateFunc: func(old, now any) { heard <- say("update", old) + " to " + now.(*corev1.ConfigMap).Data["v"] },
		DeleteFunc: func(obj any) { heard <- say("delete", obj) },
	}
}

func TestHandlersHearOfEverything(t *testing.T) {
	t.Parallel()
	s := open(t)
	put(t, s, "a", "x", "1")
	i := informer.New(s, messages.ConfigMaps)
	early, late := make(chan string, 10), make(chan string, 10)
	first, err := i.AddEventHandler(record(early))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); i.RunWithContext(ctx) }()
	<-first.HasSyncedChecker().Done()
	put(t, s, "a", "x", "2")
	put(t, s, "b", "y", "3")
	drop(t, s, "a", "x")
	for _, want := range []string{"add true a/x=1", "update a/x=1 to 2", "add false b/y=3", "delete a/x=2"} {
		if got := <-early; got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
	}
	second, err := i.AddEventHandler(record(late))
	if err != nil {
		t.Fatal(err)
	}
	<-second.HasSyncedChecker().Done()
	if got, want := <-late, "add true b/y=3"; got != want {
		t.Errorf("heard %q, want %q", got, want)
	}
	if err := i.RemoveEventHandler(second); err != nil {
		t.Error(err)
	}
	stop()
	<-ended
	if !i.IsStopped() {
		t.Error("it has not stopped")
	}
	if _, err := i.AddEventHandler(record(late)); err == nil {
		t.Error("an informer that ended takes handlers")
	}
}

// TestHandlersHearAgain: after each period of everything that they have heard of, and of nothing else.
func TestHandlersHearAgain(t *testing.T) {
	t.Parallel()
	s := open(t)
	i := informer.New(s, messages.ConfigMaps)
	heard := make(chan string)
	if _, err := i.AddEventHandlerWithResyncPeriod(record(heard), time.Millisecond); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); i.RunWithContext(ctx) }()
	t.Cleanup(func() {
		stop()
		for {
			select {
			case <-heard:
			case <-ended:
				return
			}
		}
	})
	next := func() string {
		t.Helper()
		select {
		case got := <-heard:
			return got
		case <-time.After(10 * time.Second):
			t.Fatal("nothing is heard")
			return ""
		}
	}
	// The handler stands still while nobody listens, so that there is always something to be heard yet.
	known, again := make(map[string]bool), 0
	for n := range 20 {
		put(t, s, "a", fmt.Sprint(n), "1")
		if n > 0 {
			drop(t, s, "a", fmt.Sprint(n-1))
		}
		for last := fmt.Sprintf("a/%d=1", n); ; {
			words := strings.Fields(next())
			verb, name := words[0], words[len(words)-1]
			if verb == "update" {
				name = words[1]
				if again++; !known[name] {
					t.Fatalf("%s is heard of again, and was not before", name)
				}
				if name == last {
					break
				}
			} else {
				known[name] = verb == "add"
			}
		}
	}
	if again < 20 {
		t.Errorf("heard of %d again", again)
	}
}

func TestListersReadTheStore(t *testing.T) {
	t.Parallel()
	s := open(t)
	i := informer.New(s, messages.ConfigMaps)
	if err := i.AddIndexers(cache.Indexers{"value": func(obj any) ([]string, error) { return []string{obj.(*corev1.ConfigMap).Data["v"]}, nil }}); err != nil {
		t.Fatal(err)
	}
	lister := listers.NewConfigMapLister(i.GetIndexer())
	put(t, s, "a", "x", "1")
	put(t, s, "b", "y", "2")
	put(t, s, "b", "z", "1")
	got, err := lister.ConfigMaps("b").Get("y")
	if err != nil {
		t.Fatal(err)
	}
	if stored, _ := s.Get(messages.KeyOf(messages.ConfigMaps, "b", "y")); stored != objects.Object(got) {
		t.Error("the lister has a copy of its own")
	}
	if _, err := lister.ConfigMaps("a").Get("y"); err == nil {
		t.Error("found in the wrong namespace")
	}
	if all, err := lister.List(labels.Everything()); err != nil || len(all) != 3 {
		t.Errorf("%d maps, %v", len(all), err)
	}
	if some, err := lister.ConfigMaps("b").List(labels.Everything()); err != nil || len(some) != 2 {
		t.Errorf("%d maps, %v", len(some), err)
	}
	keys, err := i.GetIndexer().IndexKeys("value", "1")
	if diff := cmp.Diff([]string{"a/x", "b/z"}, keys); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if diff := cmp.Diff([]string{"1", "2"}, i.GetIndexer().ListIndexFuncValues("value")); diff != "" {
		t.Error(diff)
	}
	if err := i.GetStore().Add(got); err == nil {
		t.Error("the replica was written to")
	}
}
