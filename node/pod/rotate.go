package pod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/node/runtime"
)

// Logs are looked at this often, cut at this size, and this many files are kept of each, as
// kubelets do by default.
const (
	rotateEvery = 10 * time.Second
	maxLogSize  = 10 << 20
	maxLogFiles = 5
)

// rotate cuts the logs of running containers that have grown too long.
func (v *supervisor) rotate(c actor.Context) {
	list := v.views.list()
	stage.Go(c, nil, callLimit, func(ctx context.Context) (struct{}, error) {
		var errs []error
		for _, w := range list {
			for _, x := range w.Runs {
				if x.Running && x.LogPath != "" {
					errs = append(errs, rotateLog(ctx, v.cfg.Runtime, x, v.cfg.Clock.Now(), maxLogSize))
				}
			}
		}
		return struct{}{}, errors.Join(errs...)
	}, func(_ struct{}, err error) {
		if err != nil {
			v.log.Warn("logs are not rotated, will retry", "err", err)
		}
		stage.After(c, rotateEvery, rotateDue{})
	})
}

// rotateLog moves a log that is longer than limit aside as <path>.<time>, makes the runtime begin
// a new one and removes the oldest.
func rotateLog(ctx context.Context, rt runtime.Containers, x Run, now time.Time, limit int64) error {
	st, err := os.Stat(x.LogPath)
	if err != nil || st.Size() < limit {
		return nil // no log yet, or a short one
	}
	aside := x.LogPath + "." + now.UTC().Format("20060102-150405")
	if err := os.Rename(x.LogPath, aside); err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	if err := rt.ReopenContainerLog(ctx, x.ID); err != nil {
		// Back in its place, for the runtime writes on into it.
		return errors.Join(fmt.Errorf("rotate log: %w", err), os.Rename(aside, x.LogPath))
	}
	old, err := filepath.Glob(x.LogPath + ".*")
	if err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	slices.Sort(old)
	var errs []error
	for len(old) > maxLogFiles-1 {
		errs = append(errs, os.Remove(old[0]))
		old = old[1:]
	}
	return errors.Join(errs...)
}
