package storage_test

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	apistorage "k8s.io/apiserver/pkg/storage"
	suite "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/cluster/state/storage"
	"github.com/troupe-run/troupe/messages"
)

// This file runs upstream's own suite for storage.Interface; leftOut says what of it does not run, and why.

// nats-server's access-time goroutine must be born outside of all bubbles.
func TestMain(m *testing.M) {
	ats.Register()
	os.Exit(m.Run())
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

var example1 = func() runtime.Codec {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	utilruntime.Must(example.AddToScheme(scheme))
	utilruntime.Must(examplev1.AddToScheme(scheme))
	return serializer.NewCodecFactory(scheme).LegacyCodec(examplev1.SchemeGroupVersion)
}()

func openStore(t testing.TB, resources ...state.Resource) *state.Store {
	t.Helper()
	b, err := bus.Start(t.Context(), bus.Config{Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := state.Open(t.Context(), state.Config{Bus: b, Resources: resources, Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// fixture is a Storage of example pods as the suite wants it.
type fixture struct {
	*storage.Storage
	store *state.Store
}

// UpdatePrefixTransformer is asked for by some of the suite; there is no transformer.
func (fixture) UpdatePrefixTransformer(suite.PrefixTransformerModifier) func() { return func() {} }

func setup(t *testing.T) (context.Context, fixture) {
	t.Helper()
	store := openStore(t, state.Resource{
		Resource: messages.Pods, Codec: example1,
		New: func() objects.Object { return &example.Pod{} },
	})
	s, err := storage.New(storage.Config{
		Store: store, Resource: messages.Pods, Prefix: "/pods", Bookmarks: 500 * time.Millisecond,
		New:     func() runtime.Object { return &example.Pod{} },
		NewList: func() runtime.Object { return &example.PodList{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	return t.Context(), fixture{s, store}
}

// validate checks what is stored: decodable, without resourceVersion.
func (f fixture) validate(ctx context.Context, t *testing.T, key string) {
	t.Helper()
	var pod example.Pod
	if err := f.Get(ctx, key, apistorage.GetOptions{}, &pod); err != nil {
		t.Fatal(err)
	}
	pod.ResourceVersion = ""
	data, err := runtime.Encode(example1, &pod)
	if err != nil {
		t.Fatal(err)
	}
	path := strings.SplitN(strings.TrimPrefix(key, "/pods/"), "/", 2)
	e, _, ok := f.store.Lookup(messages.KeyOf(messages.Pods, path[0], path[1]))
	if !ok || e.Sum != state.SumOf(data) {
		t.Errorf("%s is not stored as it is encoded", key)
	}
}

// increase moves the revision by a write to another resource.
func (f fixture) increase(ctx context.Context, t *testing.T) int64 {
	t.Helper()
	key := messages.KeyOf(messages.ConfigMaps, "other", "counter")
	e, _, _ := f.store.Lookup(key)
	obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: key.Name, Namespace: key.Namespace}}
	data, err := f.store.Encode(key.Resource, obj)
	if err != nil {
		t.Fatal(err)
	}
	rev, err := f.store.Commit(ctx, state.Op{Key: key, Expect: e.Rev, Object: obj, Data: data})
	if err != nil {
		t.Fatal(err)
	}
	return int64(rev)
}

// compact forgets history. The suite counts on etcd's way, where compaction is itself a write.
func (f fixture) compact(ctx context.Context, t *testing.T, resourceVersion string) {
	t.Helper()
	f.increase(ctx, t)
	rev, err := f.Versioner().ParseResourceVersion(resourceVersion)
	if err != nil {
		t.Fatal(err)
	}
	f.store.Compact(rev)
}

// calls is for storage that counts reads of a database behind it; there is none.
func calls(*testing.T, uint64, uint64) {}

func TestSuite(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(context.Context, *testing.T, fixture){
		"Create":               func(c context.Context, t *testing.T, f fixture) { suite.RunTestCreate(c, t, f, f.validate) },
		"CreateWithTTL":        func(c context.Context, t *testing.T, f fixture) { suite.RunTestCreateWithTTL(c, t, f) },
		"CreateWithKeyExist":   func(c context.Context, t *testing.T, f fixture) { suite.RunTestCreateWithKeyExist(c, t, f) },
		"Get":                  func(c context.Context, t *testing.T, f fixture) { suite.RunTestGet(c, t, f) },
		"UnconditionalDelete":  func(c context.Context, t *testing.T, f fixture) { suite.RunTestUnconditionalDelete(c, t, f) },
		"ConditionalDelete":    func(c context.Context, t *testing.T, f fixture) { suite.RunTestConditionalDelete(c, t, f) },
		"DeleteWithSuggestion": func(c context.Context, t *testing.T, f fixture) { suite.RunTestDeleteWithSuggestion(c, t, f) },
		"DeleteWithSuggestionConflict": func(c context.Context, t *testing.T, f fixture) {
			suite.RunTestDeleteWithSuggestionAndConflict(c, t, f)
		},
		"DeleteWithConflict": func(c context.Context, t *testing.T, f fixture) { suite.RunTestDeleteWithConflict(c, t, f) },
		"DeleteWithSuggestionOfGone": func(c context.Context, t *testing.T, f fixture) {
			suite.RunTestDeleteWithSuggestionOfDeletedObject(c, t, f)
		},
		"ValidateDeletionSuggestion": func(c context.Context, t *testing.T, f fixture) { suite.RunTestValidateDeletionWithSuggestion(c, t, f) },
		"ValidateDeletionOnlySuggest": func(c context.Context, t *testing.T, f fixture) {
			suite.RunTestValidateDeletionWithOnlySuggestionValid(c, t, f)
		},
		"PreconditionalDelete": func(c context.Context, t *testing.T, f fixture) {
			suite.RunTestPreconditionalDeleteWithSuggestion(c, t, f)
		},
		"PreconditionalDeleteOnlySuggestion": func(c context.Context, t *testing.T, f fixture) {
			suite.RunTestPreconditionalDeleteWithOnlySuggestionPass(c, t, f)
		},
		"List": func(c context.Context, t *testing.T, f fixture) { suite.RunTestList(c, t, f, f.compact, false, nil) },
		"ConsistentList": func(c context.Context, t *testing.T, f fixture) {
			suite.RunTestConsistentList(c, t, f, f.increase, false, true, false)
		},
		"GetListNonRecursive": func(c context.Context, t *testing.T, f fixture) {
			suite.RunTestGetListNonRecursive(c, t, f.increase, f)
		},
		"GetListRecursivePrefix": func(c context.Context, t *testing.T, f fixture) { suite.RunTestGetListRecursivePrefix(c, t, f) },
		"ListContinuation":       func(c context.Context, t *testing.T, f fixture) { suite.RunTestListContinuation(c, t, f, calls) },
		"ListPaginationRareObject": func(c context.Context, t *testing.T, f fixture) {
			suite.RunTestListPaginationRareObject(c, t, f, calls)
		},
		"ListContinuationWithFilter": func(c context.Context, t *testing.T, f fixture) {
			suite.RunTestListContinuationWithFilter(c, t, f, calls)
		},
		"ListInconsistentContinue": func(c context.Context, t *testing.T, f fixture) {
			suite.RunTestListInconsistentContinuation(c, t, f, f.compact)
		},
		"ListResourceVersionMatch": func(c context.Context, t *testing.T, f fixture) { suite.RunTestListResourceVersionMatch(c, t, f) },
		"ListPaging":               func(c context.Context, t *testing.T, f fixture) { suite.RunTestListPaging(c, t, f) },
		"NamespaceScopedList":      func(c context.Context, t *testing.T, f fixture) { suite.RunTestNamespaceScopedList(c, t, f) },
		"GuaranteedUpdate":         func(c context.Context, t *testing.T, f fixture) { suite.RunTestGuaranteedUpdate(c, t, f, f.validate) },
		"GuaranteedUpdateWithTTL":  func(c context.Context, t *testing.T, f fixture) { suite.RunTestGuaranteedUpdateWithTTL(c, t, f) },
		"GuaranteedUpdateConflict": func(c context.Context, t *testing.T, f fixture) { suite.RunTestGuaranteedUpdateWithConflict(c, t, f) },
		"GuaranteedUpdateSuggestion": func(c context.Context, t *testing.T, f fixture) {
			suite.RunTestGuaranteedUpdateWithSuggestionAndConflict(c, t, f)
		},
		"CompactRevision": func(c context.Context, t *testing.T, f fixture) {
			f.increase(c, t) // the suite begins after the first revision, at which the store was opened
			suite.RunTestCompactRevision(c, t, f, f.increase, f.compact)
		},
		"KeySchema": func(c context.Context, t *testing.T, f fixture) { suite.RunTestKeySchema(c, t, f) },
		"Stats": func(c context.Context, t *testing.T, f fixture) {
			suite.RunTestStats(c, t, f, example1, identity.NewEncryptCheckTransformer(), false)
		},
		"StatsWithSizes": func(c context.Context, t *testing.T, f fixture) {
			if err := f.EnableResourceSizeEstimation(func(context.Context) ([]string, error) { return nil, nil }); err != nil {
				t.Fatal(err)
			}
			suite.RunTestStats(c, t, f, example1, identity.NewEncryptCheckTransformer(), true)
		},

		"Watch":                func(c context.Context, t *testing.T, f fixture) { suite.RunTestWatch(c, t, f) },
		"WatchFromZero":        func(c context.Context, t *testing.T, f fixture) { suite.RunTestWatchFromZero(c, t, f, f.compact) },
		"WatchFromNonZero":     func(c context.Context, t *testing.T, f fixture) { suite.RunTestWatchFromNonZero(c, t, f) },
		"DeleteTriggerWatch":   func(c context.Context, t *testing.T, f fixture) { suite.RunTestDeleteTriggerWatch(c, t, f) },
		"DelayedWatchDelivery": func(c context.Context, t *testing.T, f fixture) { suite.RunTestDelayedWatchDelivery(c, t, f) },
		"WatchContextCancel":   func(c context.Context, t *testing.T, f fixture) { suite.RunTestWatchContextCancel(c, t, f) },
		"WatcherTimeout":       func(c context.Context, t *testing.T, f fixture) { suite.RunTestWatcherTimeout(c, t, f) },
		"WatchDeleteHasLatestRV": func(c context.Context, t *testing.T, f fixture) {
			suite.RunTestWatchDeleteEventObjectHaveLatestRV(c, t, f)
		},
		"WatchInitializationSignal": func(c context.Context, t *testing.T, f fixture) { suite.RunTestWatchInitializationSignal(c, t, f) },
		"ProgressNotify": func(c context.Context, t *testing.T, f fixture) {
			suite.RunOptionalTestProgressNotify(c, t, f, f.increase)
		},
		"ClusterScopedWatch":   func(c context.Context, t *testing.T, f fixture) { suite.RunTestClusterScopedWatch(c, t, f) },
		"NamespaceScopedWatch": func(c context.Context, t *testing.T, f fixture) { suite.RunTestNamespaceScopedWatch(c, t, f) },
		"WatchBookmarks": func(c context.Context, t *testing.T, f fixture) {
			suite.RunTestWatchDispatchBookmarkEvents(c, t, f, true)
		},
		"WatchBookmarksRevision": func(c context.Context, t *testing.T, f fixture) {
			suite.RunTestOptionalWatchBookmarksWithCorrectResourceVersion(c, t, f)
		},
		"SendInitialEventsCompat": func(c context.Context, t *testing.T, f fixture) {
			suite.RunSendInitialEventsBackwardCompatibility(c, t, f)
		},
		"WatchSemantics":         func(c context.Context, t *testing.T, f fixture) { suite.RunWatchSemantics(c, t, f) },
		"WatchSemanticsExtended": func(c context.Context, t *testing.T, f fixture) { suite.RunWatchSemanticInitialEventsExtended(c, t, f) },
		"WatchListMatchSingle":   func(c context.Context, t *testing.T, f fixture) { suite.RunWatchListMatchSingle(c, t, f) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, f := setup(t)
			run(ctx, t, f)
		})
	}
}
