package probe

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// fakeExec answers every command with one outcome.
type fakeExec struct {
	code int32
	err  error
}

func (f fakeExec) ExecSync(context.Context, string, []string, time.Duration) ([]byte, []byte, int32, error) {
	return []byte("out"), []byte("err"), f.code, f.err
}

func target(h corev1.ProbeHandler) Target {
	return Target{Handler: h, Timeout: time.Second, Host: "127.0.0.1", Container: &corev1.Container{Name: "web"}}
}

func TestExec(t *testing.T) {
	t.Parallel()
	h := corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"check"}}}
	tests := []struct {
		name   string
		exec   fakeExec
		want   Result
		output string
	}{
		{"passes", fakeExec{}, Success, ""},
		{"fails", fakeExec{code: 1}, Failure, "outerr"},
		{"takes too long", fakeExec{err: context.DeadlineExceeded}, Failure, "timed out after 1s"},
		{"cannot be run", fakeExec{err: errors.New("no runtime")}, Unknown, "no runtime"},
	}
	for _, tt := range tests {
		if got, out := New(tt.exec).Probe(t.Context(), target(h)); got != tt.want || !strings.Contains(out, tt.output) {
			t.Errorf("%s: %v %q", tt.name, got, out)
		}
	}
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			if r.URL.Query().Get("q") != "1" || r.Header.Get("X-Own") != "v" || r.Host != "name.example" || r.Header.Get("User-Agent") != "kube-probe/1.36" {
				w.WriteHeader(http.StatusBadRequest)
			}
		case "/away":
			http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
		case "/here":
			http.Redirect(w, r, "/bad", http.StatusFound)
		case "/slow":
			<-r.Context().Done()
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(srv.Close)
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	for path, want := range map[string]Result{"/ok?q=1": Success, "/away": Success, "/here": Failure, "/bad": Failure, "/slow": Failure} {
		x := target(corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("http"),
			HTTPHeaders: []corev1.HTTPHeader{{Name: "X-Own", Value: "v"}, {Name: "Host", Value: "name.example"}}}})
		n, _ := strconv.Atoi(port)
		x.Container.Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: int32(n)}}
		if path == "/slow" {
			x.Timeout = 50 * time.Millisecond
		}
		if got, out := New(nil).Probe(t.Context(), x); got != want {
			t.Errorf("%s: %v %q", path, got, out)
		}
	}
}

func TestTCPAndGRPC(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	h := health.NewServer()
	h.SetServingStatus("web", healthpb.HealthCheckResponse_SERVING)
	h.SetServingStatus("ill", healthpb.HealthCheckResponse_NOT_SERVING)
	healthpb.RegisterHealthServer(srv, h)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	port := int32(l.Addr().(*net.TCPAddr).Port)
	p := New(nil)
	if got, out := p.Probe(t.Context(), target(corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(port)}})); got != Success {
		t.Errorf("tcp: %v %q", got, out)
	}
	for service, want := range map[string]Result{"web": Success, "ill": Failure, "none": Failure} {
		if got, out := p.Probe(t.Context(), target(corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: port, Service: &service}})); got != want {
			t.Errorf("grpc %s: %v %q", service, got, out)
		}
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := int32(free.Addr().(*net.TCPAddr).Port)
	free.Close()
	if got, _ := p.Probe(t.Context(), target(corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(gone)}})); got != Failure {
		t.Errorf("closed port: %v", got)
	}
	if got, out := p.Probe(t.Context(), target(corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("nope")}})); got != Failure || !strings.Contains(out, "nope") {
		t.Errorf("unknown port: %v %q", got, out)
	}
}
