package eviction

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/klog/v2"
	"k8s.io/kubectl/pkg/util/qos"
)

// Reason is the reason of pods that were evicted or not let in, and of the Events about it.
const Reason = "Evicted"

// message says why a pod is evicted. The words are the kubelet's, for tools look for them.
func message(starved corev1.ResourceName, t Threshold, a Amount, p *Pod) string {
	var b strings.Builder
	fmt.Fprintf(&b, "The node was low on resource: %s. ", starved)
	fmt.Fprintf(&b, "Threshold quantity: %s, available: %s. ", quantity(starved, t.Of(a.Capacity)), quantity(starved, a.Available))
	if p.Usage == nil {
		return b.String()
	}
	if r := p.Pod.Spec.Resources; r != nil && starved == corev1.ResourceMemory {
		if asked, ok := r.Requests[starved]; ok {
			fmt.Fprintf(&b, "Pod %s was using %s, request is %s, has larger consumption of %s. ",
				p.Pod.Name, quantity(starved, p.Usage.Memory), asked.String(), starved)
		}
	}
	for _, c := range p.Usage.Containers {
		asked, ok := containerRequest(p.Pod, c.Name, starved)
		var use int64
		switch starved {
		case corev1.ResourceMemory:
			use = c.Memory
		case corev1.ResourceEphemeralStorage:
			use = c.Files.Bytes + c.Logs.Bytes
		}
		if ok && use > asked.Value() {
			fmt.Fprintf(&b, "Container %s was using %s, request is %s, has larger consumption of %s. ", c.Name, quantity(starved, use), asked.String(), starved)
		}
	}
	return b.String()
}

func containerRequest(p *corev1.Pod, name string, what corev1.ResourceName) (q resource.Quantity, ok bool) {
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		if i := slices.IndexFunc(list, func(c corev1.Container) bool { return c.Name == name }); i >= 0 {
			return list[i].Resources.Requests[what], true
		}
	}
	return q, false
}

// quantity spells an amount of a resource.
func quantity(of corev1.ResourceName, n int64) string {
	format := resource.BinarySI
	if of == resourceInodes || of == resourcePIDs {
		format = resource.DecimalSI
	}
	return resource.NewQuantity(n, format).String()
}

// Refusal says why a node with these conditions does not let a new pod in; it is empty when it
// does. Short of memory alone it lets in whoever asked for some, or tolerates that; critical pods
// always come in.
func Refusal(conditions []corev1.NodeConditionType, p *corev1.Pod) string {
	if len(conditions) == 0 || critical(p) {
		return ""
	}
	if len(conditions) == 1 && conditions[0] == corev1.NodeMemoryPressure {
		taint := &corev1.Taint{Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule}
		tolerates := func(t corev1.Toleration) bool { return t.ToleratesTaint(klog.Background(), taint, false) }
		if qos.GetPodQOS(p) != corev1.PodQOSBestEffort || slices.ContainsFunc(p.Spec.Tolerations, tolerates) {
			return ""
		}
	}
	return fmt.Sprintf("The node had condition: %v. ", conditions)
}
