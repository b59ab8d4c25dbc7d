package bus_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/troupe-run/troupe/cluster/bus"
)

func startStaged(t *testing.T, dir string) *bus.Bus {
	t.Helper()
	b, err := bus.Start(t.Context(), bus.Config{DataDir: dir, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.WithoutCancel(t.Context())) })
	return b
}

// publishBatch stores n messages as one atomic batch.
func publishBatch(t *testing.T, b *bus.Bus, id string, n int) {
	t.Helper()
	for i := range n {
		m := &nats.Msg{Subject: "s." + strconv.Itoa(i), Header: nats.Header{"Nats-Batch-Id": {id}, "Nats-Batch-Sequence": {strconv.Itoa(i + 1)}}, Data: []byte("x")}
		if i < n-1 {
			if err := b.Conn().PublishMsg(m); err != nil {
				t.Fatal(err)
			}
			continue
		}
		m.Header.Set("Nats-Batch-Commit", "1")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if answer, err := b.Conn().RequestMsgWithContext(ctx, m); err != nil || strings.Contains(string(answer.Data), "error") {
			t.Fatalf("batch %s: %v %s", id, err, answer.Data)
		}
	}
}

func makeBatchStream(t *testing.T, b *bus.Bus) {
	t.Helper()
	js, err := jetstream.New(b.Conn())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, AllowAtomicPublish: true}); err != nil {
		t.Fatal(err)
	}
}

// TestBatchesAreStagedInMemory stages by turns in memory and on the disk, and looks where the server
// puts what it got of a batch.
func TestBatchesAreStagedInMemory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "nats")
	b := startStaged(t, dir)
	staging := b.Staging("S")
	if staging == nil {
		t.Skip("no files in memory here")
	}
	makeBatchStream(t, b)
	batches := filepath.Join(dir, "jetstream", "$G", "streams", "S", "batches")
	begin := func(id string) {
		t.Helper()
		m := &nats.Msg{Subject: "s.begun", Header: nats.Header{"Nats-Batch-Id": {id}, "Nats-Batch-Sequence": {"1"}}}
		if _, err := b.Conn().RequestMsgWithContext(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 3 {
		if err := staging.InMemory(); err != nil {
			t.Fatal(err)
		}
		publishBatch(t, b, "memory-"+strconv.Itoa(round), 5)
		to, err := os.Readlink(batches)
		if err != nil || !strings.HasPrefix(to, "/dev/shm/") {
			t.Fatalf("batches lead to %q: %v", to, err)
		}
		begin("begun-" + strconv.Itoa(round))
		if staged, err := os.ReadDir(to); err != nil || len(staged) == 0 {
			t.Fatalf("nothing is staged at %s: %v", to, err)
		}
		if err := staging.OnDisk(); err != nil {
			t.Fatal(err)
		}
		publishBatch(t, b, "disk-"+strconv.Itoa(round), 5)
		if info, err := os.Lstat(batches); err != nil || !info.IsDir() {
			t.Fatalf("%s is no folder: %v", batches, err)
		}
	}
	if err := staging.InMemory(); err != nil {
		t.Fatal(err)
	}
	to, err := os.Readlink(batches)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(to)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s stays after Close: %v", filepath.Dir(to), err)
	}
	// The machine has started anew: nothing is left in memory, and the link leads nowhere.
	again := startStaged(t, dir)
	if err := again.Staging("S").InMemory(); err != nil {
		t.Fatal(err)
	}
	publishBatch(t, again, "again", 5)
}

// TestStagingOfFoldersThatAreGone is swept by whoever starts next.
func TestStagingOfFoldersThatAreGone(t *testing.T) {
	t.Parallel()
	gone, dir := filepath.Join(t.TempDir(), "gone"), filepath.Join(t.TempDir(), "nats")
	b := startStaged(t, gone)
	if b.Staging("S") == nil {
		t.Skip("no files in memory here")
	}
	left := bus.StagingPath(gone)
	if _, err := os.Stat(left); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(gone, gone+".moved"); err != nil {
		t.Fatal(err)
	}
	startStaged(t, dir)
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s stays though its data folder is gone: %v", left, err)
	}
	// What is not ours is not used.
	if err := os.Symlink(t.TempDir(), left); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(left)
	if b.Staging("S") != nil {
		t.Error("batches would be staged where somebody else's link leads")
	}
}
