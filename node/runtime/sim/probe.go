package sim

import (
	"context"
	"strings"
	"time"

	"github.com/troupe-run/troupe/node/probe"
)

// Probe answers a container's probe as its pod's annotations tell, without any network.
func (r *Runtime) Probe(_ context.Context, t probe.Target) (ok bool, output string) {
	v := knob(t.Pod.Annotations, "probe-"+strings.ToLower(string(t.Kind)), t.Container.Name)
	age := r.cfg.Clock.Now().Sub(t.Started)
	switch {
	case v == "fail":
		return false, "simulated failure"
	case strings.HasPrefix(v, "after="):
		d, err := time.ParseDuration(strings.TrimPrefix(v, "after="))
		return err == nil && age >= d, "simulated failure: " + v
	case strings.HasPrefix(v, "until="):
		d, err := time.ParseDuration(strings.TrimPrefix(v, "until="))
		return err != nil || age < d, "simulated failure: " + v
	}
	return true, ""
}

var _ probe.Runner = (*Runtime)(nil)
