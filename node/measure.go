package node

import (
	"context"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// When a machine counts as under pressure. Kubelets give up a tenth of the disk; on large disks
// that is wasteful, so that a few GiB free are enough here.
const (
	lowMemory       = 100 << 20
	lowDiskPercent  = 10
	lowDisk         = 2 << 30
	lowInodePercent = 5
	lowPIDPercent   = 10
)

// measure looks how the machine and its runtime fare.
func (m *machineNode) measure(ctx context.Context) health {
	h := health{memory: memoryLow(), disk: diskLow(m.cfg.DataDir), pids: pidsLow()}
	if err := m.host.Healthy(); err != nil {
		h.notReady = "container runtime is down: " + err.Error()
		return h
	}
	st, err := m.rt.Status(ctx)
	if err != nil {
		h.notReady = "container runtime is down: " + err.Error()
		return h
	}
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

func memoryLow() bool {
	free, err := memInfo("MemAvailable")
	return err == nil && free < lowMemory
}

func diskLow(dir string) bool {
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil || fs.Blocks == 0 {
		return false
	}
	free := int64(fs.Bavail) * fs.Bsize
	total := int64(fs.Blocks) * fs.Bsize
	if free < min(total*lowDiskPercent/100, lowDisk) {
		return true
	}
	return fs.Files > 0 && fs.Ffree*100/fs.Files < lowInodePercent
}

// pidsLow compares the tasks there are with what the kernel allows.
func pidsLow() bool {
	limit, err := strconv.ParseInt(line("/proc/sys/kernel/pid_max"), 10, 64)
	if err != nil {
		return false
	}
	if threads, err := strconv.ParseInt(line("/proc/sys/kernel/threads-max"), 10, 64); err == nil {
		limit = min(limit, threads)
	}
	f := strings.Fields(line("/proc/loadavg"))
	if len(f) < 4 {
		return false
	}
	_, all, _ := strings.Cut(f[3], "/")
	tasks, err := strconv.ParseInt(all, 10, 64)
	return err == nil && (limit-tasks)*100/limit < lowPIDPercent
}
