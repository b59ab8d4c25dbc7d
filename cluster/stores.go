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
	common := state.Config{Bus: c.bus, Shared: c.shared(), Leased: c.leased, Clock: c.cfg.Clock, Log: c.cfg.Log}
	if c.cfg.Outside != nil {
		common.Owner = c.authority.CAHash()
	}
	cfg := common
	cfg.Resources, cfg.Changes = own, &state.Changes{}
	if cfg.KeyWrap, err = c.authority.Derive("sealing keys"); err != nil {
		return err
	}
	if c.state, err = state.Open(ctx, cfg); err != nil {
		return fmt.Errorf("open the state: %w", err)
	}
	cfg = common
	cfg.Bucket, cfg.Resources, cfg.TTL, cfg.Async, cfg.Sealed = messages.EventsBucket, events, eventTTL, true, []messages.Resource{}
	if c.events, err = state.Open(ctx, cfg); err != nil {
		return fmt.Errorf("open the events: %w", err)
	}
	c.cfg.Step("state", fmt.Sprintf("revision %d", c.state.Revision()))
	return nil
}
