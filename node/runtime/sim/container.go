package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/messages"
)

func (r *Runtime) CreateContainer(_ context.Context, sandboxID string, config *cri.ContainerConfig, _ *cri.PodSandboxConfig) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != nil {
		return "", r.down
	}
	s := r.sandboxes[sandboxID]
	if s == nil || !s.ready {
		return "", notFound("create container: sandbox", sandboxID)
	}
	m := config.GetMetadata()
	for _, c := range s.containers {
		if o := c.config.GetMetadata(); o.GetName() == m.GetName() && o.GetAttempt() == m.GetAttempt() {
			return "", fmt.Errorf("create container: name of attempt %d of %s is reserved for %s: %w", m.GetAttempt(), m.GetName(), c.id, messages.ErrExists)
		}
	}
	c := &container{id: r.newID(), sandbox: s, created: r.now(), limits: config.GetLinux().GetResources()}
	c.config = &cri.ContainerConfig{Metadata: m, Image: config.GetImage(), Labels: config.GetLabels(), Annotations: config.GetAnnotations(), LogPath: config.GetLogPath()}
	r.containers[c.id] = c
	s.containers = append(s.containers, c)
	return c.id, nil
}

func (r *Runtime) StartContainer(ctx context.Context, id string) error {
	c, err := r.container(id)
	if err != nil {
		return err
	}
	notes, name := c.sandbox.config.GetAnnotations(), c.config.GetMetadata().GetName()
	if err := wait(ctx, delay(notes, "start-delay", name, r.cfg.StartDelay)); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != nil {
		return r.down
	}
	if c.state != cri.ContainerState_CONTAINER_CREATED {
		return fmt.Errorf("start container %s: it is in state %s: %w", id, c.state, messages.ErrInvalid)
	}
	if msg := knob(notes, "start-error", name); msg != "" {
		c.started = 0
		r.end(c, 128, "StartError")
		c.message = msg
		return fmt.Errorf("start container: %s", msg)
	}
	c.state, c.started = cri.ContainerState_CONTAINER_RUNNING, r.now()
	if r.cfg.Used != nil && c.uses() {
		r.cfg.Used()
	}
	if d := delay(notes, "exit-after", name, -1); d >= 0 {
		c.exit = time.AfterFunc(d, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			if c.state == cri.ContainerState_CONTAINER_RUNNING {
				r.end(c, code(notes, "exit-code", name), "")
			}
		})
	}
	r.emit(cri.ContainerEventType_CONTAINER_STARTED_EVENT, id, c.sandbox)
	return nil
}

// end turns a container into an exited one in the caller's critical section.
func (r *Runtime) end(c *container, exit int32, reason string) {
	if c.exit != nil {
		c.exit.Stop()
		c.exit = nil
	}
	if reason == "" {
		reason = "Completed"
		if exit != 0 {
			reason = "Error"
		}
	}
	c.state, c.finished, c.code, c.reason = cri.ContainerState_CONTAINER_EXITED, r.now(), exit, reason
	if c.ended != nil {
		close(c.ended)
		c.ended = nil
	}
	r.emit(cri.ContainerEventType_CONTAINER_STOPPED_EVENT, c.id, c.sandbox)
}

func (r *Runtime) container(id string) (*container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != nil {
		return nil, r.down
	}
	c := r.containers[id]
	if c == nil {
		return nil, notFound("container", id)
	}
	return c, nil
}

func (r *Runtime) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	r.mu.Lock()
	if r.down != nil {
		defer r.mu.Unlock()
		return r.down
	}
	c := r.containers[id]
	if c == nil || c.state == cri.ContainerState_CONTAINER_EXITED {
		r.mu.Unlock()
		return nil
	}
	slow := delay(c.sandbox.config.GetAnnotations(), "stop-after", c.config.GetMetadata().GetName(), 0)
	exit := int32(0)
	if slow > grace {
		slow, exit = grace, 137
	}
	if slow <= 0 {
		defer r.mu.Unlock()
		r.end(c, exit, "")
		return nil
	}
	if c.ended == nil {
		c.ended = make(chan struct{})
	}
	ended := c.ended
	r.mu.Unlock()
	t := time.NewTimer(slow)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-ended:
		return nil
	case <-t.C:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.state != cri.ContainerState_CONTAINER_EXITED {
		r.end(c, exit, "")
	}
	return nil
}

func (r *Runtime) RemoveContainer(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != nil {
		return r.down
	}
	c := r.containers[id]
	if c == nil {
		return nil
	}
	if c.state == cri.ContainerState_CONTAINER_RUNNING {
		r.end(c, 137, "")
	}
	delete(r.containers, id)
	c.sandbox.containers = slices.DeleteFunc(c.sandbox.containers, func(o *container) bool { return o == c })
	r.emit(cri.ContainerEventType_CONTAINER_DELETED_EVENT, id, c.sandbox)
	return nil
}

func (r *Runtime) ContainerStatus(_ context.Context, id string) (*cri.ContainerStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != nil {
		return nil, r.down
	}
	c := r.containers[id]
	if c == nil {
		return nil, notFound("container", id)
	}
	return c.status(), nil
}

func (c *container) status() *cri.ContainerStatus {
	name := c.config.GetImage().GetUserSpecifiedImage()
	if name == "" {
		name = c.config.GetImage().GetImage()
	}
	return &cri.ContainerStatus{
		Resources: &cri.ContainerResources{Linux: c.limits},
		Id:        c.id, Metadata: c.config.GetMetadata(), State: c.state, CreatedAt: c.created, StartedAt: c.started,
		FinishedAt: c.finished, ExitCode: c.code, Reason: c.reason, Message: c.message,
		Image: &cri.ImageSpec{Image: name}, ImageRef: c.config.GetImage().GetImage(), ImageId: c.config.GetImage().GetImage(),
		Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(), LogPath: c.logPath(),
	}
}

func (c *container) logPath() string {
	if c.sandbox.config.GetLogDirectory() == "" || c.config.GetLogPath() == "" {
		return ""
	}
	return c.sandbox.config.GetLogDirectory() + "/" + c.config.GetLogPath()
}

func (r *Runtime) UpdateContainerResources(_ context.Context, id string, limits *cri.LinuxContainerResources) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != nil {
		return r.down
	}
	c := r.containers[id]
	if c == nil {
		return notFound("update container", id)
	}
	if msg := knob(c.sandbox.config.GetAnnotations(), "update-error", c.config.GetMetadata().GetName()); msg != "" {
		return fmt.Errorf("update container: %s", msg)
	}
	c.limits = limits
	return nil
}

func (r *Runtime) ListContainers(_ context.Context, f *cri.ContainerFilter) ([]*cri.Container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != nil {
		return nil, r.down
	}
	var out []*cri.Container
	for _, c := range r.containers {
		if f.GetId() != "" && f.GetId() != c.id || f.GetPodSandboxId() != "" && f.GetPodSandboxId() != c.sandbox.id ||
			f.GetState() != nil && f.GetState().GetState() != c.state || !matches(f.GetLabelSelector(), c.config.GetLabels()) {
			continue
		}
		out = append(out, &cri.Container{
			Id: c.id, PodSandboxId: c.sandbox.id, Metadata: c.config.GetMetadata(), Image: c.config.GetImage(),
			ImageRef: c.config.GetImage().GetImage(), State: c.state, CreatedAt: c.created,
			Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(),
		})
	}
	return out, nil
}

// ReopenContainerLog does nothing: a simulated log never rotates.
func (r *Runtime) ReopenContainerLog(context.Context, string) error { return nil }
