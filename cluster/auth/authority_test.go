package auth_test

import (
	"bytes"
	"crypto/x509"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/troupe-run/troupe/cluster/auth"
)

func TestAuthorityIsMadeOnceAndReadableByItsOwnerAlone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pki")
	open := func() *auth.Authority {
		t.Helper()
		a, err := auth.Open(auth.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	first := open()
	path := filepath.Join(dir, "kubeconfig")
	if err := first.WriteKubeconfig(path, "https://127.0.0.1:6443"); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	second := open()
	if !bytes.Equal(first.CAPEM(), second.CAPEM()) || first.CAHash() != second.CAHash() {
		t.Error("the second start made another authority")
	}
	if after, err := second.Kubeconfig("https://127.0.0.1:6443"); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the second start made another kubeconfig: %v", err)
	}
	if _, err := clientcmd.RESTConfigFromKubeConfig(before); err != nil {
		t.Errorf("kubeconfig: %v", err)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if info, infoErr := d.Info(); err == nil && infoErr == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestBrokenKeyIsReportedWithItsFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ca.key"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.Open(auth.Config{Dir: dir}); err == nil || !bytes.Contains([]byte(err.Error()), []byte("ca.key")) {
		t.Errorf("open: %v, want an error that names ca.key", err)
	}
}

func TestServingCertificateIsRenewedWhileRunning(t *testing.T) {
	t.Parallel()
	clock := testingclock.NewFakePassiveClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	a, err := auth.Open(auth.Config{Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	source, err := a.APICertificates("cluster.local", "10.96.0.1", "host.example")
	if err != nil {
		t.Fatal(err)
	}
	first, _ := source(nil)
	for _, name := range []string{"kubernetes.default.svc.cluster.local", "localhost", "127.0.0.1", "10.96.0.1", "host.example"} {
		if _, err := first.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: a.Pool(), CurrentTime: clock.Now()}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	clock.SetTime(clock.Now().Add(360 * 24 * time.Hour))
	second, err := source(nil)
	if err != nil || !second.Leaf.NotAfter.After(first.Leaf.NotAfter) {
		t.Errorf("not renewed near its end: %v", err)
	}
}
