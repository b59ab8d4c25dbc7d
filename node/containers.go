package node

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/node/image"
	"github.com/troupe-run/troupe/node/pod"
	"github.com/troupe-run/troupe/node/runtime"
	"github.com/troupe-run/troupe/node/server"
)

// containers is what the node's HTTP surface knows of the pods here.
type containers struct {
	find  func(namespace, name string) (pod.View, bool)
	facts *atomic.Pointer[pod.Facts]
	rt    runtime.Runtime
}

// dialWait is how long a port may take to answer.
const dialWait = 30 * time.Second

func (c containers) pod(namespace, name string) (pod.View, error) {
	v, ok := c.find(namespace, name)
	if !ok {
		return v, refusal{fmt.Sprintf("pod %q does not exist", name), messages.ErrNotFound}
	}
	return v, nil
}

// running finds the run that commands and streams go to.
func (c containers) running(of server.Container) (pod.Run, error) {
	v, err := c.pod(of.Namespace, of.Pod)
	if err != nil {
		return pod.Run{}, err
	}
	run, ok := v.Running(of.Name)
	if !ok {
		return run, refusal{fmt.Sprintf("container not found (%q)", of.Name), nil}
	}
	return run, nil
}

// logged finds the run whose log is asked for.
func (c containers) logged(of server.Container, previous bool) (pod.Run, error) {
	v, err := c.pod(of.Namespace, of.Pod)
	if err != nil {
		return pod.Run{}, err
	}
	id, err := logOf(v.Status, of, previous)
	if err != nil {
		return pod.Run{}, err
	}
	run, ok := v.Run(id)
	if !ok { // its pod has ended and been cleared away
		return run, refusal{fmt.Sprintf("unable to retrieve container logs for %s", id), messages.ErrInvalid}
	}
	return run, nil
}

func (c containers) Log(_ context.Context, of server.Container, previous bool) (server.Log, error) {
	run, err := c.logged(of, previous)
	if err != nil {
		return server.Log{}, err
	}
	return server.Log{Path: run.LogPath, Running: func() bool {
		v, ok := c.find(of.Namespace, of.Pod)
		now, here := v.Run(run.ID)
		return ok && here && now.Running
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
		return server.Target{}, noSandbox(name)
	}
	u, err := c.rt.PortForward(ctx, &cri.PortForwardRequest{PodSandboxId: v.Sandbox})
	return target(u, err)
}

func (c containers) Dial(ctx context.Context, namespace, name string, port uint16) (net.Conn, error) {
	host, err := c.host(namespace, name)
	if err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{Timeout: dialWait}).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil { // it names the address
		return nil, fmt.Errorf("%w: %w", messages.ErrUnavailable, err)
	}
	return conn, nil
}

// host is the address of a pod here or, without a name, of the node.
func (c containers) host(namespace, name string) (string, error) {
	if name == "" {
		if f := c.facts.Load(); f != nil && len(f.HostIPs) > 0 {
			return f.HostIPs[0], nil
		}
		return "", fmt.Errorf("the node has no address: %w", messages.ErrUnavailable)
	}
	v, err := c.pod(namespace, name)
	if err != nil {
		return "", err
	}
	if v.Status == nil || v.Status.PodIP == "" {
		return "", fmt.Errorf("pod %s/%s has no address: %w", namespace, name, messages.ErrUnavailable)
	}
	return v.Status.PodIP, nil
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

// refusal says in a kubelet's words why a request cannot be met; they reach the user as they are.
// Its class chooses the code: none is 500.
type refusal struct {
	words string
	class error
}

func (r refusal) Error() string { return r.words }
func (r refusal) Unwrap() error { return r.class }

func noSandbox(pod string) error {
	return refusal{fmt.Sprintf("pod %q is not running", pod), messages.ErrInvalid}
}

// logOf names the run of a container whose log is shown: the one the status shows as running or
// ended, else the last that ended, which is also what previous asks for while the next one waits.
func logOf(st *corev1.PodStatus, of server.Container, previous bool) (id string, err error) {
	no := func(format string, args ...any) (string, error) {
		return "", refusal{fmt.Sprintf(format, args...), messages.ErrInvalid}
	}
	x := containerStatus(st, of.Name)
	if x == nil {
		return no("container %q in pod %q is not available", of.Name, of.Pod)
	}
	last := ""
	if t := x.LastTerminationState.Terminated; t != nil {
		last = bare(t.ContainerID)
	}
	switch {
	case previous && last == "":
		return no("previous terminated container %q in pod %q not found", of.Name, of.Pod)
	case previous:
		return last, nil
	case x.State.Running != nil:
		return bare(x.ContainerID), nil
	case x.State.Terminated != nil && x.State.Terminated.ContainerID != "":
		return bare(x.State.Terminated.ContainerID), nil
	case last != "":
		return last, nil
	case x.State.Terminated != nil || x.LastTerminationState.Terminated != nil:
		return no("container %q in pod %q is terminated", of.Name, of.Pod)
	case x.State.Waiting == nil:
		return no("container %q in pod %q is waiting to start - no logs yet", of.Name, of.Pod)
	}
	reason := x.State.Waiting.Reason
	switch reason {
	case image.ReasonPull:
		reason = "image can't be pulled"
	case image.ReasonPullBackOff:
		reason = "trying and failing to pull image"
	}
	return no("container %q in pod %q is waiting to start: %s", of.Name, of.Pod, reason)
}

func containerStatus(st *corev1.PodStatus, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{st.ContainerStatuses, st.InitContainerStatuses, st.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// bare is a container's ID without the name of its runtime.
func bare(id string) string {
	_, id, _ = strings.Cut(id, "://")
	return id
}

var _ server.Containers = containers{}
