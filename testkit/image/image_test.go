package image_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/troupe-run/troupe/testkit/image"
)

func TestBuildIsDeterministic(t *testing.T) {
	t.Parallel()
	cfg := image.Config{Name: "example/pause", Program: "../../node/host/pause", Files: map[string][]byte{"/etc/motd": []byte("hi")}}
	var first, second bytes.Buffer
	a, err := image.Build(t.Context(), cfg, &first)
	if err != nil {
		t.Fatal(err)
	}
	b, err := image.Build(t.Context(), cfg, &second)
	if err != nil {
		t.Fatal(err)
	}
	if a != b || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("two builds differ: %s, %s", a, b)
	}
}

func TestBuildFileLeavesNothingHalfMade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := image.BuildFile(t.Context(), image.Config{Name: "x", Program: "./no/such/package"}, filepath.Join(dir, "x.tar")); err == nil {
		t.Error("a program that is not there was built")
	}
	if _, err := image.BuildFile(t.Context(), image.Config{Name: "x"}, filepath.Join(dir, "x.tar")); err == nil {
		t.Error("an image without a program was built")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := image.BuildFile(t.Context(), image.Config{Name: "x", Entrypoint: []string{"/x"}}, filepath.Join(dir, "x.tar")); err != nil {
		t.Error(err)
	}
}
