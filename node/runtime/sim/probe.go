package sim

import (
	"context"
	"strings"
	"time"

	"github.com/troupe-run/troupe/node/probe"
)

// Probe answers a container's probe as its pod's annotations tell, without any network.
func (r *Runtime) Probe(_ context.Context, t probe.Target) (probe.Result, string) {
	v := knob(t.Pod.Annotations, "probe-"+strings.ToLower(string(t.Kind)), t.Container.Name)
	how, after, _ := strings.Cut(v, "=")
	d, err := time.ParseDuration(after)
	age := r.cfg.Clock.Now().Sub(t.Started)
	switch {
	case how == "fail", how == "after" && (err != nil || age < d), how == "until" && err == nil && age >= d:
		return probe.Failure, "simulated failure: " + v
	}
	return probe.Success, ""
}

var _ probe.Runner = (*Runtime)(nil)
