package state

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/messages"
)

// maxBatch is the most messages one atomic batch takes; nats-server allows 1000.
const maxBatch = 256

// maxWindow is the most operations that are under way to the servers of several members at once.
const maxWindow = 512

// streamName is what the bucket is called among the server's streams.
func (s *Store) streamName() string { return "KV_" + s.cfg.Bucket }

// ensureStream opens or creates the bucket. It looks first: a needless update writes to disk.
func (s *Store) ensureStream(ctx context.Context) (jetstream.Stream, error) {
	if s.mark != nil && s.mark.seq > 0 {
		// A server that cannot read a stream at all starts without it. A new one in its place
		// would bury what may still be saved.
		if _, err := s.js.Stream(ctx, s.streamName()); errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil, s.mark.damaged("the server could not read it; it ended at revision %d", s.mark.seq)
		}
	}
	want := jetstream.StreamConfig{
		Name:        s.streamName(),
		Description: "objects of the cluster, one record each",
		Subjects:    []string{messages.StateAll(s.cfg.Bucket)},
		// One record per key; refusing new ones on a limit is better than losing old ones.
		MaxMsgsPerSubject:  1,
		Discard:            jetstream.DiscardNew,
		MaxMsgSize:         bus.MaxPayload,
		AllowDirect:        true,
		AllowRollup:        true,
		DenyDelete:         true,
		AllowMsgTTL:        true,
		AllowAtomicPublish: s.batches(),
		FirstSeq:           s.cfg.First,
		Replicas:           s.cfg.Bus.Replicas(),
	}
	s.onDisk(&want)
	if !s.batches() && !s.cfg.Bus.InMemory() {
		want.PersistMode = jetstream.AsyncPersistMode
	}
	stream, err := s.ensure(ctx, s.js, want)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", want.Name, err)
	}
	return stream, nil
}

// batches says whether the bucket takes atomic batches. A server does not, where it may write to disk later,
// which has no meaning when several servers keep the bucket.
func (s *Store) batches() bool { return !s.cfg.Async || s.cfg.Bus.Replicas() > 1 }

// ensureChanges opens or creates the change stream; nc is in the observers' account.
func (s *Store) ensureChanges(ctx context.Context, nc *nats.Conn) (jetstream.Stream, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	want := jetstream.StreamConfig{
		Name:        messages.ChangeStream,
		Description: "every change of an object, for integrations",
		Subjects:    []string{messages.ChangePrefix(s.cfg.Bus.Region()) + ">"},
		MaxAge:      s.cfg.Changes.MaxAge,
		MaxBytes:    s.cfg.Changes.MaxBytes,
		Discard:     jetstream.DiscardOld,
		AllowDirect: true,
		DenyDelete:  true,
		DenyPurge:   true,
		Replicas:    s.cfg.Bus.Replicas(),
	}
	s.onDisk(&want)
	if !s.cfg.Bus.InMemory() && want.Replicas == 1 {
		want.PersistMode = jetstream.AsyncPersistMode
	}
	stream, err := s.ensure(ctx, js, want)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", want.Name, err)
	}
	return stream, nil
}

// onDisk says where a stream is kept. On disk the server compresses each block of messages when it
// begins the next one, so that a write costs nothing; blocks from before stay as they are until they
// are rewritten. A stream that was made without it is compressed from the server's next start on.
//
// One that several servers keep is not compressed. Such a server cuts off, when it is started, what it will
// get from the others again; nats-server up to 2.15.3 then may compress the block that it goes on to
// write to, and cannot read it any more.
func (s *Store) onDisk(c *jetstream.StreamConfig) {
	if s.cfg.Bus.InMemory() {
		c.Storage = jetstream.MemoryStorage
		return
	}
	if c.Storage = jetstream.FileStorage; c.Replicas == 1 {
		c.Compression = jetstream.S2Compression
	}
}

// ensure opens or creates a stream. Members that start together find each other only after a while.
func (s *Store) ensure(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (jetstream.Stream, error) {
	if s.cfg.Owner != "" {
		want.Metadata = map[string]string{ownerKey: s.cfg.Owner, regionKey: s.cfg.Bus.Region()}
	}
	wait := firstPause
	for {
		attempt, cancel := s.attempt(ctx)
		stream, err := ensure(attempt, js, want)
		cancel()
		if err == nil || !s.cfg.Shared || final(err) || !s.wait(ctx, &wait) {
			return stream, err
		}
		s.log.Debug("stream cannot be had yet", "stream", want.Name, "err", err)
	}
}

// What the metadata of streams on servers of others say.
const (
	ownerKey  = "troupe.owner"
	regionKey = "troupe.region"
)

// checkOwner refuses a stream that another cluster, or something else, has made.
func checkOwner(have, want jetstream.StreamConfig) error {
	owner, region := have.Metadata[ownerKey], have.Metadata[regionKey]
	switch {
	case want.Metadata[ownerKey] == "":
		return nil
	case owner == "":
		return fmt.Errorf("it is there and no troupe made it; use another account: %w", messages.ErrInvalid)
	case owner != want.Metadata[ownerKey]:
		return fmt.Errorf("it belongs to the cluster whose authority is %s; use that cluster's data folder, or another account: %w", owner, messages.ErrInvalid)
	case region != want.Metadata[regionKey]:
		return fmt.Errorf("it belongs to region %s; use another account: %w", region, messages.ErrInvalid)
	}
	return nil
}

// final says that trying again is of no use: the server has understood and refused.
func final(err error) bool {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, messages.ErrInvalid):
		return true
	case !errors.As(err, &api):
		return false
	}
	// Members that start together may not see each other yet.
	return api.ErrorCode != noPeers && api.ErrorCode != notReady && api.ErrorCode != insufficient
}

// Codes of JetStream's API for what passes by itself.
const (
	noPeers      = 10005
	notReady     = 10008
	insufficient = 10023
)

// attempt bounds one question to the servers of several members, which do not answer while they elect
// a leader; it shall be asked again.
func (s *Store) attempt(ctx context.Context) (context.Context, context.CancelFunc) {
	if !s.cfg.Shared {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, attemptWait)
}

// attemptWait: see [Store.attempt].
const attemptWait = 1500 * time.Millisecond

func ensure(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (jetstream.Stream, error) {
	stream, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return js.CreateStream(ctx, want)
	}
	if err != nil {
		return nil, err
	}
	have := stream.CachedInfo().Config
	if err := checkOwner(have, want); err != nil {
		return nil, err
	}
	if want.Metadata = nil; sameConfig(have, want) && have.Compression == want.Compression {
		return stream, nil
	}
	want.Metadata = have.Metadata
	want.FirstSeq = stream.CachedInfo().Config.FirstSeq // cannot be changed
	return js.UpdateStream(ctx, want)
}

// sameConfig compares the fields that are set in want; the server fills in the others.
func sameConfig(have, want jetstream.StreamConfig) bool {
	h, w := reflect.ValueOf(have), reflect.ValueOf(want)
	for i := range w.NumField() {
		if !w.Field(i).IsZero() && !reflect.DeepEqual(h.Field(i).Interface(), w.Field(i).Interface()) {
			return false
		}
	}
	return true
}
