package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/node/runtime/sim"
	"github.com/troupe-run/troupe/node/server"
)

// simContainers is the container side of a simulated node: a log of one line, commands that echo,
// ports that greet.
type simContainers struct {
	containers
	rt   *sim.Runtime
	node string
}

func (s simContainers) Log(ctx context.Context, of server.Container, previous bool) (server.Log, error) {
	l, err := s.containers.Log(ctx, of, previous)
	if err != nil {
		return l, err
	}
	x, err := s.logged(of, previous)
	if err != nil {
		return l, err
	}
	started := time.Time{}
	if st, err := s.rt.ContainerStatus(ctx, x.ID); err == nil {
		started = time.Unix(0, st.GetStartedAt())
	}
	l.Path = ""
	l.Text = fmt.Appendf(nil, "%s stdout F container %s of pod %s/%s runs, simulated\n",
		started.UTC().Format(time.RFC3339Nano), of.Name, of.Namespace, of.Pod)
	return l, nil
}

func (s simContainers) Exec(_ context.Context, of server.Container, o server.ExecOptions) (server.Target, error) {
	x, err := s.running(of)
	if err != nil {
		return server.Target{}, err
	}
	return server.Target{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		remotecommand.ServeExec(w, r, echo{s.rt, x.ID}, of.Pod, "", of.Name, o.Command,
			&remotecommand.Options{Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, TTY: o.TTY},
			streamIdle, streamOpen, remotecommand.SupportedStreamingProtocols)
	})}, nil
}

func (s simContainers) Attach(_ context.Context, of server.Container, _ server.StreamOptions) (server.Target, error) {
	return server.Target{}, fmt.Errorf("container %s is simulated and has no streams: %w", of, messages.ErrUnavailable)
}

func (s simContainers) PortForward(_ context.Context, namespace, name string) (server.Target, error) {
	v, err := s.pod(namespace, name)
	if err != nil {
		return server.Target{}, err
	}
	if v.Sandbox == "" {
		return server.Target{}, noSandbox(name)
	}
	return server.Target{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		opts, err := portforward.NewV4Options(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		portforward.ServePortForward(w, r, greeter{"pod " + namespace + "/" + name}, name, string(v.UID), opts,
			streamIdle, streamOpen, portforward.SupportedProtocols)
	})}, nil
}

func (s simContainers) Dial(ctx context.Context, namespace, name string, port uint16) (net.Conn, error) {
	if _, err := s.host(namespace, name); err != nil {
		return nil, err
	}
	g := greeter{"node " + s.node}
	if name != "" {
		g.of = "pod " + namespace + "/" + name
	}
	near, far := net.Pipe()
	go func() {
		_ = g.PortForward(ctx, "", "", int32(port), far) // who does not speak HTTP gets no answer
		_ = far.Close()
	}()
	return near, nil
}

// Limits of a simulated command's streams, as kubelets set them.
const (
	streamIdle = 4 * time.Hour
	streamOpen = 30 * time.Second
)

// echo runs commands in simulated containers: they print themselves and whatever they are given.
type echo struct {
	rt *sim.Runtime
	id string
}

func (e echo) ExecInContainer(ctx context.Context, _, _, _ string, cmd []string, in io.Reader, out, _ io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	_, _, code, err := e.rt.ExecSync(ctx, e.id, cmd, 0)
	if err != nil {
		return err
	}
	if out != nil {
		if _, err := io.WriteString(out, strings.Join(cmd, " ")+"\n"); err != nil {
			return err
		}
		if in != nil {
			if _, err := io.Copy(out, in); err != nil {
				return err
			}
		}
	}
	if code != 0 {
		return utilexec.CodeExitError{Err: errors.New("simulated failure"), Code: int(code)}
	}
	return nil
}

// greeter answers an HTTP request on any port of a simulated pod or node.
type greeter struct{ of string }

func (g greeter) PortForward(_ context.Context, _, _ string, port int32, conn io.ReadWriteCloser) error {
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return fmt.Errorf("port %d of a simulated %s speaks HTTP only: %w", port, g.of, err)
	}
	text := fmt.Sprintf("%s %s on port %d of %s, simulated\n", req.Method, req.URL.Path, port, g.of)
	res := http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Request: req, Close: true,
		Header:        http.Header{"Content-Type": {"text/plain; charset=utf-8"}},
		ContentLength: int64(len(text)), Body: io.NopCloser(strings.NewReader(text)),
	}
	return res.Write(conn)
}

var _ server.Containers = simContainers{}
