package server

import (
	"context"
	"net"
	"net/http"
	"net/url"
)

// Container names a container of a pod on this node.
type Container struct {
	Namespace string
	Pod       string
	Name      string
}

func (c Container) String() string { return c.Namespace + "/" + c.Pod + "/" + c.Name }

// Containers is the container side of the surface. Errors that wrap messages.ErrNotFound become
// 404, messages.ErrInvalid (a container that has not started, say) 400, messages.ErrUnavailable
// 503; the text reaches the user. Its methods are called concurrently.
type Containers interface {
	// Log finds a container's log: of its present or last run, or with previous of the one before.
	Log(ctx context.Context, c Container, previous bool) (Log, error)
	// Exec prepares a command in a running container.
	Exec(ctx context.Context, c Container, opts ExecOptions) (Target, error)
	// Attach prepares streams to a running container's main process.
	Attach(ctx context.Context, c Container, opts StreamOptions) (Target, error)
	// PortForward prepares connections into a pod; the ports come with the streams themselves.
	PortForward(ctx context.Context, namespace, pod string) (Target, error)
	// Dial connects to a TCP port of a pod by its address or, when pod is empty, of the node itself.
	Dial(ctx context.Context, namespace, pod string, port uint16) (net.Conn, error)
}

// Log is where a container's output is.
type Log struct {
	// Path of the file in CRI format; rotated predecessors lie beside it as Path.<time>.
	Path string
	// Text is the whole log, in CRI format, of a runtime without files; used when Path is empty.
	Text []byte
	// Running says whether the container may still write; following ends when it does not. nil
	// means it has ended.
	Running func() bool
}

// StreamOptions says which streams a user wants.
type StreamOptions struct {
	Stdin, Stdout, Stderr, TTY bool
}

// ExecOptions is a command with its streams.
type ExecOptions struct {
	Command []string
	StreamOptions
}

// Target is who serves a prepared stream: a URL of the runtime's streaming server on this machine,
// to which the request is proxied with its upgrade, or a handler in this process.
type Target struct {
	URL     *url.URL
	Handler http.Handler
}
