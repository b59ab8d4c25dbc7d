package api_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/api"
)

// backend is what runs in pods and on nodes here: it says what it was asked, and echoes after an
// upgrade.
type backend struct{ at string }

// asked is what it says.
type asked struct{ At, Method, Path, Query, Body, Auth, Forwarded string }

func (b backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "echo" {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(conn, rw)
		return
	}
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(asked{b.at, r.Method, r.URL.Path, r.URL.RawQuery, fmt.Sprint(len(body)), r.Header.Get("Authorization"), r.Header.Get("X-Forwarded-Uri")})
}

// port is a node's way to a port: what is behind it serves the one connection. Port 443 speaks TLS,
// port 81 refuses.
func (n *fakeNode) port(certificate tls.Certificate) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		at := strings.TrimPrefix(r.URL.Path, "/dial/")
		if strings.HasSuffix(at, "81") {
			http.Error(w, "dial tcp: connection refused", http.StatusServiceUnavailable)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		if strings.HasSuffix(at, "443") {
			conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}})
		}
		l := &oneConn{conn: make(chan net.Conn, 1), addr: conn.LocalAddr()}
		l.conn <- conn
		srv := &http.Server{Handler: backend{at}}
		_ = srv.Serve(l)
	}
}

// oneConn is a listener that has one connection to give.
type oneConn struct {
	conn chan net.Conn
	addr net.Addr
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	default:
		return nil, io.EOF
	}
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return l.addr }

// withBackends is a cluster whose pod "a", on node n1, is behind Service "web" of three ports.
func withBackends(t *testing.T, change ...func(*api.Config)) *cluster {
	t.Helper()
	c, _ := withPod(t, change...)
	ctx, w := t.Context(), c.Local("test")
	a := must(c.client.CoreV1().Pods("default").Get(ctx, "a", metav1.GetOptions{}))
	a.Status.PodIP, a.Status.PodIPs, a.Status.Phase = "10.1.2.3", []corev1.PodIP{{IP: "10.1.2.3"}}, corev1.PodRunning
	must(c.client.CoreV1().Pods("default").UpdateStatus(ctx, a, metav1.UpdateOptions{}))
	pending := pod("pending")
	for _, obj := range []objects.Object{
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, pending,
		service("web", corev1.ServicePort{Name: "http", Port: 8080, TargetPort: intstr.FromInt(80)}, corev1.ServicePort{Name: "https", Port: 8443, TargetPort: intstr.FromInt(443)},
			corev1.ServicePort{Name: "away", Port: 81, TargetPort: intstr.FromInt(81)}),
		service("single", corev1.ServicePort{Port: 80}), service("empty", corev1.ServicePort{Port: 80}), service("elsewhere", corev1.ServicePort{Port: 80}),
		endpoints("web", "10.1.2.3", &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "a"},
			discoveryv1.EndpointPort{Name: ptr.To("http"), Port: ptr.To(int32(80))}, discoveryv1.EndpointPort{Name: ptr.To("https"), Port: ptr.To(int32(443))},
			discoveryv1.EndpointPort{Name: ptr.To("away"), Port: ptr.To(int32(81))}),
		endpoints("single", "10.1.2.3", &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "a"}, discoveryv1.EndpointPort{Name: ptr.To(""), Port: ptr.To(int32(80))}),
		endpoints("elsewhere", "192.0.2.7", nil, discoveryv1.EndpointPort{Name: ptr.To(""), Port: ptr.To(int32(80))}),
	} {
		must(w.Create(ctx, obj))
	}
	return c
}

func service(name string, ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.ServiceSpec{Ports: ports}}
}

func endpoints(name, ip string, of *corev1.ObjectReference, ports ...discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{ip}, TargetRef: of}}, Ports: ports,
	}
}

