package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	empty, err := Measure(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "sub", "a")
	if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(file, filepath.Join(dir, "again")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/", filepath.Join(dir, "root")); err != nil {
		t.Fatal(err)
	}
	got, err := Measure(t.Context(), dir)
	if grown := got.Bytes - empty.Bytes; err != nil || grown < 1<<20 || grown >= 2<<20 {
		t.Errorf("a file of 1 MiB with two names takes %d, %v", got.Bytes-empty.Bytes, err)
	}
	if n := got.Inodes - empty.Inodes; n != 3 {
		t.Errorf("a folder, a file and a link are %d", n)
	}
	if n, err := Measure(t.Context(), filepath.Join(dir, "none")); n != (Disk{}) || err != nil {
		t.Errorf("nothing takes %v, %v", n, err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Measure(over, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("when nobody waits any more: %v", err)
	}
}
