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
	// busyHeap is what garbage may fill while there is much to do, in bytes, and busyRate how many
	// bytes allocated from one look to the next are much. Collecting it every few dozen megabytes,
	// which is right for a cluster that rests, costs a tenth of the work.
	busyHeap = 200 << 20
	busyRate = 20 << 20
	// restLooks is for how many looks there must be little to do before memory is given back to the
	// system that is not needed any more, and spareHeap from how many bytes on: a start with much to
	// read leaves more behind than it is about.
	restLooks = 4
	spareHeap = 48 << 20
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
		used := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"},
			{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
		limit, percent, allocated, rested := memoryLimit(0), restPercent, uint64(0), 0
		for {
			select {
			case <-look.C:
			case <-ctx.Done():
				return
			}
			metrics.Read(used)
			live, total := used[0].Value.Uint64(), used[1].Value.Uint64()
			if now := memoryLimit(live); now != limit {
				limit = now
				debug.SetMemoryLimit(limit)
			}
			if now := gcPercent(live, total-allocated); now != percent {
				percent = now
				debug.SetGCPercent(percent)
			}
			if rested = restedFor(rested, total-allocated); rested == restLooks && used[2].Value.Uint64()+used[3].Value.Uint64() > live+spareHeap {
				debug.FreeOSMemory()
			}
			allocated = total
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

// restPercent is Go's default: garbage is collected when there is as much as what is in use.
const restPercent = 100

// gcPercent is how much garbage there may be, in percent of the live bytes, when so many bytes were
// allocated since the last look; in steps, for to change it stops the world.
func gcPercent(live, allocated uint64) int {
	if allocated < busyRate || live == 0 || live >= busyHeap/2 {
		return restPercent
	}
	return int(min((busyHeap-live)/live, 8)) * 100
}

// restedFor is for how many looks there has been little to do, when it was rested before and so many
// bytes were allocated since.
func restedFor(rested int, allocated uint64) int {
	if allocated >= busyRate {
		return 0
	}
	return rested + 1
}