func TestProxies(t *testing.T) {
	t.Parallel()
	c := withBackends(t)
	client := must(rest.HTTPClientFor(c.as(t, "admin", "system:masters")))
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	ask := func(t *testing.T, method, path, body string) (*http.Response, string) {
		t.Helper()
		req := must(http.NewRequestWithContext(t.Context(), method, c.url+"/api/v1/"+path, strings.NewReader(body)))
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		out, _ := io.ReadAll(resp.Body)
		return resp, string(out)
	}
	const ns, plain, secure = "namespaces/default/", "default/a/80", "default/a/443"

	for path, at := range map[string]string{
		ns + "pods/a:80/proxy/": plain, ns + "pods/http:a:80/proxy/": plain, ns + "pods/https:a:443/proxy/": secure, ns + "pods/https:a:/proxy/": secure, ns + "pods/a/proxy/": plain,
		ns + "services/web:http/proxy/": plain, ns + "services/web:8080/proxy/": plain, ns + "services/http:web:http/proxy/": plain,
		ns + "services/https:web:https/proxy/": secure, ns + "services/https:web:8443/proxy/": secure, ns + "services/single/proxy/": plain, ns + "services/single:80/proxy/": plain,
		"nodes/n1:9100/proxy/": "9100", "nodes/https:n1:443/proxy/": "443",
	} {
		for _, rest := range []string{"", "some/path", "some/path/"} {
			resp, body := ask(t, http.MethodGet, path+rest+"?a=b&path=x", "")
			var got asked
			if err := json.Unmarshal([]byte(body), &got); err != nil || resp.StatusCode != http.StatusAccepted {
				t.Errorf("%s: %s %s", path+rest, resp.Status, body)
				continue
			}
			if diff := cmp.Diff(asked{At: at, Method: http.MethodGet, Path: "/" + rest, Query: "a=b&path=x", Body: "0", Forwarded: "/api/v1/" + path + rest}, got); diff != "" {
				t.Errorf("%s: %s", path+rest, diff)
			}
		}
	}

	many := "[" + strings.Repeat("{},", 400_000) + "{}]" // more than the server would unpack itself
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, http.MethodHead} {
		for _, path := range []string{ns + "pods/a/proxy/x", ns + "services/web:http/proxy/x", "nodes/n1:80/proxy/x"} {
			resp, body := ask(t, method, path, many)
			if want := fmt.Sprintf(`"Method":%q,"Path":"/x"`, method); resp.StatusCode != http.StatusAccepted || method != http.MethodHead && !strings.Contains(body, want) ||
				method == http.MethodPost && !strings.Contains(body, fmt.Sprintf(`"Body":"%d"`, len(many))) {
				t.Errorf("%s %s: %s %s", method, path, resp.Status, body)
			}
		}
	}
	if resp, _ := ask(t, http.MethodGet, ns+"pods/a/proxy?b=c", ""); resp.StatusCode != http.StatusMovedPermanently || !strings.HasSuffix(resp.Header.Get("Location"), "/pods/a/proxy/?b=c") {
		t.Errorf("without a slash: %s to %q", resp.Status, resp.Header.Get("Location"))
	}
	for path, want := range map[string]struct {
		reason metav1.StatusReason
		text   string
	}{
		ns + "pods/a:b:c:d/proxy/":          {metav1.StatusReasonBadRequest, `invalid pod request "a:b:c:d"`},
		ns + "pods/ftp:a:80/proxy/":         {metav1.StatusReasonBadRequest, `invalid pod request "ftp:a:80"`},
		ns + "services/a:b:c:d/proxy/":      {metav1.StatusReasonBadRequest, `invalid service request "a:b:c:d"`},
		"nodes/a:b:c:d/proxy/":              {metav1.StatusReasonBadRequest, `invalid node request "a:b:c:d"`},
		ns + "pods/none/proxy/":             {metav1.StatusReasonNotFound, `pods "none" not found`},
		ns + "services/none/proxy/":         {metav1.StatusReasonNotFound, `services "none" not found`},
		"nodes/none/proxy/":                 {metav1.StatusReasonNotFound, `nodes "none" not found`},
		ns + "pods/pending/proxy/":          {metav1.StatusReasonBadRequest, "address not allowed"},
		ns + "services/empty/proxy/":        {metav1.StatusReasonServiceUnavailable, `no endpoints available for service "empty"`},
		ns + "services/elsewhere/proxy/":    {metav1.StatusReasonServiceUnavailable, `no endpoints available for service "elsewhere"`},
		ns + "services/web/proxy/":          {metav1.StatusReasonServiceUnavailable, `no endpoints available for service "web"`},
		ns + "services/web:nothing/proxy/":  {metav1.StatusReasonServiceUnavailable, `no endpoints available for service "web:nothing"`},
		ns + "services/web:9/proxy/":        {metav1.StatusReasonServiceUnavailable, `no service port 9 found for service "web"`},
		ns + "services/web:away/proxy/":     {metav1.StatusReasonServiceUnavailable, "error trying to reach service: node n1: dial tcp: connection refused"},
		ns + "pods/a:81/proxy/":             {metav1.StatusReasonServiceUnavailable, "connection refused"},
		"namespaces/other/pods/a:80/proxy/": {metav1.StatusReasonNotFound, `pods "a" not found`},
	} {
		resp, body := ask(t, http.MethodGet, path, "")
		var status metav1.Status
		if err := json.Unmarshal([]byte(body), &status); err != nil || status.Reason != want.reason || !strings.Contains(status.Message, want.text) {
			t.Errorf("%s: %s %s", path, resp.Status, body)
		}
	}
	if resp, body := ask(t, http.MethodGet, "nodes/n1/proxy/containerLogs/default/a/c", ""); resp.StatusCode != http.StatusOK || body != "line 1\nline 2\n" {
		t.Errorf("the node's own surface: %s %q", resp.Status, body)
	}
	if resp, body := ask(t, http.MethodGet, "nodes/n1:10250/proxy/nothing", ""); resp.StatusCode != http.StatusNotFound || strings.Contains(body, "kind") {
		t.Errorf("what the node's own surface has not: %s %q", resp.Status, body)
	}
}

