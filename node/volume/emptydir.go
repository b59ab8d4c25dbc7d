package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// setupEmptyDir makes an empty folder, on disk or in memory, that every container may write to. One
// that exists is left as it is: containers have written to it. It appears with its final mode, so
// that a crash leaves none that nobody can write to.
func (m *Manager) setupEmptyDir(pod *corev1.Pod, v *corev1.Volume) error {
	dir, err := m.volumeDir(pod.UID, v.Name)
	if err != nil {
		return err
	}
	gid := fsGroup(pod)
	switch v.EmptyDir.Medium {
	case corev1.StorageMediumDefault:
		return makeScratch(dir, gid)
	case corev1.StorageMediumMemory:
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		options := []string{"mode=0777"}
		if gid != nil {
			options = []string{"mode=2777", fmt.Sprintf("gid=%d", *gid)}
		}
		if size := memoryLimit(pod, v.EmptyDir); size > 0 {
			options = append(options, fmt.Sprintf("size=%d", size))
		}
		return ensureTmpfs(dir, options...)
	}
	return fmt.Errorf("emptyDir medium %q is not supported on this node", v.EmptyDir.Medium)
}

// makeScratch makes a folder for everyone unless it is there.
func makeScratch(dir string, gid *int64) error {
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	draft := filepath.Join(filepath.Dir(dir), ".new-"+filepath.Base(dir)) // no volume's name starts with a dot
	if err := os.RemoveAll(draft); err != nil {
		return err
	}
	if err := os.Mkdir(draft, 0o755); err != nil {
		return err
	}
	mode := fs.FileMode(0o777)
	if gid != nil {
		if err := os.Chown(draft, -1, id(gid)); err != nil {
			return err
		}
		mode |= fs.ModeSetgid
	}
	if err := os.Chmod(draft, mode); err != nil { // Mkdir's mode was subject to the umask
		return err
	}
	return os.Rename(draft, dir)
}

// memoryLimit is the size of an emptyDir in memory: its own limit, and never more than the pod may
// use anyway. 0 means the kernel's default, half of the machine.
func memoryLimit(pod *corev1.Pod, e *corev1.EmptyDirVolumeSource) int64 {
	var size int64
	if e.SizeLimit != nil {
		size = e.SizeLimit.Value()
	}
	for _, c := range pod.Spec.Containers {
		if _, limited := c.Resources.Limits[corev1.ResourceMemory]; !limited {
			return size // one container without a limit leaves the pod without one
		}
	}
	limit := resource.PodLimits(pod, resource.PodResourcesOptions{})[corev1.ResourceMemory]
	if m := limit.Value(); m > 0 && (size == 0 || m < size) {
		size = m
	}
	return size
}

// ensureTmpfs mounts a file system in memory on dir unless something is mounted there.
func ensureTmpfs(dir string, options ...string) error {
	mounted, err := mountinfo.Mounted(dir)
	if err != nil || mounted {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, strings.Join(options, ",")); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	return nil
}

// unmountBelow unmounts dir and everything under it, the last mounted first.
func unmountBelow(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return fmt.Errorf("read mounts: %w", err)
	}
	var errs []error
	for i := len(mounts) - 1; i >= 0; i-- {
		if err := unmount(mounts[i].Mountpoint); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// unmount detaches: a process that still holds a file open keeps the file system, not the mount.
func unmount(target string) error {
	err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", target, err)
	}
	return nil
}
