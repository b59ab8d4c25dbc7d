package controller

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// maxBatch bounds how many calls of one [SlowStart] run at a time.
const maxBatch = 256

// SlowStart calls fn n times, one call first and then twice as many at a time for as long as all
// of them succeed: what fails for a reason common to all (a quota, a webhook) fails few times. It
// returns how many calls succeeded and the errors of the batch that ended it.
func SlowStart(ctx context.Context, n int, fn func(ctx context.Context, i int) error) (done int, err error) {
	for start, size := 0, 1; start < n; size = min(size*2, maxBatch) {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		size = min(size, n-start)
		errs := make([]error, size)
		var all sync.WaitGroup
		for i := range size {
			all.Go(func() {
				defer func() {
					if r := recover(); r != nil {
						errs[i] = fmt.Errorf("call %d panicked: %v\n%s", start+i, r, debug.Stack())
					}
				}()
				errs[i] = fn(ctx, start+i)
			})
		}
		all.Wait()
		for _, err := range errs {
			if err == nil {
				done++
			}
		}
		if err := errors.Join(errs...); err != nil {
			return done, err
		}
		start += size
	}
	return done, nil
}
