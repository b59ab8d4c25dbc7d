package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// A subPath is the dangerous part of volumes: containers can write to most volumes, also while the
// next container starts, and a link planted there must not make the node mount a path of its own.
// So a subPath is never handled as a path twice. It is opened once, by a system call that refuses
// to leave the volume (openat2 with RESOLVE_BENEATH), and the open file itself is bound to a place
// in the pod's folder that no container can reach; that place is what the runtime mounts.

// bindSubPath binds sub of the volume at source to a place of its own and returns that.
func (m *Manager) bindSubPath(pod *corev1.Pod, v *corev1.Volume, container string, index int, source, sub string) (string, error) {
	if !filepath.IsLocal(sub) {
		return "", errors.New("it must be relative and without '..'")
	}
	dir, err := m.podDir(pod.UID)
	if err != nil {
		return "", err
	}
	fd, err := openBeneath(source, sub)
	if errors.Is(err, fs.ErrNotExist) && !hasContent(v) {
		if err = makeBeneath(source, sub); err == nil {
			fd, err = openBeneath(source, sub)
		}
	}
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ELOOP) {
		return "", errors.New("it leads out of the volume")
	}
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)

	target := filepath.Join(dir, "subpaths", v.Name, container, strconv.Itoa(index))
	var want, have unix.Stat_t
	if err := unix.Fstat(fd, &want); err != nil {
		return "", err
	}
	if unix.Lstat(target, &have) == nil && have.Dev == want.Dev && have.Ino == want.Ino {
		return target, nil // bound already, to the same thing
	}
	// It is bound to what was there before, or left half made: start over.
	if err := unmount(target); err != nil {
		return "", err
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return "", err
	}
	if want.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = os.Mkdir(target, 0o750)
	} else {
		err = touch(target)
	}
	if err != nil {
		return "", err
	}
	if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(fd), target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return "", fmt.Errorf("bind: %w", err)
	}
	return target, nil
}

// openBeneath opens sub without ever leaving base, links included.
func openBeneath(base, sub string) (int, error) {
	root, err := unix.Open(base, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open volume: %w", err)
	}
	defer unix.Close(root)
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	for {
		// The kernel gives up with EAGAIN when something is renamed meanwhile.
		fd, err := unix.Openat2(root, sub, how)
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
}

// makeBeneath makes a missing subPath as a folder with the permissions and group of the volume.
func makeBeneath(base, sub string) error {
	root, err := os.OpenRoot(base)
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	for _, p := range append(parents(filepath.ToSlash(filepath.Clean(sub))), filepath.Clean(sub)) {
		err := root.Mkdir(p, 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		if st, ok := unixStat(info); ok {
			if err := root.Lchown(p, int(st.Uid), int(st.Gid)); err != nil {
				return err
			}
		}
		if err := root.Chmod(p, info.Mode()&(fs.ModePerm|fs.ModeSetgid)); err != nil {
			return err
		}
	}
	return nil
}
