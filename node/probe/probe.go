package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Kind tells the three probes of a container apart.
type Kind string

// The kinds, as they appear in Events.
const (
	Startup   Kind = "Startup"
	Readiness Kind = "Readiness"
	Liveness  Kind = "Liveness"
)

// Target is what one run of a probe needs to know.
type Target struct {
	Kind      Kind
	Handler   corev1.ProbeHandler
	Timeout   time.Duration
	Pod       *corev1.Pod
	Container *corev1.Container
	// ID of the running container, and since when it runs.
	ID      string
	Started time.Time
	// Host is the pod's address.
	Host string
}

// Result of one run of a probe.
type Result int

// The results. Unknown says that the probe itself could not be run, which tells nothing of the
// container.
const (
	Unknown Result = iota
	Failure
	Success
)

// Runner runs probes. output explains to the user what is not Success.
type Runner interface {
	Probe(ctx context.Context, t Target) (r Result, output string)
}

// Exec runs a command in a container, as runtime.Streams does.
type Exec interface {
	ExecSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (stdout, stderr []byte, code int32, err error)
}

// maxOutput is how much of an answer is read.
const maxOutput = 10 << 10

// Prober is the real [Runner].
type Prober struct {
	exec   Exec
	client *http.Client
	dial   net.Dialer
}

// New returns a prober that runs commands through exec.
func New(exec Exec) *Prober {
	p := &Prober{exec: exec}
	p.client = &http.Client{
		Transport: &http.Transport{
			// Probes ask whether the server answers, not who it is.
			TLSClientConfig:    &tls.Config{InsecureSkipVerify: true},
			DisableKeepAlives:  true,
			DisableCompression: true,
			DialContext:        p.dial.DialContext,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.URL.Hostname() != via[0].URL.Hostname() || len(via) >= 10 {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
	return p
}

// Probe runs the target's handler once.
func (p *Prober) Probe(ctx context.Context, t Target) (r Result, output string) {
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	switch h := t.Handler; {
	case h.Exec != nil:
		return p.command(ctx, t)
	case h.HTTPGet != nil:
		return p.http(ctx, t)
	case h.TCPSocket != nil:
		return p.tcp(ctx, t)
	case h.GRPC != nil:
		return p.grpc(ctx, t)
	}
	return Success, ""
}

func (p *Prober) command(ctx context.Context, t Target) (Result, string) {
	stdout, stderr, code, err := p.exec.ExecSync(ctx, t.ID, t.Handler.Exec.Command, t.Timeout)
	out := string(stdout) + string(stderr)
	if len(out) > maxOutput {
		out = out[:maxOutput]
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return Failure, fmt.Sprintf("command timed out: %q timed out after %s", t.Handler.Exec.Command, t.Timeout)
	case err != nil:
		return Unknown, err.Error()
	case code != 0:
		return Failure, out
	}
	return Success, out
}

func (p *Prober) tcp(ctx context.Context, t Target) (Result, string) {
	host := t.Host
	if t.Handler.TCPSocket.Host != "" {
		host = t.Handler.TCPSocket.Host
	}
	port, err := Port(t.Container, t.Handler.TCPSocket.Port)
	if err != nil {
		return Failure, err.Error()
	}
	conn, err := p.dial.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return Failure, err.Error()
	}
	_ = conn.Close()
	return Success, ""
}

func (p *Prober) http(ctx context.Context, t Target) (Result, string) {
	req, err := Request(ctx, t.Handler.HTTPGet, t.Container, t.Host)
	if err != nil {
		return Failure, err.Error()
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "kube-probe/1.36")
	}
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "*/*")
	}
	res, err := p.client.Do(req)
	if err != nil {
		return Failure, err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxOutput))
	if err != nil {
		return Failure, err.Error()
	}
	if res.StatusCode >= 200 && res.StatusCode < 400 {
		return Success, string(body)
	}
	return Failure, fmt.Sprintf("HTTP probe failed with statuscode: %d", res.StatusCode)
}

// Request builds the request of an HTTP handler of a container whose pod has the address host.
func Request(ctx context.Context, h *corev1.HTTPGetAction, c *corev1.Container, host string) (*http.Request, error) {
	port, err := Port(c, h.Port)
	if err != nil {
		return nil, err
	}
	if h.Host != "" {
		host = h.Host
	}
	u, err := url.Parse(h.Path)
	if err != nil { // what cannot be parsed is sent as it is
		u = &url.URL{Path: h.Path}
	}
	u.Scheme, u.Host = "http", net.JoinHostPort(host, strconv.Itoa(port))
	if h.Scheme == corev1.URISchemeHTTPS {
		u.Scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, f := range h.HTTPHeaders {
		if http.CanonicalHeaderKey(f.Name) == "Host" {
			req.Host = f.Value
			continue
		}
		req.Header.Add(f.Name, f.Value)
	}
	return req, nil
}

// Port resolves a port that may be the name of one of the container's ports.
func Port(c *corev1.Container, p intstr.IntOrString) (int, error) {
	n := p.IntValue()
	if p.Type == intstr.String {
		if v, err := strconv.Atoi(p.StrVal); err == nil {
			n = v
		} else {
			for i := range c.Ports {
				if c.Ports[i].Name == p.StrVal {
					n = int(c.Ports[i].ContainerPort)
				}
			}
		}
	}
	if n < 1 || n > 65535 {
		return 0, fmt.Errorf("port %s of container %s is not known", p.String(), c.Name)
	}
	return n, nil
}

func (p *Prober) grpc(ctx context.Context, t Target) (Result, string) {
	h := t.Handler.GRPC
	service := ""
	if h.Service != nil {
		service = *h.Service
	}
	addr := net.JoinHostPort(t.Host, strconv.Itoa(int(h.Port)))
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithUserAgent("kube-probe/1.36"), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) { return p.dial.DialContext(ctx, "tcp", a) }))
	if err != nil {
		return Failure, err.Error()
	}
	defer func() { _ = conn.Close() }()
	res, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return Failure, fmt.Sprintf("timeout: failed to connect service %q within %s: %v", addr, t.Timeout, ctx.Err())
	case err != nil:
		return Failure, fmt.Sprintf("error: health rpc probe failed: %v", err)
	case res.GetStatus() != healthpb.HealthCheckResponse_SERVING:
		return Failure, fmt.Sprintf("service unhealthy (responded with %q)", res.GetStatus().String())
	}
	return Success, ""
}

var _ Runner = (*Prober)(nil)
