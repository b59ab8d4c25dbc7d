package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
	streamspdy "k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/troupe-run/troupe/cluster/api"
)

// fakeNode is a node's HTTP surface on in-memory connections.
type fakeNode struct {
	conns chan net.Conn
	asked chan *url.URL
}

func newFakeNode(t *testing.T) *fakeNode {
	n := &fakeNode{conns: make(chan net.Conn), asked: make(chan *url.URL, 10)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/default/a/c", n.logs)
	mux.HandleFunc("POST /exec/default/a/{uid}/c", n.exec)
	mux.HandleFunc("POST /portForward/default/a/{uid}", n.forward)
	mux.HandleFunc("GET /dial/", n.port(serverCertificate(t)))
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(n) }()
	t.Cleanup(func() { _ = srv.Close() })
	return n
}

func (n *fakeNode) dial(_ context.Context, node string) (net.Conn, error) {
	if node != "n1" {
		return nil, fmt.Errorf("node %s is not there", node)
	}
	near, far := net.Pipe()
	n.conns <- far
	return near, nil
}

func (n *fakeNode) Accept() (net.Conn, error) {
	conn, ok := <-n.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (n *fakeNode) Close() error   { close(n.conns); return nil }
func (n *fakeNode) Addr() net.Addr { return &net.UnixAddr{Name: "node", Net: "pipe"} }

func (n *fakeNode) logs(w http.ResponseWriter, r *http.Request) {
	n.asked <- r.URL
	_, _ = io.WriteString(w, "line 1\nline 2\n")
}

// streams accepts a SPDY upgrade and hands over the streams by type as they come.
func (n *fakeNode) streams(w http.ResponseWriter, r *http.Request, protocol string, want int) (map[string]httpstream.Stream, httpstream.Connection) {
	n.asked <- r.URL
	if _, err := httpstream.Handshake(r, w, []string{protocol}); err != nil {
		return nil, nil
	}
	came := make(chan httpstream.Stream, 10)
	conn := streamspdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, _ <-chan struct{}) error {
		came <- s
		return nil
	})
	if conn == nil {
		return nil, nil
	}
	out := make(map[string]httpstream.Stream)
	for range want {
		s := <-came
		out[s.Headers().Get(corev1.StreamType)] = s
	}
	return out, conn
}

// exec answers with what came in, in capitals, and fails with exit code 7 when the command says so.
func (n *fakeNode) exec(w http.ResponseWriter, r *http.Request) {
	s, conn := n.streams(w, r, "v4.channel.k8s.io", 3)
	if conn == nil {
		return
	}
	defer conn.Close()
	in, _ := io.ReadAll(s[corev1.StreamTypeStdin])
	_, _ = s[corev1.StreamTypeStdout].Write(bytes.ToUpper(in))
	status := `{"status":"Success"}`
	if r.URL.Query().Get("command") == "fail" {
		status = `{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}`
	}
	_, _ = io.WriteString(s[corev1.StreamTypeError], status)
	for _, stream := range s {
		_ = stream.Close()
	}
	<-conn.CloseChan()
}

// forward echoes one connection.
func (n *fakeNode) forward(w http.ResponseWriter, r *http.Request) {
	s, conn := n.streams(w, r, "portforward.k8s.io", 2)
	if conn == nil {
		return
	}
	defer conn.Close()
	_ = s[corev1.StreamTypeError].Close()
	_, _ = io.Copy(s[corev1.StreamTypeData], s[corev1.StreamTypeData])
	_ = s[corev1.StreamTypeData].Close()
	<-conn.CloseChan()
}

// withPod starts a cluster with pod "a" on the fake node.
func withPod(t *testing.T, change ...func(*api.Config)) (*cluster, *fakeNode) {
	n := newFakeNode(t)
	c := start(t, append([]func(*api.Config){func(cfg *api.Config) { cfg.NodeDial = n.dial }}, change...)...)
	c.defaultAccount(t)
	p := pod("a")
	p.Spec.NodeName = "n1"
	if _, err := c.Local("test").Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return c, n
}

func TestLogsComeFromTheNode(t *testing.T) {
	t.Parallel()
	c, n := withPod(t)
	tail := int64(5)
	raw, err := c.client.CoreV1().Pods("default").GetLogs("a", &corev1.PodLogOptions{TailLines: &tail, Previous: true}).DoRaw(t.Context())
	if err != nil || string(raw) != "line 1\nline 2\n" {
		t.Fatalf("log: %q, %v", raw, err)
	}
	if q := (<-n.asked).Query(); q.Get("tailLines") != "5" || q.Get("previous") != "true" || q.Has("follow") {
		t.Errorf("asked for %v", q)
	}
	_, err = c.client.CoreV1().Pods("default").GetLogs("a", &corev1.PodLogOptions{Container: "x"}).DoRaw(t.Context())
	if !apierrors.IsBadRequest(err) {
		t.Errorf("log of no container: %v, want BadRequest", err)
	}
}

