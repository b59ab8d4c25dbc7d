package sim

import (
	"context"
	"fmt"
	"strings"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/messages"
)

// ExecSync echoes the command.
func (r *Runtime) ExecSync(ctx context.Context, id string, cmd []string, _ time.Duration) (stdout, stderr []byte, exit int32, err error) {
	c, err := r.container(id)
	if err != nil {
		return nil, nil, 0, err
	}
	exit = code(c.sandbox.config.GetAnnotations(), "exec-code", c.config.GetMetadata().GetName())
	return []byte(strings.Join(cmd, " ") + "\n"), nil, exit, ctx.Err()
}

func (r *Runtime) Exec(context.Context, *cri.ExecRequest) (string, error) {
	return "", fmt.Errorf("exec: simulated containers have no streams: %w", messages.ErrUnavailable)
}

func (r *Runtime) Attach(context.Context, *cri.AttachRequest) (string, error) {
	return "", fmt.Errorf("attach: simulated containers have no streams: %w", messages.ErrUnavailable)
}

func (r *Runtime) PortForward(context.Context, *cri.PortForwardRequest) (string, error) {
	return "", fmt.Errorf("port-forward: simulated pods have no network: %w", messages.ErrUnavailable)
}
