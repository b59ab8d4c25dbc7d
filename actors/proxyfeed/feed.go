package proxyfeed

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/nats-io/nats.go"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/stage"
)

// Config of a feed.
type Config struct {
	// Conn is the control plane's connection; the feed neither opens nor closes it.
	Conn *nats.Conn
	// Region names the region whose proxies are told.
	Region string
	// Reader and Feed are the cluster state.
	Reader objects.Reader
	Feed   objects.Feed
	// Window is how long changes are gathered after a delta was sent; 0 means 10 ms.
	Window time.Duration
	// Log must not be nil.
	Log *slog.Logger
}

// Feed speaks to a running feed from outside the actor world.
type Feed struct {
	sys *stage.System
	pid *actor.PID
}

// At returns the feed whose actor, spawned from [Props], is pid.
func At(sys *stage.System, pid *actor.PID) Feed { return Feed{sys, pid} }

// WaitApplied returns when the rules of every proxy that is alive serve the cluster state up to
// rev, the resourceVersion of a Service, EndpointSlice or Namespace as it was written or deleted.
// It returns at once when there are no proxies. A proxy that does not answer holds it up until it
// counts as dead (90 s), so give ctx a deadline.
func (f Feed) WaitApplied(ctx context.Context, rev uint64) error {
	if _, err := stage.Ask[RevisionApplied](ctx, f.sys, f.pid, AwaitApplied{Rev: rev}); err != nil {
		return fmt.Errorf("wait for proxies to apply revision %d: %w", rev, err)
	}
	return nil
}

// Applied returns how far the rules of each living proxy have come, by node.
func (f Feed) Applied(ctx context.Context) (map[string]uint64, error) {
	reply, err := stage.Ask[GetAppliedReply](ctx, f.sys, f.pid, GetApplied{})
	return reply.Nodes, err
}

// AwaitApplied is a question to the feed's actor that is answered with RevisionApplied once every
// living proxy serves the state up to Rev.
type AwaitApplied struct{ Rev uint64 }

// RevisionApplied says that every living proxy serves the state up to Rev.
type RevisionApplied struct{ Rev uint64 }

// GetApplied asks how far each living proxy has come.
type GetApplied struct{}

// GetAppliedReply answers GetApplied with a revision per node.
type GetAppliedReply struct{ Nodes map[string]uint64 }
