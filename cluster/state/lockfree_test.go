package state

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// put applies objects to a table as a commit does, without a server.
func putForTest(s *Store, names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range names {
		s.rev++
		obj := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: n}}
		setRevision(obj, s.rev)
		s.tables[messages.Pods].put(messages.KeyOf(messages.Pods, "ns", n), Entry{Object: obj, Rev: s.rev})
	}
}

// TestListingsAreSnapshots changes objects while a listing is read without the lock: it shows them as
// they were at its revision, all of them.
func TestListingsAreSnapshots(t *testing.T) {
	t.Parallel()
	s := &Store{tables: map[messages.Resource]*table{messages.Pods: newTable(Resource{Resource: messages.Pods})}}
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("p%04d", i))
	}
	putForTest(s, names...)
	tab := s.tables[messages.Pods]
	s.freeze(tab, func() {})
	order := tab.frozen
	rev := s.rev
	n := 0
	scan(order, "ns/", "", func(rec *record) {
		if n%100 == 0 {
			// The lock is free: a reader in the midst of a listing holds up no writer.
			if !s.mu.TryLock() {
				t.Fatal("the lock is held while a listing is read")
			}
			s.mu.Unlock()
			putForTest(s, names[n], fmt.Sprint("new", n))
			s.mu.Lock()
			tab.remove(messages.KeyOf(messages.Pods, "ns", names[(n+500)%1000]))
			s.mu.Unlock()
		}
		if rec.Object.GetName() != names[n] || rec.Rev > rev {
			t.Errorf("at %d: %s of revision %d, above %d", n, rec.Object.GetName(), rec.Rev, rev)
		}
		n++
	})
	if n != 1000 {
		t.Errorf("%d objects", n)
	}
	if got := len(s.List(messages.Pods, "ns")); got != 1005 { // ten are new, ten have gone, of which five were made anew
		t.Errorf("%d objects afterwards", got)
	}
}

// TestListingsAmongWrites lists from many goroutines while others write; with -race it looks for
// what they share.
func TestListingsAmongWrites(t *testing.T) {
	t.Parallel()
	s := &Store{tables: map[messages.Resource]*table{messages.Pods: newTable(Resource{Resource: messages.Pods})}}
	names := []string{"a", "b", "c", "d", "e"}
	putForTest(s, names...)
	var stop atomic.Bool
	var all sync.WaitGroup
	all.Go(func() {
		for range 2000 {
			putForTest(s, names...)
		}
		stop.Store(true)
	})
	for range 4 {
		all.Go(func() {
			last := uint64(0)
			for !stop.Load() {
				items, rev, err := s.ListAt(messages.Pods, "", "", 0)
				if err != nil || len(items) != len(names) || rev < last {
					t.Errorf("%d objects at %d after %d, %v", len(items), rev, last, err)
					return
				}
				last = rev
			}
		})
	}
	all.Wait()
}

// TestReplayDecodesInParallel opens a bucket whose objects only decode when two are at it.
func TestReplayDecodesInParallel(t *testing.T) {
	if runtime.GOMAXPROCS(0) < 2 {
		t.Skip("there is one processor")
	}
	t.Parallel()
	first := openForTest(t)
	for i := range 64 {
		obj := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint(i)}}
		data, err := first.Encode(messages.Pods, obj)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := first.Commit(t.Context(), Op{Key: messages.KeyOf(messages.Pods, "ns", obj.Name), Object: obj, Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	var now, most atomic.Int32
	met := make(chan struct{})
	var once sync.Once
	s, err := Open(t.Context(), Config{Bus: first.cfg.Bus, Log: first.cfg.Log, Resources: []Resource{{
		Resource: messages.Pods, New: func() objects.Object {
			n := now.Add(1)
			defer now.Add(-1)
			if n > most.Load() {
				most.Store(n)
			}
			if n >= 2 {
				once.Do(func() { close(met) })
			}
			select {
			case <-met:
			case <-time.After(10 * time.Second):
			}
			return &corev1.Pod{}
		},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := s.Stats(messages.Pods); most.Load() < 2 || n != 64 {
		t.Errorf("%d decoders at a time, %d objects", most.Load(), n)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
