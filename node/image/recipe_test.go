package image_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/troupe-run/troupe/node/image"
)

func names(t *testing.T, archive io.Reader) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	tr := tar.NewReader(archive)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if out[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRecipeIsDeterministic(t *testing.T) {
	r := image.Recipe{
		Name:         "example/web:v1",
		Architecture: "amd64",
		Files: []image.File{
			{Path: "/b/c", Mode: 0o755, Content: []byte("x")},
			{Path: "/a", Mode: fs.ModeSymlink, Target: "b/c"},
			{Path: "/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		},
		Config: ocispec.ImageConfig{Entrypoint: []string{"/b/c"}},
	}
	var first, second bytes.Buffer
	digest, err := r.Write(&first)
	if err != nil {
		t.Fatal(err)
	}
	r.Files[0], r.Files[2] = r.Files[2], r.Files[0]
	again, err := r.Write(&second)
	if err != nil {
		t.Fatal(err)
	}
	if digest != again || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the order of files changed the image")
	}
	files := names(t, &first)
	if !strings.Contains(string(files["index.json"]), `"io.containerd.image.name":"docker.io/example/web:v1"`) {
		t.Errorf("the index does not name the image: %s", files["index.json"])
	}
	layer := ""
	for name, blob := range files {
		if strings.HasPrefix(name, "blobs/") && bytes.Contains(blob, []byte("ustar")) {
			layer = string(blob)
		}
	}
	got := names(t, strings.NewReader(layer))
	if diff := cmp.Diff(map[string][]byte{"a": {}, "b/": {}, "b/c": []byte("x"), "tmp/": {}}, got); diff != "" {
		t.Errorf("layer (-want +got):\n%s", diff)
	}
}

func TestRecipeRefusesNonsense(t *testing.T) {
	for _, r := range []image.Recipe{
		{Name: "Not A Name"},
		{Name: "a", Files: []image.File{{Path: "/"}}},
		{Name: "a", Files: []image.File{{Path: "/x"}, {Path: "x/"}}},
	} {
		if _, err := r.Write(io.Discard); err == nil {
			t.Errorf("%+v was written", r)
		}
	}
}
