package pod

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/node/link"
)

func list(cpu, memory string) corev1.ResourceList {
	out := corev1.ResourceList{}
	if cpu != "" {
		out[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		out[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	return out
}

// asking lets the only container ask for as much as it may have.
func asking(cpu, memory string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: list(cpu, memory), Limits: list(cpu, memory)}
	}
}

// resized is the pod as the API sends it after a resize.
func resized(p *corev1.Pod, cpu, memory string) *corev1.Pod {
	out := p.DeepCopy()
	out.Generation++
	asking(cpu, memory)(out)
	return out
}

func TestFits(t *testing.T) {
	t.Parallel()
	capacity := list("4", "8Gi")
	for _, tt := range []struct {
		name            string
		has, need, used corev1.ResourceList
		want            failure
	}{
		{"room", list("1", "1Gi"), list("2", "2Gi"), list("1", "1Gi"), failure{}},
		{"to the last bit", list("1", "1Gi"), list("3", "7Gi"), list("1", "1Gi"), failure{}},
		{"more than there is", list("1", "1Gi"), list("5", "1Gi"), nil,
			failure{"Infeasible", "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000"}},
		{"more than is left", list("1", "1Gi"), list("2", "2Gi"), list("3", "1Gi"),
			failure{"Deferred", "Node didn't have enough resource: cpu, requested: 2000, used: 3000, capacity: 4000"}},
		{"memory", list("1", "1Gi"), list("1", "2Gi"), list("1", "7Gi"),
			failure{"Deferred", "Node didn't have enough resource: memory, requested: 2147483648, used: 7516192768, capacity: 8589934592"}},
		{"less, on a node that is overfull", list("3", "3Gi"), list("2", "2Gi"), list("4", "8Gi"), failure{}},
		{"nothing asked", nil, nil, list("4", "8Gi"), failure{}},
	} {
		if got := fits(tt.has, tt.need, tt.used, capacity); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestActualResources(t *testing.T) {
	t.Parallel()
	both := func(cpu, memory string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: list(cpu, memory), Limits: list(cpu, memory)}
	}
	for _, tt := range []struct {
		name     string
		promised corev1.ResourceRequirements
		have     *cri.LinuxContainerResources
		want     corev1.ResourceRequirements
	}{
		{"unknown", both("1", "1Gi"), nil, both("1", "1Gi")},
		{"as promised", both("100m", "64Mi"), &cri.LinuxContainerResources{CpuShares: 102, CpuQuota: 10000, CpuPeriod: 100000, MemoryLimitInBytes: 64 << 20}, both("100m", "64Mi")},
		{"not yet", both("2", "2Gi"), &cri.LinuxContainerResources{CpuShares: 1024, CpuQuota: 100000, CpuPeriod: 100000, MemoryLimitInBytes: 1 << 30},
			corev1.ResourceRequirements{Requests: list("1", "2Gi"), Limits: list("1", "1Gi")}},
		{"no limits yet", both("1", "1Gi"), &cri.LinuxContainerResources{CpuShares: 1024}, corev1.ResourceRequirements{Requests: list("1", "1Gi")}},
	} {
		got := actual(&corev1.Container{Resources: tt.promised}, tt.have)
		if !equality.Semantic.DeepEqual(*got, tt.want) {
			t.Errorf("%s: %s", tt.name, cmp.Diff(tt.want, *got))
		}
	}
}

func condition(st corev1.PodStatus, kind corev1.PodConditionType) corev1.PodCondition {
	if c := findCondition(st.Conditions, kind); c != nil {
		return *c
	}
	return corev1.PodCondition{}
}

func wantHas(t *testing.T, st corev1.PodStatus, cpu, memory string) {
	t.Helper()
	c := st.ContainerStatuses[0]
	want := corev1.ResourceRequirements{Requests: list(cpu, memory), Limits: list(cpu, memory)}
	if c.Resources == nil || !equality.Semantic.DeepEqual(*c.Resources, want) || !equality.Semantic.DeepEqual(c.AllocatedResources, want.Requests) {
		t.Errorf("it has %v and was promised %v, want %v", c.Resources, c.AllocatedResources, want)
	}
}

func TestResizeInPlace(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.stop()
		b.capacity = list("4", "8Gi")
		b.start()
		p := newTestPod("web", asking("1", "1Gi"))
		other := newTestPod("other", asking("2", "1Gi"))
		b.want(other)
		b.want(p)
		b.synced()
		wantHas(t, b.status(), "1", "1Gi")
		id := b.status().ContainerStatuses[0].ContainerID

		p = resized(p, "2", "2Gi")
		b.want(p)
		pass(time.Second)
		wantHas(t, b.status(), "2", "2Gi")
		if st := b.status(); st.ContainerStatuses[0].ContainerID != id || st.ContainerStatuses[0].RestartCount != 0 || st.ObservedGeneration != p.Generation {
			t.Errorf("status %+v", st)
		}
		for _, kind := range []corev1.PodConditionType{corev1.PodResizePending, corev1.PodResizeInProgress} {
			if c := condition(b.status(), kind); c.Type != "" {
				t.Errorf("afterwards: %+v", c)
			}
		}

		p = resized(p, "5", "2Gi")
		b.want(p)
		pass(time.Second)
		wantHas(t, b.status(), "2", "2Gi")
		if c := condition(b.status(), corev1.PodResizePending); c.Reason != "Infeasible" || c.ObservedGeneration != p.Generation {
			t.Errorf("more than the node has: %+v", c)
		}

		p = resized(p, "3", "2Gi")
		b.want(p)
		pass(time.Second)
		wantHas(t, b.status(), "2", "2Gi")
		if c := condition(b.status(), corev1.PodResizePending); c.Reason != "Deferred" || c.Status != corev1.ConditionTrue {
			t.Errorf("more than is left: %+v", c)
		}
		b.stop() // the promise outlives the agent, and so does what waits
		b.start()
		q := p.DeepCopy()
		q.Status = b.status()
		b.want(other)
		b.want(q)
		b.synced()
		wantHas(t, b.status(), "2", "2Gi")
		b.pods.Deliver(link.Unwanted{UID: other.UID})
		pass(time.Minute)
		wantHas(t, b.status(), "3", "2Gi")
		if c := condition(b.status(), corev1.PodResizePending); c.Type != "" {
			t.Errorf("there is room: %+v", c)
		}
		if st := b.status().ContainerStatuses[0]; st.ContainerID != id {
			t.Errorf("container %+v", st)
		}
	})
}

