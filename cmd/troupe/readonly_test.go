package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestReadOnlyDisk makes the disk of the data folder read-only and writable again.
func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a read-only disk")
	}
	w := simUp(t, t.TempDir())
	w.kubectl("create", "configmap", "before", "--from-literal=x=1")
	nats := filepath.Join(w.dir, "nats")
	if err := syscall.Mount(nats, nats, "", syscall.MS_BIND, ""); err != nil {
		t.Skipf("no read-only disk here: %v", err)
	}
	mounted := true
	unmount := func() {
		if mounted {
			mounted = false
			if err := syscall.Unmount(nats, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(unmount)
	if err := syscall.Mount("", nats, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"create", "configmap", "after", "--from-literal=x=1"}, {"patch", "configmap", "before", "-p", `{"data":{"x":"2"}}`}, {"delete", "configmap", "before"},
	} {
		complaint(t, w.troupe(nil, append([]string{"kubectl"}, args...)...), "disk", "is read-only")
	}
	if out := w.kubectl("get", "configmap", "before", "-o", "jsonpath={.data.x}"); out != "1" {
		t.Errorf("reading: %s", out)
	}
	if r := w.troupe(nil, "kubectl", "get", "--raw", "/readyz?verbose"); r.code == 0 || !strings.Contains(r.err+r.out, "[-]nats failed") {
		t.Errorf("health: %+v", r)
	}
	unmount()
	within(t, 20*time.Second, "writes go on", func() error {
		if r := w.troupe(nil, "kubectl", "create", "configmap", "after", "--from-literal=x=1"); r.code != 0 {
			return errors.New(r.err)
		}
		return nil
	})
	w.kubectl("get", "--raw", "/readyz")
}
