package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	corev1 "k8s.io/api/core/v1"
)

// Usage measures the emptyDir volumes on disk that have a size limit: bytes by volume. Those in
// memory are not measured, for they cannot outgrow theirs. It only reads, and takes its time with
// many files.
func (m *Manager) Usage(ctx context.Context, pod *corev1.Pod) (map[string]int64, error) {
	var out map[string]int64
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.EmptyDir == nil || v.EmptyDir.SizeLimit == nil || v.EmptyDir.Medium != corev1.StorageMediumDefault {
			continue
		}
		dir, err := m.volumeDir(pod.UID, v.Name)
		if err != nil {
			return nil, err
		}
		size, err := diskUsage(ctx, dir)
		if err != nil {
			return nil, fmt.Errorf("measure volume %s of pod %s: %w", v.Name, pod.UID, err)
		}
		if out == nil {
			out = make(map[string]int64)
		}
		out[v.Name] = size
	}
	return out, nil
}

// diskUsage adds up what the files below dir take on disk. A file with several names counts once;
// what vanishes meanwhile does not count.
func diskUsage(ctx context.Context, dir string) (int64, error) {
	var total int64
	seen := make(map[[2]uint64]bool)
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return ignoreGone(err)
		}
		info, err := e.Info()
		if err != nil {
			return ignoreGone(err)
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		if st.Nlink > 1 && !e.IsDir() {
			id := [2]uint64{st.Dev, st.Ino}
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		total += st.Blocks * 512
		return nil
	})
	return total, err
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
