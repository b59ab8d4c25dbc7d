package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// smallMemory is what a cluster of a few thousand pods stays within, in bytes of Go's own memory:
	// up to there garbage may pile up to what is in use, beyond it is collected sooner.
	smallMemory = 400 << 20
	// memoryLook is how often the limit is adjusted to what is in use.
	memoryLook = 500 * time.Millisecond
)

// limitMemory keeps the garbage collector's limit near what is in use, so that a small cluster stays
// small and a large one is not slowed down. GOMEMLIMIT, when it is set, is left alone. The returned
// function ends it.
func limitMemory(ctx context.Context) (stop func()) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	ctx, stop = context.WithCancel(ctx)
	debug.SetMemoryLimit(smallMemory)
	go func() {
		look := time.NewTicker(memoryLook)
		defer look.Stop()
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		for limit := memoryLimit(0); ; {
			select {
			case <-look.C:
			case <-ctx.Done():
				return
			}
			metrics.Read(live)
			if now := memoryLimit(live[0].Value.Uint64()); now != limit {
				limit = now
				debug.SetMemoryLimit(limit)
			}
		}
	}()
	return stop
}

// memoryLimit is the limit for a heap of which live bytes survived the last collection: the small
// one as long as it leaves room to work, and from then on two thirds more than what is in use, in
// steps of 64 MiB.
func memoryLimit(live uint64) int64 {
	const step = 64 << 20
	if live < smallMemory*3/4 {
		return smallMemory
	}
	return int64((live*5/3/step + 1) * step)
}
