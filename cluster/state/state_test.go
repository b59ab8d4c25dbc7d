package state_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/nats-io/nats.go/jetstream"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// nats-server's access-time goroutine must be born outside of all bubbles.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		fmt.Fprintln(os.Stderr, crashingWriter(dir, os.Getenv(crashRound)))
		os.Exit(1)
	}
	if dir := os.Getenv(rotateDir); dir != "" {
		fmt.Fprintln(os.Stderr, rotatingWriter(dir))
		os.Exit(1)
	}
	if setup := os.Getenv(memberEnv); setup != "" {
		if err := runMember(setup); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	ats.Register()
	os.Exit(m.Run())
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

var pods = state.Resource{
	Resource: messages.Pods,
	Kind:     corev1.SchemeGroupVersion.WithKind("Pod"),
	New:      func() objects.Object { return &corev1.Pod{} },
	Indexes: map[string]func(objects.Object) []string{
		objects.IndexNode: func(o objects.Object) []string { return []string{o.(*corev1.Pod).Spec.NodeName} },
	},
}

func startBus(t testing.TB, dir string) *bus.Bus {
	t.Helper()
	b, err := bus.Start(t.Context(), bus.Config{DataDir: dir, Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return b
}

func open(t testing.TB, b *bus.Bus, change func(*state.Config)) *state.Store {
	t.Helper()
	cfg := state.Config{Bus: b, Resources: []state.Resource{pods}, Log: discard()}
	if change != nil {
		change(&cfg)
	}
	s, err := state.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

func closeStore(t testing.TB, s *state.Store) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

func podKey(name string) messages.Key { return messages.KeyOf(messages.Pods, "default", name) }

func pod(name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name)},
		Spec:       corev1.PodSpec{NodeName: node},
	}
}

func op(t testing.TB, s *state.Store, p *corev1.Pod, expect uint64) state.Op {
	t.Helper()
	data, err := s.Encode(messages.Pods, p)
	if err != nil {
		t.Fatal(err)
	}
	return state.Op{Key: messages.KeyOf(messages.Pods, p.Namespace, p.Name), Expect: expect, Object: p, Data: data}
}

func commit(t testing.TB, s *state.Store, ops ...state.Op) uint64 {
	t.Helper()
	rev, err := s.Commit(t.Context(), ops...)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func names(objs []objects.Object) string {
	var out []string
	for _, o := range objs {
		out = append(out, o.GetName())
	}
	return strings.Join(out, " ")
}

func TestCommitReadsBack(t *testing.T) {
	t.Parallel()
	s := open(t, startBus(t, ""), nil)
	r1 := commit(t, s, op(t, s, pod("b", "n1"), 0))
	r2 := commit(t, s, op(t, s, pod("a", "n1"), 0))
	if r2 != r1+1 || s.Revision() != r2 {
		t.Errorf("revisions %d, %d, store at %d", r1, r2, s.Revision())
	}
	got, ok := objects.Get[*corev1.Pod](s, podKey("a"))
	if !ok || got.ResourceVersion != strconv.FormatUint(r2, 10) || got.Kind != "Pod" {
		t.Errorf("got %v", got)
	}
	if got := names(s.List(messages.Pods, "")); got != "a b" {
		t.Errorf("list: %s", got)
	}
	if got := names(s.List(messages.Pods, "def")); got != "" {
		t.Errorf("list of a namespace that is a prefix of another: %s", got)
	}
	r3 := commit(t, s, op(t, s, pod("b", "n2"), r1))
	if got := names(s.Index(messages.Pods, objects.IndexNode, "n1")); got != "a" {
		t.Errorf("index: %s", got)
	}
	commit(t, s, state.Op{Key: podKey("b"), Expect: r3})
	if _, ok := s.Get(podKey("b")); ok {
		t.Error("deleted object is still there")
	}
	if got := len(s.Index(messages.Pods, objects.IndexNode, "n2")); got != 0 {
		t.Errorf("index keeps %d deleted objects", got)
	}
}

func TestExpectations(t *testing.T) {
	t.Parallel()
	s := open(t, startBus(t, ""), nil)
	rev := commit(t, s, op(t, s, pod("a", ""), 0))
	big := pod("big", "")
	big.Annotations = map[string]string{"x": strings.Repeat("x", 2<<20)}
	for name, c := range map[string]struct {
		ops  []state.Op
		want error
	}{
		"create what exists":     {[]state.Op{op(t, s, pod("a", ""), 0)}, messages.ErrExists},
		"update at old revision": {[]state.Op{op(t, s, pod("a", ""), rev-1)}, messages.ErrConflict},
		"update what is not":     {[]state.Op{op(t, s, pod("b", ""), rev)}, messages.ErrNotFound},
		"delete what is not":     {[]state.Op{{Key: podKey("b"), Expect: rev}}, messages.ErrNotFound},
		"delete at revision 0":   {[]state.Op{{Key: podKey("b")}}, messages.ErrNotFound},
		"too large":              {[]state.Op{op(t, s, big, 0)}, messages.ErrTooLarge},
		"one key twice":          {[]state.Op{op(t, s, pod("c", ""), 0), op(t, s, pod("c", ""), 0)}, messages.ErrInvalid},
		"nothing":                {nil, messages.ErrInvalid},
		"one of two fails":       {[]state.Op{op(t, s, pod("c", ""), 0), op(t, s, pod("a", ""), 0)}, messages.ErrExists},
	} {
		if _, err := s.Commit(t.Context(), c.ops...); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	if got := names(s.List(messages.Pods, "")); got != "a" {
		t.Errorf("refused writes left %q", got)
	}
}

// TestGroupFailsAlone writes from many goroutines at once, one in ten with a wrong expectation:
// groups form, and only the wrong ones fail.
func TestGroupFailsAlone(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]string{"memory": "", "file": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, startBus(t, dir), nil)
			var wg sync.WaitGroup
			revs := make([]uint64, 400)
			for i := range revs {
				o := op(t, s, pod(fmt.Sprintf("p%03d", i), ""), 0)
				if i%10 == 0 {
					o.Expect = 7
				}
				wg.Go(func() {
					rev, err := s.Commit(t.Context(), o)
					if wrong := i%10 == 0; wrong != errors.Is(err, messages.ErrNotFound) || wrong == (err == nil) {
						t.Errorf("%d: %v", i, err)
					}
					revs[i] = rev
				})
			}
			wg.Wait()
			for i, rev := range revs {
				if i%10 == 0 {
					continue
				}
				if o, ok := s.Get(podKey(fmt.Sprintf("p%03d", i))); !ok || o.GetResourceVersion() != strconv.FormatUint(rev, 10) {
					t.Errorf("p%03d: acknowledged at %d, stored %v", i, rev, o)
				}
			}
		})
	}
}

