package node

import (
	"context"
	"fmt"
	"net/url"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/node/pod"
	"github.com/troupe-run/troupe/node/runtime"
	"github.com/troupe-run/troupe/node/server"
)

// containers is what the node's HTTP surface knows of the pods here.
type containers struct {
	find func(namespace, name string) (pod.View, bool)
	rt   runtime.Runtime
}

func (c containers) pod(namespace, name string) (pod.View, error) {
	v, ok := c.find(namespace, name)
	if !ok {
		return v, fmt.Errorf("pod %s/%s is not on this node: %w", namespace, name, messages.ErrNotFound)
	}
	return v, nil
}

func (c containers) container(of server.Container) (*pod.ContainerView, error) {
	v, err := c.pod(of.Namespace, of.Pod)
	if err != nil {
		return nil, err
	}
	for i := range v.Containers {
		if v.Containers[i].Name == of.Name {
			return &v.Containers[i], nil
		}
	}
	return nil, fmt.Errorf("container %q in pod %q is waiting to start: %w", of.Name, of.Pod, messages.ErrInvalid)
}

func (c containers) running(of server.Container) (*pod.ContainerView, error) {
	x, err := c.container(of)
	if err == nil && !x.Running {
		err = fmt.Errorf("container %q in pod %q is not running: %w", of.Name, of.Pod, messages.ErrInvalid)
	}
	return x, err
}

func (c containers) Log(_ context.Context, of server.Container, previous bool) (server.Log, error) {
	x, err := c.container(of)
	if err != nil {
		return server.Log{}, err
	}
	if previous {
		if x.Previous == nil {
			return server.Log{}, fmt.Errorf("previous terminated container %q in pod %q not found: %w", of.Name, of.Pod, messages.ErrInvalid)
		}
		return server.Log{Path: x.Previous.LogPath}, nil
	}
	id := x.ID
	return server.Log{Path: x.LogPath, Running: func() bool {
		now, err := c.container(of)
		return err == nil && now.ID == id && now.Running
	}}, nil
}

func (c containers) Exec(ctx context.Context, of server.Container, o server.ExecOptions) (server.Target, error) {
	x, err := c.running(of)
	if err != nil {
		return server.Target{}, err
	}
	u, err := c.rt.Exec(ctx, &cri.ExecRequest{ContainerId: x.ID, Cmd: o.Command, Tty: o.TTY, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr})
	return target(u, err)
}

func (c containers) Attach(ctx context.Context, of server.Container, o server.StreamOptions) (server.Target, error) {
	x, err := c.running(of)
	if err != nil {
		return server.Target{}, err
	}
	u, err := c.rt.Attach(ctx, &cri.AttachRequest{ContainerId: x.ID, Tty: o.TTY, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr})
	return target(u, err)
}

func (c containers) PortForward(ctx context.Context, namespace, name string) (server.Target, error) {
	v, err := c.pod(namespace, name)
	if err != nil {
		return server.Target{}, err
	}
	if v.Sandbox == "" {
		return server.Target{}, fmt.Errorf("pod %s/%s does not run: %w", namespace, name, messages.ErrInvalid)
	}
	u, err := c.rt.PortForward(ctx, &cri.PortForwardRequest{PodSandboxId: v.Sandbox})
	return target(u, err)
}

func target(raw string, err error) (server.Target, error) {
	if err != nil {
		return server.Target{}, err
	}
	u, err := url.Parse(raw)
	if err != nil {
		return server.Target{}, fmt.Errorf("parse the runtime's streaming address: %w", err)
	}
	return server.Target{URL: u}, nil
}

var _ server.Containers = containers{}
