package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/singleflight"

	"github.com/troupe-run/troupe/messages"
)

// answerWait is how long a leading member is given to answer before it is asked, or another, again.
const answerWait = 3 * time.Second

// calls are the writes of other members that are being done, by their id, so that one that is
// asked for again meanwhile is not done twice.
type calls struct{ singleflight.Group }

// wireOp is one operation of a write that is passed on. Its body is sealed as in the bucket.
type wireOp struct {
	Group     string          `json:"group,omitempty"`
	Resource  string          `json:"resource"`
	Namespace string          `json:"namespace,omitempty"`
	Name      string          `json:"name"`
	Expect    uint64          `json:"expect,omitempty"`
	Check     bool            `json:"check,omitempty"`
	TTL       time.Duration   `json:"ttl,omitempty"`
	User      string          `json:"user,omitempty"`
	Seal      string          `json:"seal,omitempty"`
	Body      json.RawMessage `json:"body,omitempty"` // none deletes
}

type wireTxn struct {
	ID string `json:"id"`
	// Repeated says that it may have been done already.
	Repeated bool `json:"repeated,omitempty"`
	// Wait is how long the asking side waits.
	Wait time.Duration `json:"wait"`
	Ops  []wireOp      `json:"ops"`
}

// wireReply answers a write or a read.
type wireReply struct {
	Rev uint64 `json:"rev,omitempty"` // of the last operation
	// At is the newest revision of the leader, up to which the asking side shall read.
	At    uint64 `json:"at,omitempty"`
	Class string `json:"class,omitempty"` // of the error, see classes
	Text  string `json:"text,omitempty"`
}

// classes are the errors that cross from one member to another.
var classes = map[string]error{
	"elsewhere": errElsewhere, "unsure": errUnsureForGood, "exists": messages.ErrExists, "conflict": messages.ErrConflict, "notfound": messages.ErrNotFound,
	"toolarge": messages.ErrTooLarge, "invalid": messages.ErrInvalid, "unavailable": messages.ErrUnavailable,
}

// classOrder is how errors are told apart: the first that fits.
var classOrder = []string{"elsewhere", "unsure", "exists", "conflict", "notfound", "toolarge", "invalid", "unavailable"}

// remoteError is an error of the leading member in its own words.
type remoteError struct {
	text  string
	class error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.class }

func (r *wireReply) fail(err error) {
	r.Text, r.Class = err.Error(), "unavailable"
	for _, class := range classOrder {
		if errors.Is(err, classes[class]) {
			r.Class = class
			return
		}
	}
}

func (r *wireReply) err() error {
	if r.Class == "" {
		return nil
	}
	class := classes[r.Class]
	if class == nil {
		class = messages.ErrUnavailable
	}
	return &remoteError{r.Text, class}
}

func (t *txn) opID(i int) string { return t.id + "." + strconv.Itoa(i) }

// forward asks the member that leads to commit t, and returns when the write is visible here.
func (s *Store) forward(ctx context.Context, t *txn, repeated bool) (uint64, error) {
	call := wireTxn{ID: t.id, Repeated: repeated, Wait: answerWait, Ops: make([]wireOp, len(t.ops))}
	for i := range t.ops {
		op := &t.ops[i]
		w := wireOp{Group: op.Key.Group, Resource: op.Key.Resource.Resource, Namespace: op.Key.Namespace, Name: op.Key.Name,
			Expect: op.Expect, Check: op.Check, TTL: op.TTL, User: op.User}
		if op.Object != nil {
			w.Seal, w.Body = op.seal, op.body
		}
		call.Ops[i] = w
	}
	reply, err := s.ask(ctx, messages.StateWrites(s.cfg.Bus.Region(), s.cfg.Bucket), call)
	if err != nil {
		return 0, err
	}
	if err := reply.err(); err != nil {
		if stale(err) { // so that a second look here shows why
			_ = s.WaitFor(ctx, reply.At)
		}
		return 0, err
	}
	if err := s.WaitFor(ctx, reply.Rev); err != nil {
		return 0, fmt.Errorf("write %s: done, and not visible here yet: %w", t.ops[0].Key, err)
	}
	t.landedAt(reply.Rev)
	return reply.Rev, nil
}

// ask sends a question to the member that leads. An error wraps errElsewhere when nobody got it, and
// errUnsure when somebody may have.
func (s *Store) ask(ctx context.Context, subject string, question any) (*wireReply, error) {
	data, err := json.Marshal(question)
	if err != nil {
		return nil, fmt.Errorf("ask the leading member: %w", err)
	}
	patience, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	m, err := s.nc.RequestWithContext(patience, subject, data)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, fmt.Errorf("ask the leading member: %w", errElsewhere)
	case errors.Is(err, nats.ErrMaxPayload):
		return nil, fmt.Errorf("a write of %d bytes: %w", len(data), messages.ErrTooLarge)
	case err != nil:
		return nil, fmt.Errorf("ask the leading member: %w: %w", err, errUnsure)
	}
	var reply wireReply
	if err := json.Unmarshal(m.Data, &reply); err != nil {
		return nil, fmt.Errorf("read the leading member's answer: %w: %w", err, errUnsure)
	}
	return &reply, nil
}

// serveWrite commits for another member. It must not hold up the subscription.
func (s *Store) serveWrite(m *nats.Msg) {
	go func() {
		var call wireTxn
		if err := json.Unmarshal(m.Data, &call); err != nil {
			s.answer(m, wireReply{}, fmt.Errorf("read write: %w: %w", err, messages.ErrInvalid))
			return
		}
		rev, err, _ := s.role.calls.Do(call.ID, func() (any, error) { return s.commitFor(&call) })
		at, _ := rev.(uint64)
		s.answer(m, wireReply{Rev: at}, err)
	}()
}

func (s *Store) answer(m *nats.Msg, reply wireReply, err error) {
	if err != nil {
		reply.fail(err)
	}
	reply.At = s.Revision()
	data, err := json.Marshal(reply)
	if err == nil {
		err = m.Respond(data)
	}
	if err != nil {
		s.log.Debug("answer to another member not sent", "err", err)
	}
}

func (s *Store) commitFor(call *wireTxn) (uint64, error) {
	lead := s.role.leading()
	if lead == nil {
		return 0, errElsewhere
	}
	t := &txn{id: call.ID, ops: make([]Op, len(call.Ops)), sums: make([]Sum, len(call.Ops)), done: make(chan error, 1)}
	for i, w := range call.Ops {
		op := Op{Key: messages.KeyOf(messages.Resource{Group: w.Group, Resource: w.Resource}, w.Namespace, w.Name), Expect: w.Expect, Check: w.Check, TTL: w.TTL, User: w.User}
		if w.Body != nil {
			var err error
			if op.Data, err = s.unseal(op.Key, w.Body, w.Seal); err != nil {
				return 0, fmt.Errorf("write %s: %w", op.Key, err)
			}
			if op.Object, err = s.table(op.Key.Resource).decode(op.Data, 0); err != nil {
				return 0, fmt.Errorf("write %s: %w: %w", op.Key, err, messages.ErrInvalid)
			}
		}
		t.ops[i] = op
	}
	if err := s.prepare(t); err != nil {
		return 0, err
	}
	if err := s.refusal(t.ops); err != nil {
		return 0, fmt.Errorf("write %s: %w", t.ops[0].Key, err)
	}
	// Longer than the other side waits at a time: it asks again and finds it under way.
	ctx, cancel := context.WithTimeout(s.life, 4*call.Wait)
	defer cancel()
	return s.commitOnce(ctx, lead.writer, t, call.Repeated)
}
