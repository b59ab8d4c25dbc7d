package sim

import (
	"context"
	"fmt"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/messages"
)

func (r *Runtime) RunPodSandbox(_ context.Context, config *cri.PodSandboxConfig, handler string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != nil {
		return "", r.down
	}
	m := config.GetMetadata()
	for _, s := range r.sandboxes {
		if o := s.config.GetMetadata(); o.GetUid() == m.GetUid() && o.GetAttempt() == m.GetAttempt() {
			return "", fmt.Errorf("run sandbox: name of attempt %d of %s/%s is reserved for %s: %w", m.GetAttempt(), m.GetNamespace(), m.GetName(), s.id, messages.ErrExists)
		}
	}
	s := &sandbox{id: r.newID(), handler: handler, ready: true, created: r.now()}
	// The rest of the configuration would only cost memory.
	s.config = &cri.PodSandboxConfig{Metadata: m, Labels: config.GetLabels(), Annotations: config.GetAnnotations(), LogDirectory: config.GetLogDirectory()}
	if !hostNetwork(config) {
		ip, err := r.ips.take()
		if err != nil {
			return "", err
		}
		s.ip = ip
	}
	r.sandboxes[s.id] = s
	r.emit(cri.ContainerEventType_CONTAINER_STARTED_EVENT, s.id, s)
	return s.id, nil
}

func hostNetwork(c *cri.PodSandboxConfig) bool {
	return c.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() == cri.NamespaceMode_NODE
}

func (r *Runtime) StopPodSandbox(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != nil {
		return r.down
	}
	s := r.sandboxes[id]
	if s == nil || !s.ready {
		return nil
	}
	for _, c := range s.containers {
		if c.state == cri.ContainerState_CONTAINER_RUNNING {
			r.end(c, 137, "")
		}
	}
	s.ready = false
	if s.ip.IsValid() {
		r.ips.free(s.ip)
	}
	r.emit(cri.ContainerEventType_CONTAINER_STOPPED_EVENT, id, s)
	return nil
}

func (r *Runtime) RemovePodSandbox(ctx context.Context, id string) error {
	if err := r.StopPodSandbox(ctx, id); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[id]
	if s == nil {
		return nil
	}
	for _, c := range s.containers {
		delete(r.containers, c.id)
	}
	delete(r.sandboxes, id)
	r.emit(cri.ContainerEventType_CONTAINER_DELETED_EVENT, id, s)
	return nil
}

func (r *Runtime) PodSandboxStatus(_ context.Context, id string) (*cri.PodSandboxStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != nil {
		return nil, r.down
	}
	s := r.sandboxes[id]
	if s == nil {
		return nil, notFound("sandbox", id)
	}
	return r.sandboxStatus(s), nil
}

func (r *Runtime) sandboxStatus(s *sandbox) *cri.PodSandboxStatus {
	out := &cri.PodSandboxStatus{
		Id: s.id, Metadata: s.config.GetMetadata(), State: s.state(), CreatedAt: s.created,
		Labels: s.config.GetLabels(), Annotations: s.config.GetAnnotations(), RuntimeHandler: s.handler,
		Network: &cri.PodSandboxNetworkStatus{},
	}
	if s.ip.IsValid() {
		out.Network.Ip = s.ip.String()
	}
	return out
}

func (s *sandbox) state() cri.PodSandboxState {
	if s.ready {
		return cri.PodSandboxState_SANDBOX_READY
	}
	return cri.PodSandboxState_SANDBOX_NOTREADY
}

func (r *Runtime) ListPodSandbox(_ context.Context, f *cri.PodSandboxFilter) ([]*cri.PodSandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != nil {
		return nil, r.down
	}
	var out []*cri.PodSandbox
	for _, s := range r.sandboxes {
		if f.GetId() != "" && f.GetId() != s.id || f.GetState() != nil && f.GetState().GetState() != s.state() ||
			!matches(f.GetLabelSelector(), s.config.GetLabels()) {
			continue
		}
		out = append(out, &cri.PodSandbox{
			Id: s.id, Metadata: s.config.GetMetadata(), State: s.state(), CreatedAt: s.created,
			Labels: s.config.GetLabels(), Annotations: s.config.GetAnnotations(), RuntimeHandler: s.handler,
		})
	}
	return out, nil
}

func matches(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}
