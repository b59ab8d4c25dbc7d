package netlab

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Alone waits until no other test of this machine runs a node with real containers, and keeps
// others waiting until the test has ended: cgroups belong to the whole machine, whatever namespaces
// a test has. Call it before anything is made, so that it is given back last.
func Alone(t testing.TB) {
	t.Helper()
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "troupe-real.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		t.Fatalf("wait for other tests: %v", err)
	}
	t.Cleanup(func() { lock.Close() })
}
