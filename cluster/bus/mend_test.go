package bus_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/messages"
)

// smallDisk mounts a disk of some megabytes.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a small disk")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=48m"); err != nil {
		t.Skipf("no small disk here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes all space but leave bytes.
func fill(t *testing.T, dir string, leave int64) (free func()) {
	t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "filler")
	if err := os.WriteFile(file, make([]byte, max(int64(fs.Bavail)*fs.Bsize-leave, 0)), 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(file); err != nil {
			t.Error(err)
		}
	}
}

func TestFullDiskHeals(t *testing.T) {
	disk := smallDisk(t)
	b, err := bus.Start(t.Context(), bus.Config{DataDir: filepath.Join(disk, "nats"), ListenAddr: "127.0.0.1:0", Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(t.Context()) })
	url := b.ClientURL()
	js, err := jetstream.New(b.Conn())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "s", Subjects: []string{"s.>"}}); err != nil {
		t.Fatal(err)
	}
	heard := make(chan struct{}, 1)
	sub, err := b.Conn().Subscribe("ping", func(m *nats.Msg) { heard <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	if _, err := js.Publish(t.Context(), "s.first", []byte("kept")); err != nil {
		t.Fatal(err)
	}

	free := fill(t, disk, 256<<10)
	if err := b.Writable(); !errors.Is(err, messages.ErrUnavailable) {
		t.Errorf("a full disk is writable: %v", err)
	}
	for range 64 { // against all advice
		if _, err = js.Publish(t.Context(), "s.more", make([]byte, 64<<10)); err != nil {
			break
		}
	}
	if err == nil {
		t.Fatal("the disk never got full")
	}
	if err := b.Healthy(); !errors.Is(err, messages.ErrUnavailable) {
		t.Errorf("healthy on a full disk: %v", err)
	}
	free()
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
	stream, err := js.Stream(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	if m, err := stream.GetLastMsgForSubject(t.Context(), "s.first"); err != nil || string(m.Data) != "kept" {
		t.Errorf("what was written before: %v %v", m, err)
	}
	if err := b.Conn().Publish("ping", nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-heard:
	case <-time.After(5 * time.Second):
		t.Error("a subscription of before is lost")
	}
	if got := b.ClientURL(); got != url {
		t.Errorf("clients would have to go from %s to %s", url, got)
	}
}
