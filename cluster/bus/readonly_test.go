package bus_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/messages"
)

// readOnly puts a read-only view of a folder over it, until the returned function is called. Files
// that are open can still be written to; whoever opens or makes one finds a read-only disk.
func readOnly(t *testing.T, dir string) (writable func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a read-only disk")
	}
	if err := syscall.Mount(dir, dir, "", syscall.MS_BIND, ""); err != nil {
		t.Skipf("no read-only disk here: %v", err)
	}
	over := false
	writable = func() {
		if over {
			return
		}
		over = true
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(writable)
	if err := syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	return writable
}

// TestReadOnlyDiskHeals makes the disk read-only and writes against all advice until the server
// gives up; with a writable disk it comes back.
func TestReadOnlyDiskHeals(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nats")
	b, err := bus.Start(t.Context(), bus.Config{DataDir: dir, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(t.Context()) })
	js, err := jetstream.New(b.Conn())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "s", Subjects: []string{"s.>"}, MaxBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "s.first", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	writable := readOnly(t, dir)
	if err := b.Writable(); !errors.Is(err, messages.ErrUnavailable) || !strings.Contains(err.Error(), "is read-only") {
		t.Errorf("writable: %v", err)
	}
	if err := b.Healthy(); !errors.Is(err, messages.ErrUnavailable) {
		t.Errorf("healthy: %v", err)
	}
	for range 200 { // until the server needs a new file
		if _, err = js.Publish(t.Context(), "s.more", make([]byte, 64<<10)); err != nil {
			break
		}
	}
	if err == nil {
		t.Fatal("the server never needed a new file")
	}
	writable()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); ; <-tick.C {
		if _, err = js.Publish(t.Context(), "s.after", []byte("healed")); err == nil && b.Healthy() == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("does not heal: %v, %v", err, b.Healthy())
		}
	}
}
