package image

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
)

// The labels by which containerd's CRI plugin knows its images and those that garbage collection
// must leave alone.
const (
	labelManaged = "io.cri-containerd.image"
	valueManaged = "managed"
	labelPinned  = "io.cri-containerd.pinned"
	valuePinned  = "pinned"
)

// Imported is one image of an archive.
type Imported struct {
	Name   string // full reference
	Digest string // of the image's manifest or index
	Size   int64  // bytes of content, compressed as stored
}

// ImportOptions are the rare wishes of an import.
type ImportOptions struct {
	// Pinned keeps the image when unused images are removed.
	Pinned bool
	// Snapshotter unpacks the image; empty means containerd's default.
	Snapshotter string
}

// Import reads an OCI or docker archive (plain or gzip) into containerd and unpacks it, so that a
// pod can use it at once. It returns the images by name; an archive without names is an error.
func Import(ctx context.Context, c *containerd.Client, archive io.Reader, o ImportOptions) ([]Imported, error) {
	labels := map[string]string{labelManaged: valueManaged}
	if o.Pinned {
		labels[labelPinned] = valuePinned
	}
	plain, err := compression.DecompressStream(archive)
	if err != nil {
		return nil, fmt.Errorf("import image: %w", err)
	}
	defer plain.Close()
	// A lease keeps the content from being collected between its import and its unpacking.
	ctx, release, err := c.WithLease(ctx)
	if err != nil {
		return nil, fmt.Errorf("import image: %w", err)
	}
	defer func() { _ = release(context.WithoutCancel(ctx)) }()
	found, err := c.Import(ctx, plain,
		containerd.WithImageLabels(labels),
		containerd.WithImageRefTranslator(NormalName),
		containerd.WithSkipMissing(),
		containerd.WithImportPlatform(platforms.Default()))
	if err != nil {
		return nil, fmt.Errorf("import image: %w", err)
	}
	var out []Imported
	for _, img := range found {
		got, err := unpack(ctx, c, img, o.Snapshotter)
		if err != nil {
			return nil, fmt.Errorf("import image %s: %w", img.Name, err)
		}
		out = append(out, got)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("import image: the archive holds no named image for %s", platforms.DefaultString())
	}
	return out, nil
}

func unpack(ctx context.Context, c *containerd.Client, img images.Image, snapshotter string) (Imported, error) {
	i := containerd.NewImage(c, img)
	if err := i.Unpack(ctx, snapshotter); err != nil {
		return Imported{}, err
	}
	size, err := i.Size(ctx)
	if err != nil {
		return Imported{}, err
	}
	return Imported{Name: img.Name, Digest: img.Target.Digest.String(), Size: size}, nil
}

// NormalName completes a short name, as CRI does when it looks an image up; it is empty for what is
// no name.
func NormalName(name string) string {
	ref, err := reference.ParseDockerRef(name)
	if err != nil {
		return ""
	}
	return ref.String()
}

// Image is one image on the node.
type Image struct {
	Name    string
	Digest  string
	Size    int64
	Created time.Time // when it came to this node
	Pinned  bool
}

// List returns the named images of the node, sorted by name.
func List(ctx context.Context, c *containerd.Client) ([]Image, error) {
	all, err := c.ListImages(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var out []Image
	for _, i := range all {
		// CRI keeps every image under its ID too ("sha256:...") and under name@digest.
		if strings.HasPrefix(i.Name(), "sha256:") || strings.Contains(i.Name(), "@") {
			continue
		}
		size, err := i.Size(ctx)
		if err != nil {
			size = i.Target().Size // content may be gone from the store after unpacking elsewhere
		}
		out = append(out, Image{Name: i.Name(), Digest: i.Target().Digest.String(), Size: size,
			Created: i.Metadata().CreatedAt, Pinned: i.Labels()[labelPinned] == valuePinned})
	}
	slices.SortFunc(out, func(a, b Image) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
