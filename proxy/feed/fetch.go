package feed

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/proto/proxypb"
)

// fetch requests a snapshot and puts its parts together. It returns nil when what the request
// says we have is the newest.
func fetch(ctx context.Context, conn *nats.Conn, subject string, request *proxypb.SnapshotRequest) (*set, error) {
	data, err := proto.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("fetch snapshot: %w", err)
	}
	inbox := conn.NewInbox()
	sub, err := conn.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("fetch snapshot: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // a closed connection has no subscriptions
	if err := conn.PublishRequest(subject, inbox, data); err != nil {
		return nil, fmt.Errorf("fetch snapshot: %w", err)
	}
	j := joiner{}
	for !j.done() {
		part, err := next(ctx, sub)
		if err != nil {
			return nil, fmt.Errorf("fetch snapshot: part %d of %d: %w", j.got, j.total, err)
		}
		if part.Unchanged && request.Source != "" {
			return nil, nil
		}
		j.add(part)
	}
	return j.set, nil
}

// next waits for one part; a control plane that went silent half-way is not waited for.
func next(ctx context.Context, sub *nats.Subscription) (*proxypb.Part, error) {
	ctx, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	msg, err := sub.NextMsgWithContext(ctx)
	if err != nil {
		return nil, err
	}
	if len(msg.Data) == 0 && msg.Header.Get("Status") == "503" {
		return nil, fmt.Errorf("nobody answers: %w", messages.ErrUnavailable)
	}
	part := &proxypb.Part{}
	if err := proto.Unmarshal(msg.Data, part); err != nil {
		return nil, errors.Join(messages.ErrInvalid, err)
	}
	return part, nil
}

// joiner builds a set from the parts of one snapshot. When the control plane restarts half-way,
// parts of two snapshots may meet: the newer one wins and starts over.
type joiner struct {
	set   *set
	seen  map[uint32]bool
	got   int
	total int
}

func (j *joiner) done() bool { return j.set != nil && j.got == j.total }

func (j *joiner) add(p *proxypb.Part) {
	if j.set == nil || j.set.source != p.Source || j.set.sequence != p.Sequence {
		j.set, j.seen, j.got, j.total = newSet(), make(map[uint32]bool), 0, int(p.Total)
		j.set.source, j.set.sequence, j.set.revision = p.Source, p.Sequence, p.Revision
	}
	if j.seen[p.Index] {
		return
	}
	j.seen[p.Index] = true
	j.got++
	j.set.put(p.Objects, make(map[Name]bool), make(map[string]bool))
}
