package state

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// Names of the store's own records in a bucket.
const (
	epochRecord   = "epoch"
	barrierRecord = "barrier"
)

const (
	kvOperation = "KV-Operation"
	kvPurge     = "PURGE"

	batchID       = "Nats-Batch-Id"
	batchSequence = "Nats-Batch-Sequence"
	batchCommit   = "Nats-Batch-Commit"
)

// records turns the operations of a group into messages, in order.
func (w *writer) records(group []*txn, now time.Time) ([]*nats.Msg, error) {
	s := w.store
	msgs := make([]*nats.Msg, 0, len(group))
	for _, t := range group {
		for i := range t.ops {
			op := &t.ops[i]
			if op.Check {
				continue
			}
			if op.body == nil { // an expiry, which no caller has prepared
				if err := s.fillTombstone(op); err != nil {
					return nil, err
				}
				op.body, op.seal = s.seals.seal(op.Key, op.Data)
			}
			h := make(nats.Header, 9)
			h[messages.HeaderFormat] = formatHeader
			if op.Object == nil {
				h[kvOperation] = []string{kvPurge}
				h[jetstream.MsgRollup] = []string{jetstream.MsgRollupSubject}
				h[jetstream.MsgTTLHeader] = []string{s.cfg.TombstoneTTL.String()}
			} else if at := s.endOf(op, now); at != 0 {
				h[messages.HeaderExpires] = []string{strconv.FormatInt(at, 10)}
			}
			if op.seal != "" {
				h[messages.HeaderSealed] = []string{op.seal}
			}
			if op.User != "" {
				h[messages.HeaderUser] = []string{op.User}
			}
			h[messages.HeaderVerb] = []string{op.verb()}
			w.number++
			h[messages.HeaderWriter] = []string{w.op(w.number)}
			if t.id != "" {
				h[messages.HeaderWriter] = []string{t.opID(i)}
			}
			describe(h, s.subject(op))
			msgs = append(msgs, &nats.Msg{Subject: messages.StateSubject(s.cfg.Bucket, op.Key), Header: h, Data: op.body})
		}
	}
	return msgs, nil
}

func (w *writer) op(n uint64) string { return w.id + "." + strconv.FormatUint(n, 10) }

// subject returns the object an operation is about: for a deletion the one that goes.
func (s *Store) subject(op *Op) objects.Object {
	if op.Object != nil {
		return op.Object
	}
	obj, _ := s.Get(op.Key)
	return obj
}

// describe adds the headers that say what object a message is about.
func describe(h nats.Header, obj objects.Object) {
	if obj == nil {
		return
	}
	if apiVersion, kind := obj.GetObjectKind().GroupVersionKind().ToAPIVersionAndKind(); kind != "" {
		h[messages.HeaderKind] = []string{apiVersion + "/" + kind}
	}
	if uid := obj.GetUID(); uid != "" {
		h[messages.HeaderUID] = []string{string(uid)}
	}
}

// publish stores msgs at the sequences after w.last, all or none if atomic, or returns an error
// when that is not certain.
func (w *writer) publish(ctx context.Context, msgs []*nats.Msg, atomic bool) error {
	if len(msgs) == 0 {
		return nil // nothing but checks
	}
	prefix := w.newWindow()
	if atomic || len(msgs) >= w.batchFrom() {
		w.stage(atomic)
		return w.publishBatch(ctx, msgs, prefix)
	}
	for i, m := range msgs {
		m.Header[jetstream.ExpectedLastSeqHeader] = []string{strconv.FormatUint(w.last+uint64(i), 10)}
		m.Reply = prefix + strconv.Itoa(i)
		if err := w.store.nc.PublishMsg(m); err != nil {
			return err
		}
	}
	return w.await(ctx, prefix, len(msgs), func(i int, seq uint64) error { return expect(seq, w.last+uint64(i)+1) })
}

func (w *writer) newWindow() string {
	w.window++
	return w.inbox + "." + strconv.FormatUint(w.window, 10) + "."
}

func expect(got, want uint64) error {
	if got != want {
		return fmt.Errorf("stored at sequence %d instead of %d", got, want)
	}
	return nil
}

// batchFrom is the number of messages from which an atomic batch is published.
//
// Messages of their own are in order, one behind the other, in the server of this process. On their way to
// other servers some may be lost and others held up by a broken line. Each expects the sequence of the one
// before, so that one that comes late would land among what the next leader writes, as soon as that has got
// as far. A batch expects nothing but what was there when it was published, and lands whole or not at all.
func (w *writer) batchFrom() int {
	switch {
	case w.store.cfg.Shared:
		return 2
	case w.store.cfg.Async || w.store.cfg.Bus.InMemory() || w.store.cfg.Bus.Replicas() > 1:
		return math.MaxInt // a batch pays only where each publish would cost an fsync
	case w.staging != nil:
		return stagedBatchFrom
	}
	return batchFrom
}

