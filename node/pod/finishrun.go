package pod

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/node/probe"
)

// stopContainer runs the preStop hook and ends the container, both within the grace period.
func (fx *effects) stopContainer(ctx context.Context, a action, in input) (outcome, error) {
	fx.cfg.recordOf(in.pod, a.name, corev1.EventTypeNormal, eventKilling, "%s", a.reason)
	left := a.grace
	if a.hook && left > 0 && in.pod != nil {
		left = fx.preStop(ctx, a, in)
	}
	if err := ctx.Err(); err != nil {
		return outcome{}, err // taken over by a harder stop
	}
	if err := fx.cfg.Runtime.StopContainer(ctx, a.id, left); err != nil {
		return outcome{}, err
	}
	x, err := fx.read(ctx, in.uid, in.container)
	return outcome{containers: []container{x}}, err
}

// preStop runs the hook and returns what is left of the grace period.
func (fx *effects) preStop(ctx context.Context, a action, in input) time.Duration {
	c := findContainer(in.pod, a.name)
	if c == nil || c.Lifecycle == nil || c.Lifecycle.PreStop == nil || !in.container.running() {
		return a.grace
	}
	begin := fx.cfg.Clock.Now()
	bounded, cancel := context.WithTimeout(ctx, a.grace)
	defer cancel()
	if err := fx.hook(bounded, c, c.Lifecycle.PreStop, a.id, podHost(in.pod, in.ips, fx.cfg.Facts().HostIPs)); err != nil && ctx.Err() == nil {
		fx.cfg.recordOf(in.pod, a.name, corev1.EventTypeWarning, eventFailedPreStop, "PreStopHook failed")
	}
	return max(a.grace-fx.cfg.Clock.Now().Sub(begin), minGrace)
}

// hook runs a lifecycle handler.
func (fx *effects) hook(ctx context.Context, c *corev1.Container, h *corev1.LifecycleHandler, id, host string) error {
	switch {
	case h.Exec != nil:
		_, stderr, code, err := fx.cfg.Runtime.ExecSync(ctx, id, h.Exec.Command, 0)
		if err == nil && code != 0 {
			err = fmt.Errorf("command '%s' exited with %d: %s", strings.Join(h.Exec.Command, " "), code, strings.TrimSpace(string(stderr)))
		}
		return err
	case h.Sleep != nil:
		t := time.NewTimer(time.Duration(h.Sleep.Seconds) * time.Second)
		defer t.Stop()
		select {
		case <-t.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	case h.HTTPGet != nil:
		req, err := probe.Request(ctx, h.HTTPGet, c, host)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 10<<10))
		return errors.Join(err, res.Body.Close())
	}
	return nil
}

// read completes what is known of a container that ended: its exit and its last words. One that is
// gone from the runtime's records counts as killed.
func (fx *effects) read(ctx context.Context, uid types.UID, was container) (container, error) {
	x, err := fx.status(ctx, was.id, was.sandbox)
	if errors.Is(err, messages.ErrNotFound) {
		was.state, was.finished, was.read = cri.ContainerState_CONTAINER_EXITED, fx.cfg.Clock.Now(), true
		was.code, was.reason, was.message = 137, "ContainerStatusUnknown", "The container could not be located when the pod was terminated"
		return was, nil
	}
	if err != nil || !x.exited() {
		return x, err
	}
	x.read = true
	x.message = fx.lastWords(uid, &x)
	return x, nil
}

// Limits of what is taken from a log as a termination message.
const (
	maxLogMessage   = 2048
	maxMessageLines = 80
)

// lastWords is the termination message: the file the container wrote, else the tail of its log if
// it asked for that and failed, else what the runtime said.
func (fx *effects) lastWords(uid types.UID, x *container) string {
	// An unreadable file is as good as none: there are other sources.
	if text, err := fx.cfg.Volumes.Termination(uid, x.name, x.attempt); err == nil && text != "" {
		return text
	}
	if x.fallback && x.code != 0 && x.logPath != "" {
		if tail := logTail(x.logPath); tail != "" {
			return tail
		}
	}
	return x.message
}

// logTail returns the last lines of a log in CRI format, without their heads.
func logTail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	const window = 4 * maxLogMessage
	if st, err := f.Stat(); err == nil && st.Size() > window {
		if _, err := f.Seek(-window, io.SeekEnd); err != nil {
			return ""
		}
	}
	var lines []string
	in := bufio.NewScanner(f)
	for in.Scan() {
		// time stream tag content
		if part := strings.SplitN(in.Text(), " ", 4); len(part) == 4 {
			lines = append(lines, part[3])
		}
	}
	if len(lines) > maxMessageLines {
		lines = lines[len(lines)-maxMessageLines:]
	}
	out := strings.Join(lines, "\n")
	if out != "" {
		out += "\n"
	}
	if len(out) > maxLogMessage {
		out = out[len(out)-maxLogMessage:]
	}
	return out
}
