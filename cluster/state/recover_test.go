package state

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/messages"
)

// TestRecoverReadsBack publishes a group whose acknowledgements never come, lands some of it, and
// asks what became of it. It drives the store's writer itself, which is idle meanwhile.
func TestRecoverReadsBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		size  int
		batch bool
		// spoil is the index of the message that the server refuses, size for none.
		spoil, want int
	}{
		"singles, all landed":  {4, false, 4, 4},
		"singles, two landed":  {4, false, 2, 2},
		"singles, none landed": {4, false, 0, 0},
		"batch, landed":        {20, true, 20, 20},
		"batch, refused":       {20, true, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openForTest(t)
			w := s.writer
			group := make([]*txn, c.size)
			for i := range group {
				obj := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint(i)}}
				data, err := s.Encode(messages.Pods, obj)
				if err != nil {
					t.Fatal(err)
				}
				key := messages.KeyOf(messages.Pods, "ns", obj.Name)
				group[i] = &txn{
					ops: []Op{{Key: key, Object: obj, Data: data, body: data}}, sums: []Sum{SumOf(data)},
					done: make(chan error, 1), tries: maxTries,
				}
			}
			msgs, err := w.records(group, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			base := w.last
			if c.batch && c.spoil == 0 {
				w.last += 7
			}
			publishUnheard(t, w, msgs, c.batch, c.spoil)
			w.last = base
			fates, err := w.recover(t.Context(), base, msgs)
			if err != nil {
				t.Fatal(err)
			}
			w.settle(group, base, time.Now(), fates, messages.ErrUnavailable)
			for i, g := range group {
				if err := <-g.done; (err == nil) != (i < c.want) {
					t.Errorf("%d: %v", i, err)
				}
			}
			if n, _ := s.Stats(messages.Pods); n != int64(c.want) {
				t.Errorf("%d objects, want %d", n, c.want)
			}
			// The writer goes on from behind the barrier.
			obj := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "after"}}
			data, err := s.Encode(messages.Pods, obj)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Commit(t.Context(), Op{Key: messages.KeyOf(messages.Pods, "ns", "after"), Object: obj, Data: data}); err != nil {
				t.Error(err)
			}
		})
	}
}

// publishUnheard publishes msgs as the writer does, but listens to no answer.
func publishUnheard(t *testing.T, w *writer, msgs []*nats.Msg, batch bool, spoil int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if batch {
		if err := w.publishBatch(ctx, msgs, w.inbox+".unheard."); err == nil {
			t.Fatal("published with a context that has ended")
		}
		return
	}
	for i, m := range msgs {
		expected := w.last + uint64(i)
		if i >= spoil {
			expected += 1000
		}
		m.Header["Nats-Expected-Last-Sequence"] = []string{fmt.Sprint(expected)}
		m.Reply = w.inbox + ".unheard." + fmt.Sprint(i)
		if err := w.store.nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
}

func openForTest(t *testing.T) *Store {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	b, err := bus.Start(t.Context(), bus.Config{DataDir: t.TempDir(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Config{Bus: b, Log: log, Resources: []Resource{{
		Resource: messages.Pods, New: func() objects.Object { return &corev1.Pod{} },
	}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}
