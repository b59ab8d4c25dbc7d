package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
)

// checkHostPath says whether a path of the node is what the manifest promises, and makes it where
// the manifest asks for that. Links are followed: the path is the cluster operator's.
func checkHostPath(src *corev1.HostPathVolumeSource) error {
	kind := corev1.HostPathUnset
	if src.Type != nil {
		kind = *src.Type
	}
	switch kind {
	case corev1.HostPathUnset:
		return nil
	case corev1.HostPathDirectoryOrCreate:
		if err := os.MkdirAll(src.Path, 0o755); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	case corev1.HostPathFileOrCreate:
		if err := touch(src.Path); err != nil {
			return fmt.Errorf("make file: %w", err)
		}
	}
	info, err := os.Stat(src.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("hostPath type check failed: %w", err)
	}
	is := func(want fs.FileMode) bool { return err == nil && info.Mode().Type() == want }
	var ok bool
	var what string
	switch kind {
	case corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate:
		ok, what = is(fs.ModeDir), "directory"
	case corev1.HostPathFile, corev1.HostPathFileOrCreate:
		ok, what = is(0), "file"
	case corev1.HostPathSocket:
		ok, what = is(fs.ModeSocket), "socket file"
	case corev1.HostPathCharDev:
		ok, what = is(fs.ModeDevice|fs.ModeCharDevice), "character device"
	case corev1.HostPathBlockDev:
		ok, what = is(fs.ModeDevice), "block device"
	default:
		return fmt.Errorf("%s is an invalid volume type", kind)
	}
	if !ok {
		return fmt.Errorf("hostPath type check failed: %s is not a %s", filepath.Clean(src.Path), what)
	}
	return nil
}

// touch makes an empty file where nothing is; its folder must exist.
func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}
