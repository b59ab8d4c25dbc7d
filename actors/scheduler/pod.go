package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	corehelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	podresource "k8s.io/component-helpers/resource"
)

// Requests that scoring assumes of a pod that states none, so that such pods spread as well.
const (
	defaultMilliCPU = 100
	defaultMemory   = 200 << 20
)

// amounts of what a node has or a pod asks for: CPU in thousandths of a core, memory and
// ephemeral storage in bytes, others by name.
type amounts struct {
	milliCPU, memory, storage int64
	extended                  map[corev1.ResourceName]int64
}

func (a *amounts) add(b *amounts, sign int64) {
	a.milliCPU += sign * b.milliCPU
	a.memory += sign * b.memory
	a.storage += sign * b.storage
	for name, v := range b.extended {
		if a.extended == nil {
			a.extended = make(map[corev1.ResourceName]int64, len(b.extended))
		}
		a.extended[name] += sign * v
	}
}

func amountsOf(list corev1.ResourceList) amounts {
	var a amounts
	for name, q := range list {
		switch name {
		case corev1.ResourceCPU:
			a.milliCPU = q.MilliValue()
		case corev1.ResourceMemory:
			a.memory = q.Value()
		case corev1.ResourceEphemeralStorage:
			a.storage = q.Value()
		case corev1.ResourcePods:
		default:
			if a.extended == nil {
				a.extended = make(map[corev1.ResourceName]int64)
			}
			a.extended[name] = q.Value()
		}
	}
	return a
}

// hostPort is one port a pod takes on its node.
type hostPort struct {
	ip       string
	protocol corev1.Protocol
	port     int32
}

// clashes says whether two host ports exclude each other: 0.0.0.0 takes the port on every address.
func (p hostPort) clashes(o hostPort) bool {
	return p.port == o.port && p.protocol == o.protocol &&
		(p.ip == o.ip || p.ip == "0.0.0.0" || o.ip == "0.0.0.0")
}

// podInfo is what placing needs of a pod, worked out once. It is immutable.
type podInfo struct {
	pod      *corev1.Pod
	requests amounts
	scored   amounts // requests with the assumed ones filled in
	ports    []hostPort
	priority int32
	owner    string // uid of the controller, "" without one
	required nodeaffinity.RequiredNodeAffinity
	prefers  *nodeaffinity.PreferredSchedulingTerms
	affinity podAffinity
	spread   []spreadConstraint
}

func newPodInfo(pod *corev1.Pod) *podInfo {
	p := &podInfo{pod: pod, priority: corehelpers.PodPriority(pod), owner: controllerOf(pod)}
	p.requests = amountsOf(podresource.PodRequests(pod, podresource.PodResourcesOptions{UseStatusResources: true}))
	p.scored = amountsOf(podresource.PodRequests(pod, podresource.PodResourcesOptions{
		UseStatusResources: true,
		NonMissingContainerRequests: corev1.ResourceList{
			corev1.ResourceCPU:    *resource.NewMilliQuantity(defaultMilliCPU, resource.DecimalSI),
			corev1.ResourceMemory: *resource.NewQuantity(defaultMemory, resource.BinarySI),
		},
	}))
	p.ports = hostPorts(pod)
	p.required = nodeaffinity.GetRequiredNodeAffinity(pod)
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		// Validation has parsed these terms already; a bad one only loses its preference.
		p.prefers, _ = nodeaffinity.NewPreferredSchedulingTerms(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	p.affinity = newPodAffinity(pod)
	p.spread = spreadConstraints(pod)
	return p
}

func hostPorts(pod *corev1.Pod) []hostPort {
	var out []hostPort
	add := func(cs []corev1.Container) {
		for i := range cs {
			for _, p := range cs[i].Ports {
				if p.HostPort == 0 {
					continue
				}
				h := hostPort{ip: p.HostIP, protocol: p.Protocol, port: p.HostPort}
				if h.ip == "" {
					h.ip = "0.0.0.0"
				}
				if h.protocol == "" {
					h.protocol = corev1.ProtocolTCP
				}
				out = append(out, h)
			}
		}
	}
	add(pod.Spec.Containers)
	for i, c := range pod.Spec.InitContainers { // sidecars run beside the others and keep their ports
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(pod.Spec.InitContainers[i : i+1])
		}
	}
	return out
}

// controllerOf returns the uid of a pod's controller, "" without one.
func controllerOf(pod *corev1.Pod) string {
	for i := range pod.OwnerReferences {
		if r := &pod.OwnerReferences[i]; r.Controller != nil && *r.Controller {
			return string(r.UID)
		}
	}
	return ""
}
