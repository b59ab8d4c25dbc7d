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
		used, err := Measure(ctx, dir)
		if err != nil {
			return nil, fmt.Errorf("measure volume %s of pod %s: %w", v.Name, pod.UID, err)
		}
		if out == nil {
			out = make(map[string]int64)
		}
		out[v.Name] = used.Bytes
	}
	return out, nil
}

// Disk is what files take on disk: bytes, and how many they are.
type Disk struct{ Bytes, Inodes int64 }

// Measure adds up what dir and the files below it take on the disk that dir is on. A file with
// several names counts once, what is mounted there not at all, nor what vanishes meanwhile.
func Measure(ctx context.Context, dir string) (Disk, error) {
	var total Disk
	var device uint64
	seen := make(map[[2]uint64]bool)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
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
		if path == dir {
			device = st.Dev
		}
		if st.Dev != device {
			if e.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if st.Nlink > 1 && !e.IsDir() {
			id := [2]uint64{st.Dev, st.Ino}
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		total = Disk{total.Bytes + st.Blocks*512, total.Inodes + 1}
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
