package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// containerdName is the annotation by which containerd names an imported image in full.
const containerdName = "io.containerd.image.name"

// Recipe says what an image of one layer holds. The same recipe always gives the same bytes.
type Recipe struct {
	// Name is the reference under which the image is imported, such as "example/web:v1"; it is
	// completed as Docker does ("docker.io/example/web:v1").
	Name string
	// Files are the contents of the layer; missing parent folders are added.
	Files []File
	// Config is what the image tells a runtime: entrypoint, environment, user, ports.
	Config ocispec.ImageConfig
	// Architecture is GOARCH of the contents; empty means this program's.
	Architecture string
}

// File is one entry of a layer.
type File struct {
	// Path is absolute inside the image.
	Path string
	// Mode holds the permissions; fs.ModeDir makes a folder, fs.ModeSymlink a link to Target.
	Mode fs.FileMode
	// Content is what a regular file holds.
	Content []byte
	// Target is where a symbolic link points.
	Target string
	// UID and GID own the entry.
	UID, GID int
}

// Reference returns the full name of the image.
func (r Recipe) Reference() (string, error) {
	ref, err := reference.ParseDockerRef(r.Name)
	if err != nil {
		return "", fmt.Errorf("parse image name %q: %w", r.Name, err)
	}
	return ref.String(), nil
}

// Write writes the image as a tar of the OCI layout, which containerd, docker and skopeo import,
// and returns the digest under which they will know it.
func (r Recipe) Write(w io.Writer) (digest.Digest, error) {
	ref, err := r.Reference()
	if err != nil {
		return "", err
	}
	layer, err := r.layer()
	if err != nil {
		return "", fmt.Errorf("build image %s: %w", r.Name, err)
	}
	if r.Architecture == "" {
		r.Architecture = runtime.GOARCH
	}
	epoch := time.Unix(0, 0).UTC()
	config := encode(ocispec.Image{
		Created:  &epoch,
		Platform: ocispec.Platform{Architecture: r.Architecture, OS: "linux"},
		Config:   r.Config,
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
	})
	manifest := encode(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    descriptor(ocispec.MediaTypeImageConfig, config),
		Layers:    []ocispec.Descriptor{descriptor(ocispec.MediaTypeImageLayer, layer)},
	})
	top := descriptor(ocispec.MediaTypeImageManifest, manifest)
	top.Annotations = map[string]string{containerdName: ref, ocispec.AnnotationRefName: ref}
	top.Platform = &ocispec.Platform{Architecture: r.Architecture, OS: "linux"}
	index := encode(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{top},
	})

	files := []File{
		{Path: ocispec.ImageLayoutFile, Content: encode(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})},
		{Path: ocispec.ImageIndexFile, Content: index},
	}
	for _, blob := range [][]byte{config, layer, manifest} {
		files = append(files, File{Path: blobPath(blob), Content: blob})
	}
	tw := tar.NewWriter(w)
	for _, f := range files {
		f.Mode = 0o644
		if err := writeEntry(tw, f); err != nil {
			return "", fmt.Errorf("write image %s: %w", r.Name, err)
		}
	}
	if err := tw.Close(); err != nil {
		return "", fmt.Errorf("write image %s: %w", r.Name, err)
	}
	return top.Digest, nil
}

// layer is the tar of all files, in an order and with times that do not depend on the caller.
func (r Recipe) layer() ([]byte, error) {
	entries := map[string]File{}
	for _, f := range r.Files {
		f.Path = strings.TrimPrefix(path.Clean("/"+f.Path), "/")
		if f.Path == "" {
			return nil, fmt.Errorf("file %q has no name", f.Path)
		}
		if _, double := entries[f.Path]; double {
			return nil, fmt.Errorf("file %q is there twice", f.Path)
		}
		entries[f.Path] = f
	}
	for p := range entries {
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			if _, ok := entries[dir]; !ok {
				entries[dir] = File{Path: dir, Mode: fs.ModeDir | 0o755}
			}
		}
	}
	names := make([]string, 0, len(entries))
	for p := range entries {
		names = append(names, p)
	}
	slices.Sort(names) // a folder sorts before what it holds
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	for _, p := range names {
		if err := writeEntry(tw, entries[p]); err != nil {
			return nil, err
		}
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func writeEntry(tw *tar.Writer, f File) error {
	h := &tar.Header{Name: f.Path, Mode: int64(f.Mode.Perm()), Uid: f.UID, Gid: f.GID, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	switch {
	case f.Mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, f.Path+"/"
	case f.Mode&fs.ModeSymlink != 0:
		h.Typeflag, h.Linkname = tar.TypeSymlink, f.Target
	default:
		h.Typeflag, h.Size = tar.TypeReg, int64(len(f.Content))
	}
	// Sticky and set-id bits live outside Perm in Go and inside the mode in tar.
	for bit, flag := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if f.Mode&bit != 0 {
			h.Mode |= flag
		}
	}
	if err := tw.WriteHeader(h); err != nil {
		return fmt.Errorf("write %s: %w", f.Path, err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	if _, err := tw.Write(f.Content); err != nil {
		return fmt.Errorf("write %s: %w", f.Path, err)
	}
	return nil
}

func descriptor(mediaType string, blob []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
}

func blobPath(blob []byte) string {
	d := digest.FromBytes(blob)
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// encode cannot fail: the types above hold nothing JSON cannot say.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err))
	}
	return b
}
