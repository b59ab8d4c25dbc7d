package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/messages"
)

// openTwo opens two stores that share a bucket, on one server; the first leads.
func openTwo(t *testing.T, change ...func(*Config)) (leader, follower *Store) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	b, err := bus.Start(t.Context(), bus.Config{DataDir: t.TempDir(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	var both [2]*Store
	for i := range both {
		cfg := Config{Bus: b, Shared: true, Log: log, Changes: &Changes{},
			Resources: []Resource{{Resource: messages.Pods, New: func() objects.Object { return &corev1.Pod{} }}}}
		for _, do := range change {
			do(&cfg)
		}
		both[i], err = Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			end, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			if err := both[i].Close(end); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := both[0].Lead(t.Context()); err != nil {
		t.Fatal(err)
	}
	return both[0], both[1]
}

func podOp(t *testing.T, s *Store, name, uid, node string, expect uint64) Op {
	t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(uid)}, Spec: corev1.PodSpec{NodeName: node}}
	data, err := s.Encode(messages.Pods, p)
	if err != nil {
		t.Fatal(err)
	}
	return Op{Key: messages.KeyOf(messages.Pods, "ns", name), Expect: expect, Object: p, Data: data}
}

func do(t *testing.T, s *Store, ops ...Op) uint64 {
	t.Helper()
	rev, err := s.Commit(t.Context(), ops...)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// seen words the events of a watch.
func seen(t *testing.T, c *Cursor, count int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var out []string
	for len(out) < count {
		events, _, err := c.Next(ctx)
		if err != nil {
			t.Fatalf("after %v: %v", out, err)
		}
		for _, e := range events {
			switch {
			case e.New == nil:
				out = append(out, fmt.Sprintf("%s/%s gone", e.Old.GetName(), e.Last.GetUID()))
			case e.Old == nil:
				out = append(out, fmt.Sprintf("%s/%s new on %s", e.New.GetName(), e.New.GetUID(), e.New.(*corev1.Pod).Spec.NodeName))
			default:
				out = append(out, fmt.Sprintf("%s/%s on %s", e.New.GetName(), e.New.GetUID(), e.New.(*corev1.Pod).Spec.NodeName))
			}
		}
	}
	return strings.Join(out, ", ")
}

func TestFollowerSeesEveryChangeInOrder(t *testing.T) {
	t.Parallel()
	leader, follower := openTwo(t)
	cursor, err := follower.Watch(messages.Pods, follower.Revision())
	if err != nil {
		t.Fatal(err)
	}
	rev := uint64(0)
	for _, step := range []struct {
		op   func() Op
		want string
	}{
		{func() Op { return podOp(t, leader, "a", "u1", "n1", rev) }, "a/u1 new on n1"},
		{func() Op { return podOp(t, leader, "a", "u1", "n2", rev) }, "a/u1 on n2"},
		{func() Op { return Op{Key: messages.KeyOf(messages.Pods, "ns", "a"), Expect: rev} }, "a/u1 gone"},
	} {
		rev = do(t, leader, step.op())
		if got := seen(t, cursor, 1); got != step.want {
			t.Errorf("saw %s, want %s", got, step.want)
		}
	}
}

// TestFollowerMakesUpForWhatItMissed holds a follower back while an object is replaced and another one
// comes and goes: the stream then has the last record of each only.
func TestFollowerMakesUpForWhatItMissed(t *testing.T) {
	t.Parallel()
	leader, follower := openTwo(t)
	rev := do(t, leader, podOp(t, leader, "a", "u1", "n1", 0))
	if err := follower.WaitFor(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	cursor, err := follower.Watch(messages.Pods, rev)
	if err != nil {
		t.Fatal(err)
	}
	follower.stopPump()
	do(t, leader, Op{Key: messages.KeyOf(messages.Pods, "ns", "a"), Expect: rev})
	do(t, leader, podOp(t, leader, "a", "u2", "n2", 0))
	brief := do(t, leader, podOp(t, leader, "b", "u3", "n3", 0))
	last := do(t, leader, Op{Key: messages.KeyOf(messages.Pods, "ns", "b"), Expect: brief})
	follower.startPump()
	if got, want := seen(t, cursor, 3), "a/u1 gone, a/u2 new on n2, b/u3 gone"; got != want {
		t.Errorf("saw %s, want %s", got, want)
	}
	if follower.Revision() != last {
		t.Errorf("follower is at %d, leader at %d", follower.Revision(), last)
	}
}

// TestFollowerDoesNotWaitForWhatWasWrittenOver gives a follower a record behind which, when it was sent, others
// were to come, which have been written over since.
func TestFollowerDoesNotWaitForWhatWasWrittenOver(t *testing.T) {
	t.Parallel()
	leader, follower := openTwo(t)
	rev := do(t, leader, podOp(t, leader, "a", "u1", "n1", 0))
	if err := follower.WaitFor(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	follower.stopPump()
	last := do(t, leader, podOp(t, leader, "a", "u1", "n3", do(t, leader, podOp(t, leader, "a", "u1", "n2", rev))))
	f := intake{store: follower, last: rev}
	op := podOp(t, leader, "a", "u1", "n3", rev)
	record := raw{seq: last, pending: 2, subject: messages.StateSubject(follower.cfg.Bucket, op.Key), data: op.Data}
	if _, err := f.take(record); err != nil {
		t.Fatal(err)
	}
	if follower.Revision() != rev {
		t.Fatal("what comes behind a hole is visible before the rest")
	}
	if err := f.paused(t.Context()); err != nil {
		t.Fatal(err)
	}
	if follower.Revision() != last {
		t.Errorf("follower is at %d, the bucket at %d", follower.Revision(), last)
	}
}

func TestFollowerPassesWritesOn(t *testing.T) {
	t.Parallel()
	_, follower := openTwo(t)
	op := podOp(t, follower, "a", "u1", "n1", 0)
	rev := do(t, follower, op)
	if have, ok := follower.Get(op.Key); !ok || have.GetResourceVersion() != fmt.Sprint(rev) || op.Object.GetResourceVersion() != fmt.Sprint(rev) {
		t.Errorf("own write is not visible: %v, %v", have, op.Object.GetResourceVersion())
	}
	for name, c := range map[string]struct {
		op   Op
		want error
	}{
		"exists":   {podOp(t, follower, "a", "u1", "n1", 0), messages.ErrExists},
		"conflict": {podOp(t, follower, "a", "u1", "n1", rev+7), messages.ErrConflict},
		"missing":  {Op{Key: messages.KeyOf(messages.Pods, "ns", "z"), Expect: 3}, messages.ErrNotFound},
	} {
		if _, err := follower.Commit(t.Context(), c.op); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A transaction is done as one.
	if _, err := follower.Commit(t.Context(), podOp(t, follower, "b", "u2", "n1", 0), podOp(t, follower, "a", "u1", "n1", 0)); !errors.Is(err, messages.ErrExists) {
		t.Errorf("half a transaction: %v", err)
	}
	if _, ok := follower.Get(messages.KeyOf(messages.Pods, "ns", "b")); ok {
		t.Error("half a transaction was done")
	}
}

// TestRepeatedWriteIsDoneOnce sends one write twice, as a member does that got no answer.
func TestRepeatedWriteIsDoneOnce(t *testing.T) {
	t.Parallel()
	leader, follower := openTwo(t)
	txn := &txn{id: "once", ops: []Op{podOp(t, follower, "a", "u1", "n1", 0)}, sums: make([]Sum, 1)}
	if err := follower.prepare(txn); err != nil {
		t.Fatal(err)
	}
	first, err := follower.forward(t.Context(), txn, false)
	if err != nil {
		t.Fatal(err)
	}
	second, err := follower.forward(t.Context(), txn, true)
	if err != nil || second != first {
		t.Errorf("the second time: %d, %v; want %d", second, err, first)
	}
	// Once it was written over, nobody can tell whether it was done: not a conflict, which would say no.
	do(t, leader, podOp(t, leader, "a", "u1", "n2", first))
	if _, err := follower.forward(t.Context(), txn, true); !errors.Is(err, messages.ErrUnavailable) || stale(err) {
		t.Errorf("after it was written over: %v", err)
	}
}

func TestLeaderChangesInOrder(t *testing.T) {
	t.Parallel()
	leader, follower := openTwo(t)
	rev := do(t, leader, podOp(t, leader, "a", "u1", "n1", 0))
	end, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := leader.StepDown(end); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := follower.Commit(ctx, podOp(t, follower, "a", "u1", "n2", rev)); !errors.Is(err, messages.ErrUnavailable) {
		t.Errorf("a write while nobody leads: %v", err)
	}
	if err := follower.Consistent(ctx); !errors.Is(err, messages.ErrUnavailable) {
		t.Errorf("a consistent read while nobody leads: %v", err)
	}
	if _, err := follower.Lead(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := do(t, leader, podOp(t, leader, "a", "u1", "n2", rev)) // passed on the other way now
	if have, ok := follower.Get(messages.KeyOf(messages.Pods, "ns", "a")); !ok || have.GetResourceVersion() != fmt.Sprint(next) {
		t.Errorf("the new leader has %v", have)
	}
}

// TestDeposedLeaderSettlesItsWrites lets another store take the bucket over without a word: what the
// old leader writes then goes to the new one.
func TestDeposedLeaderSettlesItsWrites(t *testing.T) {
	t.Parallel()
	leader, follower := openTwo(t)
	deposed, err := leader.Lead(t.Context()) // as it does already
	if err != nil {
		t.Fatal(err)
	}
	rev := do(t, leader, podOp(t, leader, "a", "u1", "n1", 0))
	if _, err := follower.Lead(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := leader.Consistent(t.Context()); err != nil { // it has no lease, so it asks the stream, and learns
		t.Fatal(err)
	}
	next := do(t, leader, podOp(t, leader, "a", "u1", "n2", rev))
	<-deposed
	if have, ok := follower.Get(messages.KeyOf(messages.Pods, "ns", "a")); !ok || have.GetResourceVersion() != fmt.Sprint(next) {
		t.Errorf("the new leader has %v", have)
	}
	if leader.Leads() || !follower.Leads() {
		t.Error("both or none lead")
	}
}

// TestWindowOfADeposedLeaderNeverLands delivers again and again what a deposed leader has published, as a
// broken line does that comes back, while the new one writes.
func TestWindowOfADeposedLeaderNeverLands(t *testing.T) {
	t.Parallel()
	leader, follower := openTwo(t)
	w := leader.role.leading().writer
	rev := do(t, leader, podOp(t, leader, "a", "u1", "n1", 0))
	base := w.last
	if _, err := follower.Lead(t.Context()); err != nil {
		t.Fatal(err)
	}
	group := make([]*txn, 5)
	for i := range group {
		group[i] = &txn{id: fmt.Sprint("t", i), ops: []Op{podOp(t, leader, fmt.Sprint("p", i), "u", "n", 0)}, sums: make([]Sum, 1)}
		if err := leader.prepare(group[i]); err != nil {
			t.Fatal(err)
		}
	}
	msgs, err := w.records(group, leader.cfg.Clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	sub, err := leader.nc.SubscribeSync(messages.StateAll(leader.cfg.Bucket))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.publish(t.Context(), msgs, false); err == nil {
		t.Fatal("a deposed leader has written")
	}
	var window []*nats.Msg
	for range msgs {
		m, err := sub.NextMsg(answerWait)
		if err != nil {
			t.Fatal(err)
		}
		window = append(window, m)
	}
	fates, err := w.recover(t.Context(), base, msgs)
	if !errors.Is(err, messages.ErrFenced) {
		t.Fatalf("the deposed leader does not notice: %v", err)
	}
	for i, f := range fates {
		if f == landed {
			t.Errorf("message %d has landed", i)
		}
	}
	for i := range 8 {
		for _, m := range window {
			late := &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data}
			if err := leader.nc.PublishMsg(late); err != nil {
				t.Fatal(err)
			}
		}
		if err := leader.nc.Flush(); err != nil {
			t.Fatal(err)
		}
		rev = do(t, follower, podOp(t, follower, "a", "u1", fmt.Sprint("n", i), rev))
		if last, err := follower.newestRecord(t.Context()); err != nil || last != rev {
			t.Fatalf("after %d writes of the new leader the bucket is at %d, it is at %d: %v", i+1, last, rev, err)
		}
	}
}
