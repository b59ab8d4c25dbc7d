package host

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/troupe-run/troupe/node/image"
)

// ensureSandboxImage imports the image of pause under the name containerd asks for, so that no pod
// needs a registry to start. An image that is there is left alone in a foreign containerd.
func (h *Host) ensureSandboxImage(ctx context.Context) error {
	name := sandboxImage
	if h.cfg.Address != "" {
		// containerd 1.x tells which image it wants; later ones do not, and pull theirs themselves.
		if name = h.foreign.SandboxImage; name == "" {
			return nil
		}
	}
	pause, err := os.ReadFile(filepath.Join(h.cfg.BinDir, "pause"))
	if err != nil {
		return fmt.Errorf("make sandbox image: %w", err)
	}
	recipe := image.Recipe{
		Name:  name,
		Files: []image.File{{Path: "/pause", Mode: 0o755, Content: pause}},
		Config: ocispec.ImageConfig{
			Entrypoint: []string{"/pause"},
			User:       "65535:65535",
			// One thread to run is enough for a program that sleeps.
			Env: []string{"PATH=/", "GOMAXPROCS=1"},
		},
	}
	ref, err := recipe.Reference()
	if err != nil {
		return fmt.Errorf("make sandbox image: %w", err)
	}
	archive := new(bytes.Buffer)
	digest, err := recipe.Write(archive)
	if err != nil {
		return fmt.Errorf("make sandbox image: %w", err)
	}
	have, err := h.link.client.GetImage(ctx, ref)
	if err == nil {
		// The digest tells whether pause was rebuilt.
		if h.cfg.Address != "" || have.Target().Digest == digest {
			return nil
		}
	} else if !errdefs.IsNotFound(err) {
		return fmt.Errorf("look for sandbox image: %w", err)
	}
	if _, err := image.Import(ctx, h.link.client, archive, image.ImportOptions{Pinned: true, Snapshotter: h.snapshotter}); err != nil {
		return fmt.Errorf("import sandbox image: %w", err)
	}
	return nil
}