func TestResizeByRestart(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := newTestPod("web", asking("1", "1Gi"), func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
			p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{
				{ResourceName: corev1.ResourceCPU, RestartPolicy: corev1.NotRequired}, {ResourceName: corev1.ResourceMemory, RestartPolicy: corev1.RestartContainer}}
		})
		b.want(p)
		p = resized(p, "2", "1Gi")
		b.want(p)
		pass(time.Second)
		wantHas(t, b.status(), "2", "1Gi")
		if n := b.status().ContainerStatuses[0].RestartCount; n != 0 {
			t.Errorf("%d restarts for CPU", n)
		}
		b.want(resized(p, "2", "2Gi"))
		pass(30 * time.Second)
		wantHas(t, b.status(), "2", "2Gi")
		if st := b.status(); st.ContainerStatuses[0].RestartCount != 1 || st.Phase != corev1.PodRunning {
			t.Errorf("%s after %d restarts for memory", st.Phase, st.ContainerStatuses[0].RestartCount)
		}
		if c := condition(b.status(), corev1.PodResizeInProgress); c.Type != "" {
			t.Errorf("afterwards: %+v", c)
		}
	})
}

func TestResizeThatFails(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := newTestPod("web", asking("1", "1Gi"), annotate("update-error", "no such luck"))
		b.want(p)
		p = resized(p, "2", "2Gi")
		b.want(p)
		pass(time.Second)
		st := b.status()
		if c := condition(st, corev1.PodResizeInProgress); c.Reason != "Error" || c.Message != "update container: no such luck" || c.ObservedGeneration != p.Generation {
			t.Errorf("condition %+v", c)
		}
		c := st.ContainerStatuses[0]
		if !equality.Semantic.DeepEqual(c.AllocatedResources, list("2", "2Gi")) || c.Resources.Limits.Cpu().String() != "1" || c.Resources.Limits.Memory().String() != "1Gi" {
			t.Errorf("it has %v and was promised %v", c.Resources, c.AllocatedResources)
		}
	})
}
