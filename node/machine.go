package node

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/troupe-run/troupe/node/eviction"
)

// capacity measures the machine. What eviction would give back is held back from pods.
func capacity(dataDir string, maxPods int64, hard []eviction.Threshold) (total, allocatable corev1.ResourceList, err error) {
	memory, err := memInfo("MemTotal")
	if err != nil {
		return nil, nil, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dataDir, &fs); err != nil {
		return nil, nil, fmt.Errorf("measure %s: %w", dataDir, err)
	}
	disk := int64(fs.Blocks) * fs.Bsize
	total = resourceList(int64(runtime.NumCPU())*1000, memory, disk, maxPods)
	allocatable = resourceList(int64(runtime.NumCPU())*1000, memory-eviction.Reserved(hard, eviction.MemoryAvailable, memory),
		disk-eviction.Reserved(hard, eviction.NodeFSAvailable, disk), maxPods)
	return total, allocatable, nil
}

func resourceList(milliCPU, memory, disk, pods int64) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewMilliQuantity(milliCPU, resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(memory, resource.BinarySI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(disk, resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(pods, resource.DecimalSI),
	}
}

// memInfo reads one line of /proc/meminfo, in bytes.
func memInfo(key string) (int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("measure memory: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		if name != key {
			continue
		}
		kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("measure memory: %w", err)
		}
		return kib << 10, nil
	}
	return 0, fmt.Errorf("measure memory: /proc/meminfo has no %s", key)
}

// systemInfo describes the machine as kubelets do. What cannot be read stays empty.
func systemInfo(runtimeVersion string) corev1.NodeSystemInfo {
	info := corev1.NodeSystemInfo{
		MachineID:               line("/etc/machine-id"),
		SystemUUID:              line("/sys/class/dmi/id/product_uuid"),
		BootID:                  line("/proc/sys/kernel/random/boot_id"),
		OSImage:                 osImage(),
		ContainerRuntimeVersion: runtimeVersion,
		KubeletVersion:          KubeletVersion,
		OperatingSystem:         "linux",
		Architecture:            runtime.GOARCH,
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		info.KernelVersion = unix.ByteSliceToString(u.Release[:])
	}
	return info
}

func line(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func osImage() string {
	for l := range strings.Lines(line("/etc/os-release")) {
		if v, ok := strings.CutPrefix(l, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return "Linux"
}

// hostAddresses returns the address the default route leaves by, or any other that is not local
// to the machine, or the loopback where there is none.
func hostAddresses() []netip.Addr {
	// Connecting a UDP socket sends nothing: it only asks the kernel for a route.
	if c, err := net.Dial("udp4", "192.0.2.1:9"); err == nil {
		defer c.Close()
		if a, err := netip.ParseAddrPort(c.LocalAddr().String()); err == nil && !a.Addr().IsLoopback() {
			return []netip.Addr{a.Addr()}
		}
	}
	list, _ := net.InterfaceAddrs() // none is as good as an error
	for _, n := range list {
		if p, err := netip.ParsePrefix(n.String()); err == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast() {
			return []netip.Addr{p.Addr()}
		}
	}
	return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
}

// lowestOOMScore is the lowest oom_score_adj this process may give to others: without
// CAP_SYS_RESOURCE that is its own.
func lowestOOMScore() int64 {
	for l := range strings.Lines(line("/proc/self/status")) {
		if v, ok := strings.CutPrefix(l, "CapEff:"); ok {
			caps, err := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
			if err == nil && caps&(1<<unix.CAP_SYS_RESOURCE) != 0 {
				return -1000
			}
		}
	}
	own, err := strconv.ParseInt(line("/proc/self/oom_score_adj"), 10, 64)
	if err != nil {
		return 0
	}
	return own
}