func TestExecByBothProtocols(t *testing.T) {
	t.Parallel()
	c, n := withPod(t)
	cfg := c.as(t, "admin", "system:masters")
	target := func(command string) *url.URL {
		return c.client.CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("a").SubResource("exec").
			Param("stdin", "true").Param("stdout", "true").Param("command", command).URL()
	}
	for name, dial := range map[string]func(*url.URL) (remotecommand.Executor, error){
		"websocket": func(u *url.URL) (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutor(cfg, "GET", u.String())
		},
		"spdy": func(u *url.URL) (remotecommand.Executor, error) { return remotecommand.NewSPDYExecutor(cfg, "POST", u) },
	} {
		t.Run(name, func(t *testing.T) {
			u := target("shout")
			u.Scheme, u.Host = "https", strings.TrimPrefix(c.url, "https://")
			exec := must(dial(u))
			var out bytes.Buffer
			err := exec.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("hello"), Stdout: &out})
			if err != nil || out.String() != "HELLO" {
				t.Fatalf("exec: %q, %v", out.String(), err)
			}
			if q := (<-n.asked).Query(); q.Get("command") != "shout" || q.Get("input") != "1" || q.Get("output") != "1" || q.Has("tty") {
				t.Errorf("asked for %v", q)
			}
			u = target("fail")
			u.Scheme, u.Host = "https", strings.TrimPrefix(c.url, "https://")
			err = must(dial(u)).StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader(""), Stdout: &out})
			<-n.asked
			var code interface{ ExitStatus() int }
			if !errors.As(err, &code) || code.ExitStatus() != 7 {
				t.Errorf("failing command: %v, want exit code 7", err)
			}
		})
	}
}

func TestPortForwardByBothProtocols(t *testing.T) {
	t.Parallel()
	c, n := withPod(t)
	cfg := c.as(t, "admin", "system:masters")
	u := must(url.Parse(c.url + "/api/v1/namespaces/default/pods/a/portforward"))
	for name, dial := range map[string]func() (httpstream.Dialer, error){
		"websocket": func() (httpstream.Dialer, error) { return portforward.NewSPDYOverWebsocketDialerForStreaming(u, cfg) },
		"spdy": func() (httpstream.Dialer, error) {
			rt, upgrader, err := spdy.RoundTripperFor(cfg)
			return spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: rt}, "POST", u), err
		},
	} {
		t.Run(name, func(t *testing.T) {
			stop, ready := make(chan struct{}), make(chan struct{})
			fw, err := portforward.NewOnAddressesForStreaming(must(dial()), []string{"127.0.0.1"}, []string{"0:80"}, stop, ready, io.Discard, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- fw.ForwardPorts() }()
			select {
			case <-ready:
			case err := <-done:
				t.Fatal(err)
			}
			<-n.asked
			ports := must(fw.GetPorts())
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, "ping")
			_ = conn.(*net.TCPConn).CloseWrite()
			if got, err := io.ReadAll(conn); string(got) != "ping" {
				t.Errorf("through the tunnel: %q, %v", got, err)
			}
			close(stop)
			<-done
		})
	}
}

func TestStreamsNeedTheRightToCreate(t *testing.T) {
	t.Parallel()
	c, _ := withPod(t)
	w := c.Local("test")
	if _, err := w.Create(t.Context(), viewRole()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Create(t.Context(), bindTo("exec-get", "alice")); err != nil {
		t.Fatal(err)
	}
	u := c.client.CoreV1().RESTClient().Get().Resource("pods").Namespace("default").Name("a").SubResource("exec").
		Param("stdout", "true").Param("command", "x").URL()
	u.Scheme, u.Host = "https", strings.TrimPrefix(c.url, "https://")
	exec := must(remotecommand.NewWebSocketExecutor(c.as(t, "alice"), "GET", u.String()))
	err := exec.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "cannot create resource") {
		t.Errorf("exec with the right to get: %v", err)
	}
}

func TestUnreachableNodeIsAnError(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.defaultAccount(t)
	p := pod("a")
	p.Spec.NodeName = "n1"
	if _, err := c.Local("test").Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	_, err := c.client.CoreV1().Pods("default").GetLogs("a", &corev1.PodLogOptions{}).DoRaw(t.Context())
	if !apierrors.IsServiceUnavailable(err) {
		t.Errorf("log without a way to nodes: %v, want ServiceUnavailable", err)
	}
}

func viewRole() *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "exec-get"}, Rules: []rbacv1.PolicyRule{
		{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods", "pods/exec"}},
	}}
}

func bindTo(role, user string) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: user}},
	}
}