// TestOneKeyManyWriters increments one counter by compare-and-set from many goroutines.
func TestOneKeyManyWriters(t *testing.T) {
	t.Parallel()
	s := open(t, startBus(t, ""), nil)
	commit(t, s, op(t, s, pod("counter", "0"), 0))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for done := 0; done < 20; {
				e, _, _ := s.Lookup(podKey("counter"))
				n, err := strconv.Atoi(e.Object.(*corev1.Pod).Spec.NodeName)
				if err != nil {
					t.Error(err)
					return
				}
				_, err = s.Commit(t.Context(), op(t, s, pod("counter", strconv.Itoa(n+1)), e.Rev))
				switch {
				case err == nil:
					done++
				case !errors.Is(err, messages.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	got, _ := objects.Get[*corev1.Pod](s, podKey("counter"))
	if got.Spec.NodeName != "160" {
		t.Errorf("counted %s, want 160", got.Spec.NodeName)
	}
}

func TestReopen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := startBus(t, dir)
	first, err := state.Open(t.Context(), state.Config{Bus: b, Resources: []state.Resource{pods}, Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	commit(t, first, op(t, first, pod("gone", ""), 0))
	rev := commit(t, first, op(t, first, pod("a", "n1"), 0), op(t, first, pod("b", "n2"), 0))
	e, _, _ := first.Lookup(podKey("gone"))
	commit(t, first, state.Op{Key: podKey("gone"), Expect: e.Rev})
	want := first.List(messages.Pods, "")
	closeStore(t, first)
	if _, err := first.Commit(t.Context(), op(t, first, pod("late", ""), 0)); !errors.Is(err, messages.ErrUnavailable) {
		t.Errorf("write after close: %v", err)
	}

	second := open(t, b, nil)
	if diff := cmp.Diff(want, second.List(messages.Pods, "")); diff != "" {
		t.Errorf("after reopening (-before +after):\n%s", diff)
	}
	if got := names(second.Index(messages.Pods, objects.IndexNode, "n2")); got != "b" {
		t.Errorf("index: %s", got)
	}
	if _, err := second.Watch(messages.Pods, rev); !errors.Is(err, messages.ErrGone) {
		t.Errorf("watch from before the opening: %v", err)
	}
}

func TestUnknownResourcesAreUnstructuredUntilRegistered(t *testing.T) {
	t.Parallel()
	b := startBus(t, "")
	first := open(t, b, nil)
	commit(t, first, op(t, first, pod("a", "n1"), 0))
	second := open(t, b, func(c *state.Config) { c.Resources = nil })
	if o, _ := second.Get(podKey("a")); o == nil || o.(*unstructured.Unstructured).GetKind() != "Pod" {
		t.Fatalf("got %#v", o)
	}
	if len(second.Resources()) != 0 {
		t.Errorf("unregistered resources are served: %v", second.Resources())
	}
	if err := second.Register(pods); err != nil {
		t.Fatal(err)
	}
	want, _ := first.Get(podKey("a"))
	got, _ := second.Get(podKey("a"))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after registration (-want +got):\n%s", diff)
	}
	if got := names(second.Index(messages.Pods, objects.IndexNode, "n1")); got != "a" {
		t.Errorf("index: %s", got)
	}
}

func TestFence(t *testing.T) {
	t.Parallel()
	b := startBus(t, "")
	old := open(t, b, nil)
	commit(t, old, op(t, old, pod("a", ""), 0))
	young := open(t, b, nil)
	if _, err := old.Commit(t.Context(), op(t, old, pod("b", ""), 0)); !errors.Is(err, messages.ErrFenced) {
		t.Errorf("write of the replaced store: %v", err)
	}
	if _, err := old.Commit(t.Context(), op(t, old, pod("c", ""), 0)); !errors.Is(err, messages.ErrFenced) {
		t.Errorf("later write of the replaced store: %v", err)
	}
	if err := old.Healthy(); !errors.Is(err, messages.ErrFenced) {
		t.Errorf("health of the replaced store: %v", err)
	}
	// The barrier of the replaced store disturbs the new one for a moment, no more.
	commit(t, young, op(t, young, pod("b", ""), 0))
	if got := names(young.List(messages.Pods, "")); got != "a b" {
		t.Errorf("list: %s", got)
	}
}

// TestForeignRecord shows that a record somebody else puts into the stream costs one retry.
func TestForeignRecord(t *testing.T) {
	t.Parallel()
	b := startBus(t, "")
	s := open(t, b, nil)
	if err := b.Conn().Publish(messages.StateRecord(messages.StateBucket, "stray"), nil); err != nil {
		t.Fatal(err)
	}
	if err := b.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		o := op(t, s, pod("p"+strconv.Itoa(i), ""), 0)
		wg.Go(func() {
			if _, err := s.Commit(t.Context(), o); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := s.Healthy(); err != nil {
		t.Error(err)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	s := open(t, startBus(t, ""), nil)
	start := s.Revision()
	live, err := s.Watch(messages.Pods, start)
	if err != nil {
		t.Fatal(err)
	}
	r1 := commit(t, s, op(t, s, pod("a", "n1"), 0))
	r2 := commit(t, s, op(t, s, pod("a", "n2"), r1))
	r3 := commit(t, s, state.Op{Key: podKey("a"), Expect: r2})
	reborn := pod("a", "n3")
	reborn.UID = "other"
	commit(t, s, op(t, s, reborn, 0))

	read := func(c *state.Cursor, n int) (got []string) {
		for len(got) < n {
			events, _, err := c.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				line := fmt.Sprintf("+%d", e.Rev-start)
				if e.Old != nil {
					line += " old " + e.Old.(*corev1.Pod).Spec.NodeName
				}
				if e.New != nil {
					line += " new " + e.New.(*corev1.Pod).Spec.NodeName + "/" + string(e.New.GetUID())
				} else {
					line += " last " + e.Last.GetResourceVersion()
				}
				got = append(got, line)
			}
		}
		return got
	}
	want := []string{"+1 new n1/uid-a", "+2 old n1 new n2/uid-a", "+3 old n2 last " + strconv.FormatUint(r3, 10), "+4 new n3/other"}
	if diff := cmp.Diff(want, read(live, 4)); diff != "" {
		t.Errorf("live (-want +got):\n%s", diff)
	}
	resumed, err := s.Watch(messages.Pods, r2)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want[2:], read(resumed, 2)); diff != "" {
		t.Errorf("resumed (-want +got):\n%s", diff)
	}
	if o, _ := s.Watch(messages.Nodes, start); o == nil {
		t.Error("no watch of a resource that has no objects")
	}
}

// TestSlowWatcher shows that a watcher which does not read ends by itself and hurts nobody.
func TestSlowWatcher(t *testing.T) {
	t.Parallel()
	s := open(t, startBus(t, ""), func(c *state.Config) { c.History = 10 })
	start := s.Revision()
	slow, err := s.Watch(messages.Pods, start)
	if err != nil {
		t.Fatal(err)
	}
	quiet, err := s.Watch(messages.Nodes, start)
	if err != nil {
		t.Fatal(err)
	}
	quick, err := s.Watch(messages.Pods, start)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		commit(t, s, op(t, s, pod("p"+strconv.Itoa(i), ""), 0))
		if events, _, err := quick.Next(t.Context()); err != nil || len(events) != 1 {
			t.Fatalf("quick watcher: %v, %v", events, err)
		}
	}
	if _, _, err := slow.Next(t.Context()); !errors.Is(err, messages.ErrGone) {
		t.Errorf("slow watcher: %v", err)
	}
	// Other resources' events push nothing out for this one.
	if _, rev, _, err := quiet.Poll(nil, 1); err != nil || rev != s.Revision() {
		t.Errorf("watcher of a quiet resource: %d, %v", rev, err)
	}
	if _, err := s.Watch(messages.Pods, start); !errors.Is(err, messages.ErrGone) {
		t.Errorf("watch from a forgotten revision: %v", err)
	}
}

func TestListAt(t *testing.T) {
	t.Parallel()
	s := open(t, startBus(t, ""), nil)
	ra := commit(t, s, op(t, s, pod("a", ""), 0))
	rb := commit(t, s, op(t, s, pod("b", ""), 0))
	then := s.Revision()
	commit(t, s, state.Op{Key: podKey("a"), Expect: ra})
	commit(t, s, op(t, s, pod("b", "changed"), rb))
	commit(t, s, op(t, s, pod("c", ""), 0))
	items, rev, err := s.ListAt(messages.Pods, "default/", "", then)
	if err != nil || rev != then {
		t.Fatal(rev, err)
	}
	var got []string
	for _, i := range items {
		got = append(got, i.Path+"@"+i.Object.GetResourceVersion())
	}
	want := []string{fmt.Sprintf("default/a@%d", ra), fmt.Sprintf("default/b@%d", rb)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the past (-want +got):\n%s", diff)
	}
	s.Compact(s.Revision())
	if _, _, err := s.ListAt(messages.Pods, "", "", then); !errors.Is(err, messages.ErrGone) {
		t.Errorf("compacted revision: %v", err)
	}
	if _, _, err := s.ListAt(messages.Pods, "", "", s.Revision()+1); !errors.Is(err, messages.ErrUnavailable) {
		t.Errorf("future revision: %v", err)
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	s := open(t, startBus(t, ""), nil)
	commit(t, s, op(t, s, pod("a", ""), 0))
	got := make(chan objects.Change, 10)
	stop := s.Follow([]messages.Resource{messages.Pods}, func(c objects.Change) { got <- c })
	commit(t, s, op(t, s, pod("b", ""), 0))
	for _, want := range []string{"a", "b"} {
		if c := <-got; c.Key.Name != want || c.Old != nil {
			t.Errorf("got %+v, want %s", c, want)
		}
	}
	stop()
	stop()
	commit(t, s, op(t, s, pod("c", ""), 0))
	all := make(chan objects.Change, 10)
	defer s.Follow(nil, func(c objects.Change) { all <- c })()
	for range 3 {
		<-all
	}
	if len(got) != 0 {
		t.Error("a stopped follower was called")
	}
}

// TestChanges checks what integrations see: each write once, in order, with its headers, and a
// deletion with the last object.
func TestChanges(t *testing.T) {
	t.Parallel()
	b := startBus(t, "")
	s := open(t, b, func(c *state.Config) { c.Changes = &state.Changes{} })
	live, err := b.Conn().SubscribeSync(messages.ChangesFilter(b.Region(), &messages.Pods, "default"))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	r1 := commit(t, s, op(t, s, pod("a", "n1"), 0))
	r2 := commit(t, s, op(t, s, pod("a", "n2"), r1))
	r3 := commit(t, s, state.Op{Key: podKey("a"), Expect: r2})
	type seen struct{ verb, rev, kind, uid, node string }
	var got []seen
	for range 3 {
		m, err := live.NextMsg(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var o unstructured.Unstructured
		if err := o.UnmarshalJSON(m.Data); err != nil {
			t.Fatal(err)
		}
		node, _, _ := unstructured.NestedString(o.Object, "spec", "nodeName")
		got = append(got, seen{
			m.Header.Get(messages.HeaderVerb), m.Header.Get(messages.HeaderRevision),
			m.Header.Get(messages.HeaderKind), m.Header.Get(messages.HeaderUID), node,
		})
	}
	at := func(rev uint64) string { return strconv.FormatUint(rev, 10) }
	want := []seen{
		{"create", at(r1), "v1/Pod", "uid-a", "n1"}, {"update", at(r2), "v1/Pod", "uid-a", "n2"}, {"delete", at(r3), "v1/Pod", "uid-a", "n2"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(seen{})); diff != "" {
		t.Errorf("live (-want +got):\n%s", diff)
	}

	// What never reached the stream is published by the next opening, and nothing else.
	quiet := open(t, b, nil)
	r4 := commit(t, quiet, op(t, quiet, pod("missed", ""), 0))
	open(t, b, func(c *state.Config) { c.Changes = &state.Changes{} })
	m, err := live.NextMsg(5 * time.Second)
	if err != nil || m.Header.Get(messages.HeaderRevision) != at(r4) || m.Header.Get(messages.HeaderVerb) != messages.VerbCreate {
		t.Errorf("caught up: %v, %v", m, err)
	}
	nc, err := b.ConnectChanges()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		stream, err := js.Stream(t.Context(), messages.ChangeStream)
		if err != nil {
			t.Fatal(err)
		}
		if stream.CachedInfo().State.Msgs == 4 {
			break
		} else if i == 3 {
			t.Errorf("stream has %d changes, want 4", stream.CachedInfo().State.Msgs)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestExpiry runs in a bubble: an hour passes at once, also over a restart.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBus(t, "")
		s := open(t, b, func(c *state.Config) { c.TTL = time.Hour })
		rev := commit(t, s, op(t, s, pod("hour", ""), 0))
		short := op(t, s, pod("minute", ""), 0)
		short.TTL = time.Minute
		commit(t, s, short)
		commit(t, s, op(t, s, pod("renewed", ""), 0))
		watch, err := s.Watch(messages.Pods, s.Revision())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Minute)
		e, _, _ := s.Lookup(podKey("renewed"))
		commit(t, s, op(t, s, pod("renewed", ""), e.Rev))
		if got := names(s.List(messages.Pods, "")); got != "hour renewed" {
			t.Errorf("after half an hour: %s", got)
		}
		if events, _, err := watch.Next(t.Context()); err != nil || events[0].Key.Name != "minute" || events[0].New != nil {
			t.Errorf("expiry is not seen by watchers: %v, %v", events, err)
		}
		second := open(t, b, func(c *state.Config) { c.TTL = time.Hour })
		if got := names(second.List(messages.Pods, "")); got != "hour renewed" {
			t.Errorf("after reopening: %s", got)
		}
		time.Sleep(31 * time.Minute)
		if got := names(second.List(messages.Pods, "")); got != "renewed" {
			t.Errorf("after an hour: %s (hour was at %d)", got, rev)
		}
	})
}
