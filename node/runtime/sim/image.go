package sim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/messages"
)

// imageRef is the made-up digest of an image.
func imageRef(image string) string {
	sum := sha256.Sum256([]byte(image))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (r *Runtime) ImageStatus(_ context.Context, image *cri.ImageSpec) (*cri.Image, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != nil {
		return nil, r.down
	}
	return r.images[image.GetImage()], nil
}

func (r *Runtime) ListImages(context.Context) ([]*cri.Image, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != nil {
		return nil, r.down
	}
	return slices.Collect(maps.Values(r.images)), nil
}

func (r *Runtime) PullImage(ctx context.Context, image *cri.ImageSpec, _ *cri.AuthConfig, sandbox *cri.PodSandboxConfig) (string, error) {
	notes := sandbox.GetAnnotations()
	if err := wait(ctx, delay(notes, "pull-delay", "", r.cfg.PullDelay)); err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != nil {
		return "", r.down
	}
	name := image.GetImage()
	if msg := knob(notes, "pull-error", ""); msg != "" {
		return "", fmt.Errorf("failed to pull and unpack image %q: %s", name, msg)
	}
	if host, _, _ := strings.Cut(name, "/"); strings.HasSuffix(host, ".invalid") {
		return "", fmt.Errorf("failed to resolve image %q: no such host: %w", name, messages.ErrNotFound)
	}
	ref := imageRef(name)
	r.images[name] = &cri.Image{Id: ref, RepoTags: []string{name}, RepoDigests: []string{name + "@" + ref}, Size: 1 << 20, Spec: &cri.ImageSpec{Image: name}}
	return ref, nil
}
