package pod

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/troupe-run/troupe/node/runtime/sim"
)

// reopener counts how often a log was opened anew.
type reopener struct {
	*sim.Runtime
	n int
}

func (r *reopener) ReopenContainerLog(context.Context, string) error {
	r.n++
	return nil
}

func TestLogsAreCutAndOldOnesRemoved(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "0.log")
	rt := &reopener{}
	write := func(n int) {
		if err := os.WriteFile(path, make([]byte, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(99)
	if err := rotateLog(t.Context(), rt, Run{LogPath: path}, t0, 100); err != nil || rt.n != 0 {
		t.Fatalf("a short log: %v, %d", err, rt.n)
	}
	for i := range 8 {
		write(100 + i)
		if err := rotateLog(t.Context(), rt, Run{LogPath: path}, t0.Add(time.Duration(i)*time.Second), 100); err != nil {
			t.Fatal(err)
		}
	}
	write(1)
	files, _ := filepath.Glob(path + "*")
	if len(files) != maxLogFiles || rt.n != 8 {
		t.Fatalf("%d files after %d rotations: %v", len(files), rt.n, files)
	}
	if st, err := os.Stat(files[len(files)-1]); err != nil || st.Size() != 107 {
		t.Errorf("the newest is %v, %v", st, err)
	}
}

func TestLogTail(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "0.log")
	text := "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:01Z stderr F two words\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := logTail(path); got != "one\ntwo words\n" {
		t.Errorf("tail = %q", got)
	}
	if got := logTail(path + ".none"); got != "" {
		t.Errorf("tail of nothing = %q", got)
	}
}
