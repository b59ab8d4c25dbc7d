package pod

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubectl/pkg/util/qos"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// machine is what resource values are measured against.
type machine struct {
	// memory is the node's memory in bytes.
	memory int64
	// minOOMScore is the lowest oom_score_adj that may be set: without CAP_SYS_RESOURCE the one the
	// runtime itself runs with.
	minOOMScore int64
}

// The completely fair scheduler's period, and the smallest values the kernel takes.
const (
	cpuPeriod    = 100_000
	minCPUQuota  = 1_000
	minCPUShares = 2
	maxCPUShares = 262_144
)

// resources turns requests and limits into cgroup values.
func resources(p *corev1.Pod, c *corev1.Container, m machine) *cri.LinuxContainerResources {
	request, limit := c.Resources.Requests.Cpu().MilliValue(), c.Resources.Limits.Cpu().MilliValue()
	if _, ok := c.Resources.Requests[corev1.ResourceCPU]; !ok {
		request = limit
	}
	return &cri.LinuxContainerResources{
		CpuShares:          cpuShares(request),
		CpuPeriod:          period(limit),
		CpuQuota:           quota(limit),
		MemoryLimitInBytes: c.Resources.Limits.Memory().Value(),
		OomScoreAdj:        max(oomScore(p, c, m.memory), m.minOOMScore),
	}
}

func cpuShares(milli int64) int64 {
	return min(max(milli*1024/1000, minCPUShares), maxCPUShares)
}

func period(limit int64) int64 {
	if limit == 0 {
		return 0
	}
	return cpuPeriod
}

func quota(limit int64) int64 {
	if limit == 0 {
		return 0
	}
	return max(limit*cpuPeriod/1000, minCPUQuota)
}

// oomScore says who goes first when the node runs out of memory: guaranteed pods last, best-effort
// ones first, the others by how little of the node they asked for.
func oomScore(p *corev1.Pod, c *corev1.Container, memory int64) int64 {
	switch qos.GetPodQOS(p) {
	case corev1.PodQOSGuaranteed:
		return -997
	case corev1.PodQOSBestEffort:
		return 1000
	}
	if memory <= 0 {
		return 999
	}
	score := 1000 - 1000*c.Resources.Requests.Memory().Value()/memory
	return min(max(score, 3), 999)
}