// stage says where the server puts a batch until it is committed. Where it cannot be changed the batch
// takes longer, or a power cut may leave a part of a transaction that was never acknowledged.
func (w *writer) stage(atomic bool) {
	if w.staging == nil {
		return
	}
	choose := w.staging.InMemory
	if atomic {
		choose = w.staging.OnDisk
	}
	if err := choose(); err != nil {
		w.store.log.Debug("a batch is not staged as it should be", "atomic", atomic, "err", err)
	}
}

// publishBatch stores msgs by one atomic batch. Only the last message is answered.
func (w *writer) publishBatch(ctx context.Context, msgs []*nats.Msg, prefix string) error {
	id := nuid.Next()
	for i, m := range msgs {
		m.Header[batchID] = []string{id}
		m.Header[batchSequence] = []string{strconv.Itoa(i + 1)}
		if i == 0 {
			m.Header[jetstream.ExpectedLastSeqHeader] = []string{strconv.FormatUint(w.last, 10)}
		}
		if i == len(msgs)-1 {
			m.Header[batchCommit] = []string{"1"}
			m.Reply = prefix + "0"
		}
		if err := w.store.nc.PublishMsg(m); err != nil {
			return err
		}
	}
	return w.await(ctx, prefix, 1, func(_ int, seq uint64) error { return expect(seq, w.last+uint64(len(msgs))) })
}

// ack is JetStream's answer to a publish.
type ack struct {
	Sequence uint64              `json:"seq"`
	Error    *jetstream.APIError `json:"error"`
}

// await takes the n acknowledgements of a window, whose subjects are prefix and an index, and hands
// index and sequence to accept.
func (w *writer) await(ctx context.Context, prefix string, n int, accept func(i int, seq uint64) error) error {
	timeout := ackTimeout
	if w.store.cfg.Shared {
		timeout = sharedAckTimeout
	}
	timer := w.store.cfg.Clock.NewTimer(timeout)
	defer timer.Stop()
	for n > 0 {
		select {
		case m := <-w.acks:
			index, ok := strings.CutPrefix(m.Subject, prefix)
			if !ok {
				continue // late answer to a window that was read back already
			}
			seq, err := parseAck(m)
			if err != nil {
				return err
			}
			i, err := strconv.Atoi(index)
			if err != nil {
				return err
			}
			if err := accept(i, seq); err != nil {
				return err
			}
			n--
		case <-timer.C():
			return fmt.Errorf("no acknowledgement within %s: %w", timeout, messages.ErrUnavailable)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func parseAck(m *nats.Msg) (uint64, error) {
	if m.Header.Get("Status") == "503" {
		return 0, nats.ErrNoResponders
	}
	var a ack
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return 0, fmt.Errorf("read acknowledgement: %w", err)
	}
	if a.Error != nil {
		return 0, a.Error
	}
	return a.Sequence, nil
}

// takeOver makes this store the bucket's writer: its record moves the stream's last sequence, so
// that whatever another store publishes on the old one is refused.
func (w *writer) takeOver(ctx context.Context) (uint64, error) {
	if w.sub == nil {
		var err error
		if w.sub, err = w.store.nc.ChanSubscribe(w.inbox+".>", w.acks); err != nil {
			return 0, err
		}
	}
	seq, err := w.mark(ctx, epochRecord)
	w.last = seq
	return seq, err
}

func (w *writer) unsubscribe() {
	if w.sub != nil {
		_ = w.sub.Unsubscribe() // the connection may be closed
	}
}

// ownRecord makes one of the store's own records.
func (w *writer) ownRecord(record string) *nats.Msg {
	w.number++
	return &nats.Msg{
		Subject: messages.StateRecord(w.store.cfg.Bucket, record),
		Header:  nats.Header{messages.HeaderFormat: formatHeader, messages.HeaderWriter: {w.op(w.number)}},
	}
}

// mark publishes one of the store's own records without any expectation and returns its sequence.
func (w *writer) mark(ctx context.Context, record string) (seq uint64, err error) {
	m := w.ownRecord(record)
	prefix := w.newWindow()
	m.Reply = prefix + "0"
	if err := w.store.nc.PublishMsg(m); err != nil {
		return 0, err
	}
	err = w.await(ctx, prefix, 1, func(_ int, got uint64) error {
		seq = got
		return nil
	})
	return seq, err
}
