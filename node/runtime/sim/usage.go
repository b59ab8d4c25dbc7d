package sim

import (
	"context"

	"k8s.io/apimachinery/pkg/api/resource"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// amount reads an annotation that is a quantity; 0 when there is none.
func amount(notes map[string]string, key, container string) uint64 {
	text := knob(notes, key, container)
	if text == "" {
		return 0
	}
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Sign() < 0 {
		return 0
	}
	return uint64(q.Value())
}

// PodStats returns what each pod that runs uses, as its annotations say.
func (r *Runtime) PodStats(context.Context) ([]*cri.PodSandboxStats, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != nil {
		return nil, r.down
	}
	var out []*cri.PodSandboxStats
	for _, s := range r.sandboxes {
		if !s.ready {
			continue
		}
		var memory, processes uint64
		x := &cri.LinuxPodSandboxStats{}
		for _, c := range s.containers {
			if c.state != cri.ContainerState_CONTAINER_RUNNING {
				continue
			}
			notes, name := s.config.GetAnnotations(), c.config.GetMetadata().GetName()
			used := amount(notes, "memory", name)
			memory += used
			processes += amount(notes, "processes", name)
			x.Containers = append(x.Containers, &cri.ContainerStats{
				Attributes:    &cri.ContainerAttributes{Id: c.id, Metadata: c.config.GetMetadata()},
				Memory:        &cri.MemoryUsage{WorkingSetBytes: &cri.UInt64Value{Value: used}},
				WritableLayer: &cri.FilesystemUsage{UsedBytes: &cri.UInt64Value{Value: amount(notes, "disk", name)}},
			})
		}
		x.Memory = &cri.MemoryUsage{WorkingSetBytes: &cri.UInt64Value{Value: memory}}
		x.Process = &cri.ProcessUsage{ProcessCount: &cri.UInt64Value{Value: processes}}
		out = append(out, &cri.PodSandboxStats{Attributes: &cri.PodSandboxAttributes{Id: s.id, Metadata: s.config.GetMetadata()}, Linux: x})
	}
	return out, nil
}

// uses says whether a container uses anything worth measuring.
func (c *container) uses() bool {
	notes, name := c.sandbox.config.GetAnnotations(), c.config.GetMetadata().GetName()
	return amount(notes, "memory", name)+amount(notes, "disk", name)+amount(notes, "processes", name) > 0
}
