package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxTermination is how much of a termination message is kept, in bytes, as Kubernetes does.
const maxTermination = 4096

// Hosts writes the pod's /etc/hosts and says how to mount it: the pod's own addresses by its host
// name and, where it has one, its domain; or the node's file for a pod on the node's network; and
// the manifest's hostAliases.
func (m *Manager) Hosts(pod *corev1.Pod, ips []string, hostname, domain string) (*runtimeapi.Mount, error) {
	dir, err := m.podDir(pod.UID)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if pod.Spec.HostNetwork {
		nodes, err := os.ReadFile("/etc/hosts")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("write hosts file of pod %s: %w", pod.UID, err)
		}
		b.WriteString("# Kubernetes-managed hosts file (host network).\n")
		b.Write(nodes)
	} else {
		b.WriteString("# Kubernetes-managed hosts file.\n" +
			"127.0.0.1\tlocalhost\n" +
			"::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::0\tip6-localnet\n" +
			"fe00::0\tip6-mcastprefix\n" +
			"fe00::1\tip6-allnodes\n" +
			"fe00::2\tip6-allrouters\n")
		names := hostname
		if domain != "" {
			names = hostname + "." + domain + "\t" + hostname
		}
		for _, ip := range ips {
			fmt.Fprintf(&b, "%s\t%s\n", ip, names)
		}
	}
	if len(pod.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
		for _, a := range pod.Spec.HostAliases {
			fmt.Fprintf(&b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
		}
	}
	file := filepath.Join(dir, "etc-hosts")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("write hosts file of pod %s: %w", pod.UID, err)
	}
	// In place and not by a rename: running containers have this very file mounted.
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		return nil, fmt.Errorf("write hosts file of pod %s: %w", pod.UID, err)
	}
	return &runtimeapi.Mount{ContainerPath: "/etc/hosts", HostPath: file}, nil
}

// TerminationFile makes the file to which one run of a container may write why it ended, and says
// how to mount it. attempt counts the runs; the files of runs before the last are removed.
func (m *Manager) TerminationFile(uid types.UID, c *corev1.Container, attempt uint32) (*runtimeapi.Mount, error) {
	file, err := m.terminationPath(uid, c.Name, attempt)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return nil, fmt.Errorf("make termination file of %s: %w", c.Name, err)
	}
	old, err := os.ReadDir(filepath.Dir(file))
	if err != nil {
		return nil, fmt.Errorf("make termination file of %s: %w", c.Name, err)
	}
	for _, e := range old {
		if n, err := strconv.ParseUint(e.Name(), 10, 32); err == nil && n+1 < uint64(attempt) {
			_ = os.Remove(filepath.Join(filepath.Dir(file), e.Name())) // gone with the pod at the latest
		}
	}
	if err := touch(file); err != nil {
		return nil, fmt.Errorf("make termination file of %s: %w", c.Name, err)
	}
	// Any user the container runs as may write.
	if err := os.Chmod(file, 0o666); err != nil {
		return nil, fmt.Errorf("make termination file of %s: %w", c.Name, err)
	}
	path := c.TerminationMessagePath
	if path == "" {
		path = corev1.TerminationMessagePathDefault
	}
	return &runtimeapi.Mount{ContainerPath: path, HostPath: file}, nil
}

// Termination returns what one run of a container wrote to its termination file: its last 4096
// bytes, empty when it wrote nothing.
func (m *Manager) Termination(uid types.UID, container string, attempt uint32) (string, error) {
	path, err := m.terminationPath(uid, container, attempt)
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read termination message of %s: %w", container, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return "", errors.Join(err, fmt.Errorf("read termination message of %s: not a file", container))
	}
	text, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-maxTermination), maxTermination))
	if err != nil {
		return "", fmt.Errorf("read termination message of %s: %w", container, err)
	}
	return strings.ToValidUTF8(string(text), "\uFFFD"), nil
}

func (m *Manager) terminationPath(uid types.UID, container string, attempt uint32) (string, error) {
	dir, err := m.podDir(uid)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "termination", container, strconv.FormatUint(uint64(attempt), 10)), nil
}

func unixStat(info fs.FileInfo) (*syscall.Stat_t, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	return st, ok
}
