package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// setupEmptyDir makes an empty folder, on disk or in memory, that every container may write to. One
// that exists is left as it is: containers have written to it.
func (m *Manager) setupEmptyDir(pod *corev1.Pod, v *corev1.Volume) error {
	dir, err := m.volumeDir(pod.UID, v.Name)
	if err != nil {
		return err
	}
	switch err := os.Mkdir(dir, 0o755); {
	case err == nil:
	case errors.Is(err, fs.ErrExist):
		if v.EmptyDir.Medium == corev1.StorageMediumDefault {
			return nil
		}
	default:
		return err
	}
	switch v.EmptyDir.Medium {
	case corev1.StorageMediumDefault:
	case corev1.StorageMediumMemory:
		mounted, err := mountinfo.Mounted(dir)
		if err != nil || mounted {
			return err
		}
		if err := ensureTmpfs(dir, memoryLimit(pod, v.EmptyDir)); err != nil {
			return err
		}
	default:
		return fmt.Errorf("emptyDir medium %q is not supported on this node", v.EmptyDir.Medium)
	}
	mode := fs.FileMode(0o777)
	if gid := fsGroup(pod); gid != nil {
		if err := os.Chown(dir, -1, id(gid)); err != nil {
			return err
		}
		mode |= fs.ModeSetgid
	}
	return os.Chmod(dir, mode) // Mkdir's mode was subject to the umask
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
func ensureTmpfs(dir string, size int64) error {
	mounted, err := mountinfo.Mounted(dir)
	if err != nil || mounted {
		return err
	}
	options := ""
	if size > 0 {
		options = fmt.Sprintf("size=%d", size)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
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
