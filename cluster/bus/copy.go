package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/troupe-run/troupe/messages"
)

const (
	// copyChunk is how much of a stream goes over at a time, in bytes.
	copyChunk = 512 << 10
	// copyWait bounds each step of a copy. A server that takes a stream in says nothing while it writes.
	copyWait = 30 * time.Second
)

// CopyStream makes a stream at the servers behind one connection into one at those behind another, with the
// same messages at the same sequences and the same consumers. change is given its configuration to adjust.
// There must be none of that name at to. After an error there may be a part of it, which to's server takes
// back when nothing comes any more.
//
// It is JetStream's snapshot and restore, as of `nats stream backup`.
func CopyStream(ctx context.Context, from, to *nats.Conn, name string, change func(*server.StreamConfig)) error {
	inbox := from.NewInbox()
	chunks := make(chan *nats.Msg, 1024)
	sub, err := from.ChanSubscribe(inbox, chunks)
	if err != nil {
		return fmt.Errorf("copy stream %s: %w", name, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection may be closed
	var taken server.JSApiStreamSnapshotResponse
	err = askJetStream(ctx, from, fmt.Sprintf(server.JSApiStreamSnapshotT, name), server.JSApiStreamSnapshotRequest{DeliverSubject: inbox, ChunkSize: copyChunk}, &taken)
	if err = firstError(err, taken.Error); err != nil {
		return fmt.Errorf("read stream %s: %w", name, err)
	}
	change(taken.Config)
	var begun server.JSApiStreamRestoreResponse
	err = askJetStream(ctx, to, fmt.Sprintf(server.JSApiStreamRestoreT, name), server.JSApiStreamRestoreRequest{Config: *taken.Config, State: *taken.State}, &begun)
	if err = firstError(err, begun.Error); err != nil {
		return fmt.Errorf("begin stream %s: %w", name, err)
	}
	for {
		chunk, err := nextChunk(ctx, chunks)
		if err != nil {
			return fmt.Errorf("read stream %s: %w", name, err)
		}
		if len(chunk.Data) == 0 {
			if status := chunk.Header.Get("Status"); status != "" && status != "204" {
				return fmt.Errorf("read stream %s: %s %s: %w", name, status, chunk.Header.Get("Description"), messages.ErrUnavailable)
			}
			break
		}
		if err := sendChunk(ctx, to, begun.DeliverSubject, chunk.Data); err != nil {
			return fmt.Errorf("write stream %s: %w", name, err)
		}
		if chunk.Reply != "" {
			if err := chunk.Respond(nil); err != nil {
				return fmt.Errorf("read stream %s: %w", name, err)
			}
		}
	}
	if err := sendChunk(ctx, to, begun.DeliverSubject, nil); err != nil {
		return fmt.Errorf("write stream %s: %w", name, err)
	}
	return nil
}

// AwaitCopies returns when a number of servers have the whole of a stream.
func AwaitCopies(ctx context.Context, nc *nats.Conn, name string, copies int) error {
	for {
		var info server.JSApiStreamInfoResponse
		err := askJetStream(ctx, nc, fmt.Sprintf(server.JSApiStreamInfoT, name), server.JSApiStreamInfoRequest{}, &info)
		have := 0
		if err == nil && info.StreamInfo != nil && info.Cluster != nil && info.Cluster.Leader != "" {
			have = 1
			for _, r := range info.Cluster.Replicas {
				if r.Current && !r.Offline {
					have++
				}
			}
		}
		if have >= copies {
			return nil
		}
		select {
		case <-time.After(5 * flushWait):
		case <-ctx.Done():
			return fmt.Errorf("stream %s is kept by %d servers, not %d: %w", name, have, copies, ctx.Err())
		}
	}
}

func nextChunk(ctx context.Context, chunks <-chan *nats.Msg) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, copyWait)
	defer cancel()
	select {
	case m := <-chunks:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// sendChunk passes a part on, or with none the end. The server answers with what went wrong, or nothing.
func sendChunk(ctx context.Context, nc *nats.Conn, subject string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, copyWait)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, subject, data)
	for errors.Is(err, nats.ErrNoResponders) { // this server does not know yet who listens at another
		select {
		case <-time.After(flushWait):
		case <-ctx.Done():
			return err
		}
		m, err = nc.RequestWithContext(ctx, subject, data)
	}
	if err != nil || len(m.Data) == 0 {
		return err
	}
	var answer server.JSApiStreamCreateResponse
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return err
	}
	return firstError(nil, answer.Error)
}

// askJetStream puts one question to JetStream's API.
func askJetStream(ctx context.Context, nc *nats.Conn, subject string, question, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, copyWait)
	defer cancel()
	data, err := json.Marshal(question)
	if err != nil {
		return err
	}
	m, err := nc.RequestWithContext(ctx, subject, data)
	if err != nil {
		return err
	}
	return json.Unmarshal(m.Data, answer)
}

// firstError is err, or what JetStream has answered instead of an error of its own type's nil.
func firstError(err error, api *server.ApiError) error {
	if err == nil && api != nil {
		return api
	}
	return err
}
