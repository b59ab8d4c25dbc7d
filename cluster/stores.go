package cluster

import (
	"context"
	"fmt"

	"github.com/troupe-run/troupe/cluster/api"
	"github.com/troupe-run/troupe/cluster/api/kinds"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// openState opens the bucket of the cluster's objects and, beside it, the one of Events, which
// are many, short-lived and worth less than a disk's fsync.
func (c *Cluster) openState(ctx context.Context) (err error) {
	own, events := api.Resources(kinds.All())
	if c.state, err = state.Open(ctx, state.Config{Bus: c.bus, Resources: own, Changes: &state.Changes{}, Clock: c.cfg.Clock, Log: c.cfg.Log}); err != nil {
		return fmt.Errorf("open the state: %w", err)
	}
	if c.events, err = state.Open(ctx, state.Config{Bus: c.bus, Bucket: messages.EventsBucket, Resources: events, TTL: eventTTL, Async: true, Sealed: []messages.Resource{},
		Clock: c.cfg.Clock, Log: c.cfg.Log}); err != nil {
		return fmt.Errorf("open the events: %w", err)
	}
	c.cfg.Step("state", fmt.Sprintf("revision %d", c.state.Revision()))
	return nil
}
