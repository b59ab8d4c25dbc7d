package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/troupe-run/troupe/node/image"
)

// Config says what an image holds.
type Config struct {
	// Name is the image's reference, such as "example/web:v1". Required.
	Name string
	// Program is a Go package to compile, by import path or folder ("./web"). Empty means the
	// image holds Files only.
	Program string
	// Dir is the folder the go command runs in. Empty means the present one.
	Dir string
	// Architecture is GOARCH of the program. Empty means this machine's.
	Architecture string
	// Files are further files of the image, by absolute path.
	Files map[string][]byte
	// Entrypoint overrides what runs. Empty means the program.
	Entrypoint []string
	// Env is the environment, each "NAME=value".
	Env []string
	// User runs it, as "uid" or "uid:gid". Empty means root.
	User string
}

// Build compiles the program, if there is one, and writes the image's archive to w. It returns the
// image's digest.
func Build(ctx context.Context, cfg Config, w io.Writer) (digest string, err error) {
	if cfg.Architecture == "" {
		cfg.Architecture = runtime.GOARCH
	}
	recipe := image.Recipe{
		Name:         cfg.Name,
		Architecture: cfg.Architecture,
		// What programs expect to find anywhere.
		Files: []image.File{
			{Path: "/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
			{Path: "/etc/passwd", Mode: 0o644, Content: []byte("root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n")},
			{Path: "/etc/group", Mode: 0o644, Content: []byte("root:x:0:\nnobody:x:65534:\n")},
		},
		Config: ocispec.ImageConfig{
			Entrypoint: cfg.Entrypoint,
			Env:        append([]string{"PATH=/"}, cfg.Env...),
			User:       cfg.User,
			WorkingDir: "/",
		},
	}
	if cfg.Program != "" {
		program, err := compile(ctx, cfg)
		if err != nil {
			return "", fmt.Errorf("build image %s: %w", cfg.Name, err)
		}
		target := "/" + programName(cfg.Program)
		recipe.Files = append(recipe.Files, image.File{Path: target, Mode: 0o755, Content: program})
		if len(cfg.Entrypoint) == 0 {
			recipe.Config.Entrypoint = []string{target}
		}
	}
	for at, text := range cfg.Files {
		recipe.Files = append(recipe.Files, image.File{Path: at, Mode: 0o644, Content: text})
	}
	if len(recipe.Config.Entrypoint) == 0 {
		return "", fmt.Errorf("build image %s: %w", cfg.Name, errors.New("neither Program nor Entrypoint says what runs"))
	}
	d, err := recipe.Write(w)
	if err != nil {
		return "", err
	}
	return d.String(), nil
}

// BuildFile is [Build] into a file, which appears only when it is complete.
func BuildFile(ctx context.Context, cfg Config, file string) (digest string, err error) {
	draft, err := os.CreateTemp(filepath.Dir(file), ".image-*")
	if err != nil {
		return "", fmt.Errorf("build image %s: %w", cfg.Name, err)
	}
	defer os.Remove(draft.Name()) // fails when it was renamed, as it should be
	digest, err = Build(ctx, cfg, draft)
	if err = errors.Join(err, draft.Close()); err != nil {
		return "", err
	}
	if err := os.Rename(draft.Name(), file); err != nil {
		return "", fmt.Errorf("build image %s: %w", cfg.Name, err)
	}
	return digest, nil
}

// compile builds a static program without paths of this machine in it.
func compile(ctx context.Context, cfg Config) ([]byte, error) {
	dir, err := os.MkdirTemp("", "troupe-image-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "program")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, cfg.Program)
	cmd.Dir = cfg.Dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+cfg.Architecture)
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile %s: %w: %s", cfg.Program, err, strings.TrimSpace(string(text)))
	}
	return os.ReadFile(out)
}

// programName is the last part of the package's path, as the go command names programs.
func programName(program string) string {
	name := path.Base(filepath.ToSlash(program))
	if name == "." || name == "/" || name == ".." {
		return "main"
	}
	return name
}
