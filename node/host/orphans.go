package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/sandbox"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// SweepOrphans ends what containerd runs and has forgotten: when its client dies while something is
// made, or it dies itself, it may give up cleaning and leave processes behind that CRI lists nowhere
// or calls ended, and network namespaces. Only what has lived for age is taken: what is being made now counts
// as forgotten, too, so that age may be zero only before pods are started.
func (h *Host) SweepOrphans(ctx context.Context, age time.Duration) error {
	if h.cfg.Address != "" {
		return nil // others may use it, and know
	}
	boxes, err := h.link.runtime().ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return fmt.Errorf("sweep orphans: %w", err)
	}
	var errs []error
	for _, pid := range h.cfg.shims() {
		id := shimID(pid)
		known := slices.ContainsFunc(boxes.Items, func(s *runtimeapi.PodSandbox) bool { return s.Id == id })
		if id == "" || known || lived(pid) < age {
			continue
		}
		h.cfg.Log.Info("sandbox that containerd has forgotten is ended", "id", id, "pid", pid)
		if err := h.cfg.killThese(ctx, func() []int {
			return slices.DeleteFunc(h.cfg.shims(), func(p int) bool { return shimID(p) != id })
		}); err != nil {
			errs = append(errs, fmt.Errorf("sweep orphan %s: %w", id, err))
			continue
		}
		errs = append(errs, h.forget(ctx, id))
	}
	return errors.Join(append(errs, h.endTasks(ctx), h.sweepNamespaces(ctx, age))...)
}

// sweepNamespaces removes network namespaces that no sandbox knows: containerd died between making
// one and noting it down.
func (h *Host) sweepNamespaces(ctx context.Context, age time.Duration) error {
	files := h.NetworkNamespaces()
	if len(files) == 0 {
		return nil
	}
	records, err := h.link.client.SandboxStore().List(ctx)
	if err != nil {
		return fmt.Errorf("sweep network namespaces: %w", err)
	}
	var errs []error
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil || time.Since(info.ModTime()) < age {
			continue // gone, or perhaps in the making
		}
		if slices.ContainsFunc(records, func(r sandbox.Sandbox) bool { return notes(r, file) }) {
			continue
		}
		h.cfg.Log.Info("network namespace of no sandbox is removed", "path", file)
		if err := unix.Unmount(file, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount network namespace %s: %w", file, err))
			continue
		}
		errs = append(errs, os.Remove(file))
	}
	return errors.Join(errs...)
}

// NetworkNamespaces are the paths of the network namespaces that containerd has made for sandboxes.
func (h *Host) NetworkNamespaces() []string {
	pattern := filepath.Join(h.cfg.state(), "*", "netns", "*")
	if h.cfg.Address != "" {
		pattern = "/run/netns/cni-*" // where one that is not ours keeps them by default
	}
	files, _ := filepath.Glob(pattern) // the only error is a bad pattern
	return files
}

// notes says whether the record of a sandbox names a file.
func notes(r sandbox.Sandbox, file string) bool {
	for _, e := range r.Extensions {
		if bytes.Contains(e.GetValue(), []byte(file)) {
			return true
		}
	}
	return false
}

// endTasks kills the processes of containers that CRI calls ended, which it never takes back.
func (h *Host) endTasks(ctx context.Context) error {
	list, err := h.link.runtime().ListContainers(ctx, &runtimeapi.ListContainersRequest{})
	if err != nil {
		return fmt.Errorf("sweep tasks: %w", err)
	}
	running, err := h.link.client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return fmt.Errorf("sweep tasks: %w", err)
	}
	var errs []error
	for _, c := range list.Containers {
		alive := slices.ContainsFunc(running.Tasks, func(t *task.Process) bool { return t.ID == c.Id && t.Status == task.Status_RUNNING })
		if !alive || c.State != runtimeapi.ContainerState_CONTAINER_EXITED && c.State != runtimeapi.ContainerState_CONTAINER_UNKNOWN {
			continue
		}
		h.cfg.Log.Info("container that containerd takes for ended is killed", "id", c.Id)
		if err := h.endTask(ctx, c.Id); err != nil {
			errs = append(errs, fmt.Errorf("sweep task %s: %w", c.Id, err))
		}
	}
	return errors.Join(errs...)
}

// endTask kills a task and deletes it, without which its container could not be removed. containerd
// may delete it first.
func (h *Host) endTask(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, stopGrace)
	defer cancel()
	_, err := h.link.client.TaskService().Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(syscall.SIGKILL), All: true})
	for err == nil {
		_, failed := h.link.client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
		switch failed = errgrpc.ToNative(failed); {
		case failed == nil || errdefs.IsNotFound(failed):
			return nil
		case !errdefs.IsFailedPrecondition(failed): // that it still runs
			return failed
		}
		select {
		case <-ctx.Done():
			return failed
		case <-time.After(pollServing):
		}
	}
	if errdefs.IsNotFound(errgrpc.ToNative(err)) {
		return nil
	}
	return err
}

// lived is the age of a process; 0 when it is gone.
func lived(pid int) time.Duration {
	info, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		return 0
	}
	return time.Since(info.ModTime())
}

// forget deletes what containerd's metadata still say of a container that is gone.
func (h *Host) forget(ctx context.Context, id string) error {
	var errs []error
	for _, err := range []error{
		h.link.client.ContainerService().Delete(ctx, id),
		h.link.client.SnapshotService(h.snapshotter).Remove(ctx, id),
		h.link.client.SandboxStore().Delete(ctx, id),
	} {
		if err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("forget orphan %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

// shimID is the sandbox a shim was started for, "" when it cannot be read.
func shimID(pid int) string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	args := strings.Split(string(line), "\x00")
	if i := slices.Index(args, "-id"); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// removeParents removes the pods' cgroups above those of containers, where nothing else is in them.
func removeParents(groups map[string]bool) {
	parents := map[string]bool{}
	for g := range groups {
		if p := path.Dir(g); strings.HasPrefix(path.Base(p), "pod") {
			parents[p] = true
		}
	}
	removeCgroups(parents)
}