func TestProxiedUpgrade(t *testing.T) {
	t.Parallel()
	c := withBackends(t)
	cfg := c.as(t, "admin", "system:masters")
	cfg.NextProtos = []string{"http/1.1"}
	client := must(rest.HTTPClientFor(cfg))
	for _, path := range []string{"namespaces/default/pods/a/proxy/x", "namespaces/default/services/https:web:https/proxy/x", "nodes/n1:80/proxy/x"} {
		req := must(http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+"/api/v1/"+path, nil))
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "echo")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		conn, ok := resp.Body.(io.ReadWriteCloser)
		if !ok || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%s: %s", path, resp.Status)
		}
		_, _ = io.WriteString(conn, "hello")
		got := make([]byte, 5)
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
			t.Errorf("%s: echoes %q, %v", path, got, err)
		}
		_ = conn.Close()
	}
}

func TestProxyRights(t *testing.T) {
	t.Parallel()
	c := withBackends(t)
	w := c.Local("test")
	must(w.Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "look"}, Rules: []rbacv1.PolicyRule{
		{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods", "pods/proxy"}},
		{Verbs: []string{"create"}, APIGroups: []string{""}, Resources: []string{"services/proxy"}, ResourceNames: []string{"http:web:http"}},
	}}))
	must(w.Create(t.Context(), bindTo("look", "joe")))
	joe := c.clientAs(t, "joe").CoreV1().RESTClient()
	for _, tc := range []struct {
		verb, resource, name string
		allowed              bool
	}{
		{http.MethodGet, "pods", "a", true}, {http.MethodHead, "pods", "a", true}, {http.MethodPost, "pods", "a", false}, {http.MethodPut, "pods", "a", false}, {http.MethodDelete, "pods", "a", false},
		{http.MethodPatch, "pods", "a", false}, {http.MethodPost, "services", "http:web:http", true}, {http.MethodPost, "services", "web:http", false}, {http.MethodGet, "services", "http:web:http", false},
	} {
		err := joe.Verb(tc.verb).Namespace("default").Resource(tc.resource).Name(tc.name).SubResource("proxy").Suffix("x").Do(t.Context()).Error()
		if tc.allowed != (err == nil) || err != nil && !apierrors.IsForbidden(err) {
			t.Errorf("%s %s/%s: %v, want allowed %v", tc.verb, tc.resource, tc.name, err, tc.allowed)
		}
	}
	if err := joe.Get().Resource("nodes").Name("n1").SubResource("proxy").Suffix("healthz").Do(t.Context()).Error(); !apierrors.IsForbidden(err) {
		t.Errorf("a node: %v", err)
	}
}

// TestProxyWithoutNodes: what runs nowhere is not reached.
func TestProxyWithoutNodes(t *testing.T) {
	t.Parallel()
	c := withBackends(t, func(cfg *api.Config) { cfg.NodeDial = nil })
	for _, path := range []string{"/api/v1/namespaces/default/pods/a/proxy/", "/api/v1/namespaces/default/services/single/proxy/", "/api/v1/nodes/n1/proxy/"} {
		if code, body := c.raw(t, http.MethodGet, path, "", "", ""); code != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

// serverCertificate is one that nobody trusts.
func serverCertificate(t *testing.T) tls.Certificate {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	return srv.TLS.Certificates[0]
}
