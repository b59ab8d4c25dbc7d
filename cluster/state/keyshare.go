package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/troupe-run/troupe/messages"
)

// With Config.KeyWrap the sealing keys are in the bucket, too, in a record that is encrypted with it: so
// every member of a control plane has them, however long it was away. The record says which keys there are; the file
// beside the bucket is a copy. Whoever changes it must know it as it was.

// keysRecord is the name of that record.
const keysRecord = "keys"

// errUnknownKey says that something is sealed with a key that is not in the ring.
var errUnknownKey = fmt.Errorf("sealed with an unknown key: %w", messages.ErrInvalid)

// shares says whether the sealing keys are in the bucket.
func (s *Store) shares() bool { return len(s.cfg.KeyWrap) > 0 && !s.cfg.Async && len(s.seals.of) > 0 }

// lastRecord asks the server that leads the stream for the newest record of some subjects; seq is 0 when
// there is none.
func (s *Store) lastRecord(ctx context.Context, subjects string) (data []byte, seq uint64, err error) {
	// Not nats.go's way, which asks any server that keeps the stream.
	question, err := json.Marshal(server.JSApiMsgGetRequest{LastFor: subjects})
	if err != nil {
		return nil, 0, err
	}
	m, err := s.nc.RequestWithContext(ctx, fmt.Sprintf(server.JSApiMsgGetT, s.stream.CachedInfo().Config.Name), question)
	if err != nil {
		return nil, 0, fmt.Errorf("newest record of %s: %w", subjects, err)
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Sequence uint64 `json:"seq"`
			Data     []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return nil, 0, fmt.Errorf("newest record of %s: %w", subjects, err)
	}
	switch {
	case answer.Error == nil:
		return answer.Message.Data, answer.Message.Sequence, nil
	case answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, 0, nil
	}
	return nil, 0, fmt.Errorf("newest record of %s: %w", subjects, answer.Error)
}

// sharedKeys reads the keys in the bucket and the sequence of their record, 0 when there is none.
func (s *Store) sharedKeys(ctx context.Context) (keyring, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	data, seq, err := s.lastRecord(ctx, messages.StateRecord(s.cfg.Bucket, keysRecord))
	if err != nil || seq == 0 {
		return nil, 0, err
	}
	ring, err := s.unwrapKeys(data)
	return ring, seq, err
}

func (s *Store) unwrapKeys(data []byte) (keyring, error) {
	k, err := newKey(s.cfg.KeyWrap)
	if err != nil {
		return nil, fmt.Errorf("sealing keys in the bucket: %w", err)
	}
	text, err := k.aead.Open(nil, nil, data, []byte(keysRecord))
	if err != nil {
		return nil, fmt.Errorf("sealing keys in the bucket are another authority's: %w: %w", err, messages.ErrInvalid)
	}
	return parseKeyring(string(text))
}

// shareKeys writes the keys into the bucket, in place of those at a sequence.
func (s *Store) shareKeys(ctx context.Context, ring keyring, over uint64) error {
	k, err := newKey(s.cfg.KeyWrap)
	if err != nil {
		return fmt.Errorf("share the sealing keys: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	m := &nats.Msg{Subject: messages.StateRecord(s.cfg.Bucket, keysRecord), Header: nats.Header{messages.HeaderFormat: formatHeader},
		Data: k.aead.Seal(nil, nil, ring.encode(), []byte(keysRecord))}
	// It comes between what the writer publishes, which then looks what became of it and goes on.
	if _, err := s.js.PublishMsg(ctx, m, jetstream.WithExpectLastSequencePerSubject(over)); err != nil {
		return fmt.Errorf("share the sealing keys: %w: %w", err, messages.ErrUnavailable)
	}
	return nil
}

// learnKeys takes the keys in the bucket over. Those that only this member has stay, behind the others.
func (s *Store) learnKeys(ctx context.Context) error {
	s.seals.changing.Lock()
	defer s.seals.changing.Unlock()
	ring, seq, err := s.sharedKeys(ctx)
	if err != nil || seq == 0 {
		return err
	}
	for _, k := range *s.seals.ring.Load() {
		if _, ok := ring.find(k.id); !ok {
			ring = append(ring, k)
		}
	}
	return s.adopt(ring)
}

// offerKeys puts this member's keys into the bucket if there are none, and otherwise takes those over.
func (s *Store) offerKeys(ctx context.Context) error {
	_, seq, err := s.sharedKeys(ctx)
	if err != nil {
		return err
	}
	if seq == 0 {
		if err := s.shareKeys(ctx, *s.seals.ring.Load(), 0); err != nil {
			return err
		}
	}
	return s.learnKeys(ctx)
}

// changeKeys replaces the keys, in the bucket first if they are there.
func (s *Store) changeKeys(ctx context.Context, change func(keyring) (keyring, error)) error {
	s.seals.changing.Lock()
	defer s.seals.changing.Unlock()
	ring, seq := *s.seals.ring.Load(), uint64(0)
	if s.shares() {
		shared, at, err := s.sharedKeys(ctx)
		if err != nil {
			return err
		}
		if seq = at; seq != 0 {
			ring = shared
		}
	}
	ring, err := change(slices.Clone(ring))
	if err != nil {
		return err
	}
	if s.shares() {
		if err := s.shareKeys(ctx, ring, seq); err != nil {
			return err
		}
	}
	return s.adopt(ring)
}

// adopt makes ring the one in use, and notes what is sealed with another key than its newest.
func (s *Store) adopt(ring keyring) error {
	old := *s.seals.ring.Load()
	if string(old.encode()) == string(ring.encode()) {
		return nil
	}
	if err := s.seals.replace(ring); err != nil {
		return err
	}
	if old[0].id == ring[0].id {
		return nil
	}
	// What is committed with the old key from now on is noted when it is applied.
	s.mu.Lock()
	defer s.mu.Unlock()
	for res, t := range s.tables {
		if !s.seals.of[res] {
			continue
		}
		for _, row := range t.rows {
			id, stale := s.stale[row.key]
			if !stale {
				id = old[0].id
			}
			s.noteSeal(row.key, id)
		}
	}
	return nil
}

// unseal opens what is sealed, if need be with a key that another member has made.
func (s *Store) unseal(key messages.Key, body []byte, id string) ([]byte, error) {
	data, err := s.seals.open(key, body, id)
	if !errors.Is(err, errUnknownKey) || !s.shares() {
		return data, err
	}
	if err := s.learnKeys(s.life); err != nil {
		return nil, err
	}
	return s.seals.open(key, body, id)
}
