package state

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/troupe-run/troupe/messages"
)

// formatHeader says how this program lays out records and changes. It is shared: never changed.
var formatHeader = []string{strconv.Itoa(messages.Format)}

// checkFormat refuses what only a newer program can read.
func checkFormat(h nats.Header) error {
	v := h.Get(messages.HeaderFormat)
	if v == "" {
		return nil // from before records said so
	}
	n, err := strconv.Atoi(v)
	switch {
	case err != nil || n < 1:
		return fmt.Errorf("record format %q: %w", v, messages.ErrInvalid)
	case n > messages.Format:
		return fmt.Errorf("written by a newer troupe, in record format %d, while this one reads up to %d; use that troupe: %w", n, messages.Format, messages.ErrInvalid)
	}
	return nil
}

// checkEpochFormat refuses a bucket of a newer program before anything in it is touched: the last
// program that opened it has left its format in the epoch record.
func (s *Store) checkEpochFormat(ctx context.Context) error {
	stream, err := s.js.Stream(ctx, s.streamName())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := stream.GetLastMsgForSubject(ctx, messages.StateRecord(s.cfg.Bucket, epochRecord))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the epoch: %w", err)
	}
	return checkFormat(m.Header)
}
