package volume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

// Objects looks up what volumes are filled from. ok is false for what does not exist (yet). It
// must not block.
type Objects interface {
	ConfigMap(namespace, name string) (cm *corev1.ConfigMap, ok bool)
	Secret(namespace, name string) (s *corev1.Secret, ok bool)
}

// Tokens asks for service account tokens bound to a pod.
type Tokens interface {
	// Token returns a token for the audience ("" means the API server's own) that lives about as
	// long as asked, and when it ends.
	Token(ctx context.Context, pod *corev1.Pod, audience string, lifetime time.Duration) (token string, expires time.Time, err error)
}

// Config is what a Manager works with.
type Config struct {
	// Dir holds a folder for each pod, named by its UID. Required, absolute.
	Dir string
	// Objects gives ConfigMaps and Secrets. Required.
	Objects Objects
	// Tokens gives service account tokens. Required.
	Tokens Tokens
	// Allocatable is what the node has to give; the downward API shows it for limits that are not
	// set. Nil means nothing is known.
	Allocatable func() corev1.ResourceList
	// Clock times tokens and content folders. Nil means the real one.
	Clock clock.PassiveClock
	// Log gets what heals by itself. Required.
	Log *slog.Logger
}

// Check reports all that is wrong with the configuration at once.
func (c Config) Check() error {
	var errs []error
	if !filepath.IsAbs(c.Dir) {
		errs = append(errs, fmt.Errorf("volume: Dir %q is not an absolute path", c.Dir))
	}
	if c.Objects == nil {
		errs = append(errs, errors.New("volume: Objects is missing"))
	}
	if c.Tokens == nil {
		errs = append(errs, errors.New("volume: Tokens is missing"))
	}
	if c.Log == nil {
		errs = append(errs, errors.New("volume: Log is missing"))
	}
	return errors.Join(errs...)
}

// Manager sets up and takes down the volumes of the pods of one node.
type Manager struct {
	cfg Config

	mu     sync.Mutex
	tokens map[types.UID]map[string]token // by volume and path
}

// NewManager returns a manager on cfg.Dir, which is made when it is not there.
func NewManager(cfg Config) (*Manager, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.Allocatable == nil {
		cfg.Allocatable = func() corev1.ResourceList { return nil }
	}
	if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("make pods folder: %w", err)
	}
	// The kernel's list of mounts knows real paths only.
	dir, err := filepath.EvalSymlinks(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("resolve pods folder: %w", err)
	}
	cfg.Dir = dir
	return &Manager{cfg: cfg, tokens: map[types.UID]map[string]token{}}, nil
}

// Setup prepares every volume of a pod. It is idempotent and may be called again until it
// succeeds: volumes that are there are kept with what containers wrote to them. The error joins an
// [*Error] for each volume that could not be set up.
func (m *Manager) Setup(ctx context.Context, pod *corev1.Pod) error {
	dir, err := m.podDir(pod.UID)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "volumes"), 0o750); err != nil {
		return fmt.Errorf("make folder of pod %s: %w", pod.UID, err)
	}
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if err := m.setupOne(ctx, pod, v); err != nil {
			errs = append(errs, &Error{Volume: v.Name, Err: err})
		}
	}
	return errors.Join(errs...)
}

func (m *Manager) setupOne(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) error {
	switch {
	case v.HostPath != nil:
		return checkHostPath(v.HostPath)
	case v.EmptyDir != nil:
		return m.setupEmptyDir(pod, v)
	case v.Image != nil:
		return nil // the runtime mounts it, see Mounts
	case hasContent(v):
		return m.writeContent(ctx, pod, v)
	}
	return errors.New("this type of volume is not supported on this node")
}

// Refresh writes the present content of configMap, secret, downwardAPI and projected volumes of a
// pod that was set up, and renews its tokens when they are due. What is unchanged is not touched;
// where a source vanished, the content stays as it is and the error says so.
func (m *Manager) Refresh(ctx context.Context, pod *corev1.Pod) error {
	dir, err := m.podDir(pod.UID)
	if err != nil {
		return err
	}
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if !hasContent(v) {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, "volumes", v.Name)); err != nil {
			continue // never set up, or taken down meanwhile: not to be made anew
		}
		if err := m.writeContent(ctx, pod, v); err != nil {
			errs = append(errs, &Error{Volume: v.Name, Err: err})
		}
	}
	return errors.Join(errs...)
}

// Teardown unmounts and removes all that belongs to a pod. It is content when nothing is there.
// The pod's containers must be gone.
func (m *Manager) Teardown(uid types.UID) error {
	dir, err := m.podDir(uid)
	if err != nil {
		return err
	}
	m.mu.Lock()
	delete(m.tokens, uid)
	m.mu.Unlock()
	if err := unmountBelow(dir); err != nil {
		return fmt.Errorf("take down volumes of pod %s: %w", uid, err)
	}
	// RemoveAll follows no links, and nothing foreign is mounted here any more.
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("take down volumes of pod %s: %w", uid, err)
	}
	return nil
}

// Sweep takes down the volumes of every pod that is not among the living, as a crash leaves them.
func (m *Manager) Sweep(living []types.UID) error {
	keep := make(map[string]bool, len(living))
	for _, uid := range living {
		keep[string(uid)] = true
	}
	entries, err := os.ReadDir(m.cfg.Dir)
	if err != nil {
		return fmt.Errorf("sweep volumes: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if e.IsDir() && !keep[e.Name()] {
			errs = append(errs, m.Teardown(types.UID(e.Name())))
		}
	}
	return errors.Join(errs...)
}

// podDir is the folder of a pod. A UID that is no plain name would lead elsewhere.
func (m *Manager) podDir(uid types.UID) (string, error) {
	name := string(uid)
	if name == "" || name == "." || name == ".." || filepath.Base(name) != name {
		return "", fmt.Errorf("pod UID %q is no name of a folder", uid)
	}
	return filepath.Join(m.cfg.Dir, name), nil
}

func (m *Manager) volumeDir(uid types.UID, volume string) (string, error) {
	dir, err := m.podDir(uid)
	if err != nil {
		return "", err
	}
	if filepath.Base(volume) != volume || volume == ".." || volume == "." {
		return "", fmt.Errorf("volume %q has no valid name", volume)
	}
	return filepath.Join(dir, "volumes", volume), nil
}
