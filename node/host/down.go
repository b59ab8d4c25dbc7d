package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Down removes every pod of an own containerd, ends it, and leaves no process, mount or socket
// behind. It works after any crash: a containerd that does not run is started once more, because
// only it can take the pods' network down in order; where it cannot start, what is left is killed
// and unmounted by hand. Images and snapshots stay in the data folder. A foreign containerd
// (Config.Address) is left as it is.
func Down(ctx context.Context, cfg Config) error {
	cfg, err := cfg.complete()
	if err != nil {
		return err
	}
	if cfg.Address != "" {
		return nil
	}
	if _, err := os.Stat(cfg.RunDir); errors.Is(err, os.ErrNotExist) {
		return nil // not started since the last Down or the last boot
	}
	var errs []error
	if err := cfg.removePods(ctx); err != nil {
		cfg.Log.Warn("pods are taken down by force", "err", err)
	}
	if p := cfg.running(); p != nil {
		errs = append(errs, p.stop(ctx))
	}
	errs = append(errs, cfg.killShims(ctx))
	for _, dir := range []string{cfg.RunDir, cfg.root()} {
		errs = append(errs, unmountBelow(dir))
	}
	if err := errors.Join(errs...); err != nil {
		return err // better to keep the state than to delete through a live mount
	}
	if err := os.RemoveAll(cfg.RunDir); err != nil {
		return fmt.Errorf("remove running state: %w", err)
	}
	_ = os.Remove(filepath.Dir(cfg.RunDir)) // only when no other cluster runs on this machine
	for _, dir := range strayRunc {
		_ = os.Remove(dir) // only when it is empty
	}
	return nil
}

// strayRunc are folders that a shim's clean-up makes, the deepest first: of a container whose start
// was cut short it does not know where its state is, and has runc look in the usual place.
var strayRunc = []string{"/run/containerd/runc/" + Namespace, "/run/containerd/runc", "/run/containerd"}

// removePods stops and removes every sandbox through CRI.
func (c Config) removePods(ctx context.Context) error {
	h, err := Start(ctx, c)
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }()
	cri := h.link.runtime()
	all, err := cri.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	var errs []error
	for _, s := range all.Items {
		if _, err := cri.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: s.Id}); err != nil {
			errs = append(errs, fmt.Errorf("stop pod %s/%s: %w", s.Metadata.GetNamespace(), s.Metadata.GetName(), err))
			continue
		}
		if _, err := cri.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: s.Id}); err != nil {
			errs = append(errs, fmt.Errorf("remove pod %s/%s: %w", s.Metadata.GetNamespace(), s.Metadata.GetName(), err))
		}
	}
	return errors.Join(errs...)
}

// killShims ends the shims of our containerd that are left, and with them all they hold: a shim
// names the containerd it serves in its command line, its containers are its children. With
// containerd itself gone, nobody else removes the containers' cgroups.
func (c Config) killShims(ctx context.Context) error { return c.killThese(ctx, c.shims) }

// killThese kills the shims that find returns, until there are none.
func (c Config) killThese(ctx context.Context, find func() []int) error {
	const patience = 10 * time.Second
	deadline := time.Now().Add(patience) //nolint:forbidigo // the kernel is waited for, which has no other clock
	cgroups := map[string]bool{}
	for {
		left := find()
		if len(left) == 0 && removeCgroups(cgroups) {
			removeParents(cgroups)
			return nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) { //nolint:forbidigo // as above
			return fmt.Errorf("kill container shims: processes %v or their cgroups are left", left)
		}
		for _, pid := range left {
			// Containers first: without their shim nobody would know them.
			own := cgroupsOf(pid)
			for _, child := range children(pid) {
				for _, group := range cgroupsOf(child) {
					if !slices.Contains(own, group) { // a container that is being made is still in the shim's
						cgroups[group] = true
					}
				}
				_ = syscall.Kill(child, syscall.SIGKILL)
			}
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(20 * time.Millisecond) //nolint:forbidigo // as above
	}
}

// cgroupsOf returns the paths of a process in the hierarchies of cgroups, the roots left out.
func cgroupsOf(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		// "4:memory:/kubepods/pod1/abc"
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 && len(parts[2]) > 1 {
			out = append(out, parts[2])
		}
	}
	return out
}

// removeCgroups removes empty cgroups in every hierarchy, version 1 and 2, and says whether all are
// gone: the last process may take a moment to leave.
func removeCgroups(groups map[string]bool) (done bool) {
	done = true
	for group := range groups {
		for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
			dirs, _ := filepath.Glob(pattern + group) // the only error is a bad pattern
			for _, dir := range dirs {
				err := os.Remove(dir)
				done = done && (err == nil || errors.Is(err, os.ErrNotExist))
			}
		}
	}
	return done
}

// shims lists the processes of our shim program that serve our socket.
func (c Config) shims() []int {
	var out []int
	for _, pid := range processes() {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue
		}
		args := strings.Split(string(bytes.TrimRight(line, "\x00")), "\x00")
		if filepath.Base(args[0]) == "containerd-shim-runc-v2" && slices.Contains(args, c.socket()) {
			out = append(out, pid)
		}
	}
	return out
}

func children(parent int) []int {
	var out []int
	for _, pid := range processes() {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err == nil && bytes.Contains(status, []byte(fmt.Sprintf("\nPPid:\t%d\n", parent))) {
			out = append(out, pid)
		}
	}
	return out
}

func processes() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// unmountBelow unmounts everything under dir, the deepest first. It never fails on a busy mount:
// that one is detached and goes with its last user.
func unmountBelow(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return fmt.Errorf("read mounts below %s: %w", dir, err)
	}
	var errs []error
	for _, m := range slices.Backward(mounts) {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m.Mountpoint, err))
		}
	}
	return errors.Join(errs...)
}
