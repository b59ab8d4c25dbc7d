package rules

import (
	"context"

	"github.com/troupe-run/troupe/proxy/feed"
)

// Backend makes the kernel serve services. Its methods are called by one goroutine at a time.
type Backend interface {
	// Sync takes an update over and makes the kernel serve the resulting state. It adopts what an
	// earlier process left and writes only differences. When it fails, the update is still taken
	// over: a later Sync, even with an empty update, tries the rest again.
	Sync(ctx context.Context, u feed.Update) error
	// Verify reads back what the kernel has and mends what somebody else changed.
	Verify(ctx context.Context) error
	// Remove deletes every trace of this backend, also one that an earlier process left.
	Remove(ctx context.Context) error
}
