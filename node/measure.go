package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/node/eviction"
	"github.com/troupe-run/troupe/node/volume"
)

// measure looks how the node's runtime fares.
func (m *machineNode) measure(ctx context.Context) health {
	if err := m.host.Healthy(); err != nil {
		return health{notReady: "container runtime is down: " + err.Error()}
	}
	st, err := m.rt.Status(ctx)
	if err != nil {
		return health{notReady: "container runtime is down: " + err.Error()}
	}
	var h health
	for _, c := range st.GetConditions() {
		switch {
		case c.GetStatus():
		case c.GetType() == "RuntimeReady":
			h.notReady = "container runtime is not ready: " + c.GetReason() + ": " + c.GetMessage()
		case c.GetType() == "NetworkReady" && m.a.pods.Load() != nil: // before, it is on its way
			h.notReady = "container runtime network not ready: " + c.GetReason() + ": " + c.GetMessage()
		}
	}
	return h
}

// left measures the machine. What cannot be measured is missing.
func (m *machineNode) left(ctx context.Context) (eviction.Signals, bool) {
	all := eviction.Signals{}
	if a, err := memoryLeft(); err == nil {
		all[eviction.MemoryAvailable] = a
	}
	if a, ok := processesLeft(); ok {
		all[eviction.PIDAvailable] = a
	}
	own, ownOK := diskLeft(m.cfg.DataDir, all, eviction.NodeFSAvailable, eviction.NodeFSInodesFree)
	if dir, err := m.rt.ImageDir(ctx); err == nil {
		m.imageDir = dir
	}
	if m.imageDir == "" { // a runtime that has never answered
		return all, false
	}
	images, ok := diskLeft(m.imageDir, all, eviction.ImageFSAvailable, eviction.ImageFSInodesFree)
	return all, ok && ownOK && images != own
}

// memoryLeft is what is not in the working set: free, or files that nobody has used for a while.
func memoryLeft() (eviction.Amount, error) {
	var n [3]int64
	for i, key := range []string{"MemTotal", "MemFree", "Inactive(file)"} {
		var err error
		if n[i], err = memInfo(key); err != nil {
			return eviction.Amount{}, err
		}
	}
	return eviction.Amount{Available: n[1] + n[2], Capacity: n[0]}, nil
}

// diskLeft measures the disk a folder is on and returns what disk that is.
func diskLeft(dir string, into eviction.Signals, bytes, inodes eviction.Signal) (id unix.Fsid, ok bool) {
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil || fs.Blocks == 0 {
		return id, false
	}
	into[bytes] = eviction.Amount{Available: int64(fs.Bavail) * fs.Bsize, Capacity: int64(fs.Blocks) * fs.Bsize}
	if fs.Files > 0 {
		into[inodes] = eviction.Amount{Available: int64(fs.Ffree), Capacity: int64(fs.Files)}
	}
	return fs.Fsid, true
}

// processesLeft compares the tasks there are with what the kernel allows.
func processesLeft() (eviction.Amount, bool) {
	limit, err := strconv.ParseInt(line("/proc/sys/kernel/pid_max"), 10, 64)
	if err != nil {
		return eviction.Amount{}, false
	}
	if threads, err := strconv.ParseInt(line("/proc/sys/kernel/threads-max"), 10, 64); err == nil {
		limit = min(limit, threads)
	}
	f := strings.Fields(line("/proc/loadavg"))
	if len(f) < 4 {
		return eviction.Amount{}, false
	}
	_, all, _ := strings.Cut(f[3], "/")
	tasks, err := strconv.ParseInt(all, 10, 64)
	return eviction.Amount{Available: limit - tasks, Capacity: limit}, err == nil
}

// reclaim removes the containers of pods that ended and the images that nobody uses.
func (m *machineNode) reclaim(ctx context.Context) error {
	var errs []error
	if p := m.a.pods.Load(); p != nil {
		errs = append(errs, p.Release(ctx))
	}
	return errors.Join(append(errs, m.images.CollectAll(ctx))...)
}

// usage asks the runtime what pods use, and measures their volumes and logs on disk.
func (m *machineNode) usage(ctx context.Context, pods []*corev1.Pod) (map[types.UID]*eviction.Usage, error) {
	stats, err := m.rt.PodStats(ctx)
	if err != nil {
		return nil, err
	}
	out := usageOf(stats)
	var errs []error
	for _, p := range pods {
		u := out[p.UID]
		if u == nil {
			continue
		}
		used, err := volume.Measure(ctx, filepath.Join(m.cfg.DataDir, "pods", string(p.UID)))
		u.Volumes = eviction.Disk(used)
		errs = append(errs, err)
		for i := range u.Containers {
			c := &u.Containers[i]
			used, err := volume.Measure(ctx, filepath.Join(m.logs(), p.Namespace+"_"+p.Name+"_"+string(p.UID), c.Name))
			c.Logs = eviction.Disk(used)
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return out, fmt.Errorf("measure pods: %w", err)
	}
	return out, nil
}

// usageOf sorts what a runtime says by pods.
func usageOf(stats []*cri.PodSandboxStats) map[types.UID]*eviction.Usage {
	out := make(map[types.UID]*eviction.Usage, len(stats))
	for _, s := range stats {
		x := s.GetLinux()
		u := &eviction.Usage{
			Memory:    int64(x.GetMemory().GetWorkingSetBytes().GetValue()),
			Processes: int64(x.GetProcess().GetProcessCount().GetValue()),
		}
		for _, c := range x.GetContainers() {
			u.Containers = append(u.Containers, eviction.ContainerUsage{
				Name: c.GetAttributes().GetMetadata().GetName(), Memory: int64(c.GetMemory().GetWorkingSetBytes().GetValue()),
				Files: eviction.Disk{Bytes: int64(c.GetWritableLayer().GetUsedBytes().GetValue()), Inodes: int64(c.GetWritableLayer().GetInodesUsed().GetValue())},
			})
		}
		out[types.UID(s.GetAttributes().GetMetadata().GetUid())] = u
	}
	return out
}

var _ gauge = (*machineNode)(nil)
