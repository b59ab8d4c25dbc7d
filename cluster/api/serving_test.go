package api_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/troupe-run/troupe/cluster/api"
	"github.com/troupe-run/troupe/cluster/auth"
)

// TestFilesOfIdentityAreFollowed replaces the serving certificate and the authority of clients of a
// server that runs.
func TestFilesOfIdentityAreFollowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := auth.WriteSecret(path, b); err != nil {
			t.Fatal(err)
		}
		return path
	}
	company := func() *auth.Authority { return must(auth.Open(auth.Config{})) }
	serving := func(a *auth.Authority) (cert, key string) {
		t.Helper()
		certPEM, keyPEM, err := auth.EncodePair(must(a.Serving("api", []string{"api.example.org"}, nil)))
		if err != nil {
			t.Fatal(err)
		}
		return write("tls.crt", certPEM), write("tls.key", keyPEM)
	}
	first, second := company(), company()
	c := start(t, func(cfg *api.Config) {
		cfg.TLSCert, cfg.TLSKey = serving(first)
		cfg.ClientCA = write("clients.crt", first.CAPEM())
	})
	trusts := func(a *auth.Authority, name string) bool {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(c.url, "https://"), &tls.Config{RootCAs: a.Pool(), ServerName: name})
		if err != nil {
			return false
		}
		_ = conn.Close()
		return true
	}
	knows := func(a *auth.Authority) bool {
		certPEM, keyPEM, err := auth.EncodePair(must(a.Client("ann", "system:masters")))
		if err != nil {
			t.Fatal(err)
		}
		cfg := c.as(t, "unused")
		cfg.CertData, cfg.KeyData = certPEM, keyPEM
		_, err = must(kubernetes.NewForConfig(cfg)).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
		return err == nil
	}
	if !trusts(first, "api.example.org") || trusts(second, "api.example.org") {
		t.Error("the certificate of the file is not served")
	}
	if !trusts(c.auth, "kubernetes.default.svc") {
		t.Error("pods do not get the cluster's own certificate")
	}
	if !knows(first) || knows(second) || !knows(c.auth) {
		t.Errorf("clients: of the file's authority %v, of another %v, of the cluster's %v", knows(first), knows(second), knows(c.auth))
	}

	serving(second)
	write("clients.crt", second.CAPEM())
	eventually(t, func() bool { return trusts(second, "api.example.org") && knows(second) && !knows(first) })
	if err := os.Remove(filepath.Join(dir, "tls.crt")); err != nil {
		t.Fatal(err)
	}
	if !trusts(second, "api.example.org") {
		t.Error("a file that is gone took its certificate along")
	}
}
