package pod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/asynkron/protoactor-go/actor"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/actors/stage"
)

// sweep removes what pods that are gone left outside the runtime when the agent or the runtime was
// killed: volumes and logs once, for only the agent makes them, and cgroups after each
// comparison, for a runtime makes them late, too.
func (v *supervisor) sweep(c actor.Context) {
	if v.sweeping || v.swept && v.cfg.Cgroups == nil {
		return
	}
	alive := make([]types.UID, 0, len(v.entries))
	for uid, e := range v.entries {
		if !e.done {
			alive = append(alive, uid)
		}
	}
	first := !v.swept
	// New pods wait until the first sweep is over: it would take their volumes for leftovers.
	v.sweeping, v.held = true, first
	stage.Go(c, nil, callLimit, func(ctx context.Context) (struct{}, error) {
		var errs []error
		if first {
			errs = append(errs, v.cfg.Volumes.Sweep(ctx, alive), sweepLogs(v.cfg.LogRoot, alive))
		}
		if v.cfg.Cgroups != nil {
			errs = append(errs, v.cfg.Cgroups.Sweep(alive))
		}
		return struct{}{}, errors.Join(errs...)
	}, func(_ struct{}, err error) {
		if err != nil {
			v.log.Warn("leftovers of pods that are gone stay for now", "err", err)
		}
		v.sweeping = false
		v.swept = v.swept || err == nil
		if !first {
			return
		}
		v.held = false
		for uid, e := range v.entries {
			if e.pid == nil && !e.done {
				v.ensure(c, uid, e)
			}
		}
	})
}

// sweepLogs removes the folders of logs of pods that are not alive.
func sweepLogs(root string, alive []types.UID) error {
	if root == "" {
		return nil
	}
	dirs, err := filepath.Glob(filepath.Join(root, "*_*_*"))
	if err != nil {
		return fmt.Errorf("sweep logs: %w", err)
	}
	var errs []error
	for _, d := range dirs {
		name := filepath.Base(d)
		if uid := types.UID(name[strings.LastIndex(name, "_")+1:]); !slices.Contains(alive, uid) {
			errs = append(errs, os.RemoveAll(d))
		}
	}
	return errors.Join(errs...)
}
