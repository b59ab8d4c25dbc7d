package scheduler

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	corehelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
)

// quiet keeps the helpers from logging on their own.
var quiet = klog.Logger{}

// filter says why a pod cannot run on a node; nil reasons mean it can.
type filter func(p *podInfo, n *nodeInfo) (reasons []string)

// filters run in this order, cheapest first; the first that refuses ends a node's turn.
var filters = []filter{unschedulable, nodeSelection, taints, ports, resources}

func unschedulable(p *podInfo, n *nodeInfo) []string {
	if !n.node.Spec.Unschedulable {
		return nil
	}
	taint := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if corehelpers.TolerationsTolerateTaint(quiet, p.pod.Spec.Tolerations, &taint, false) {
		return nil
	}
	return []string{"node(s) were unschedulable"}
}

func nodeSelection(p *podInfo, n *nodeInfo) []string {
	if ok, err := p.required.Match(n.node); !ok || err != nil {
		return []string{"node(s) didn't match Pod's node affinity/selector"}
	}
	return nil
}

func taints(p *podInfo, n *nodeInfo) []string {
	if len(n.node.Spec.Taints) == 0 {
		return nil
	}
	taint, found := corehelpers.FindMatchingUntoleratedTaint(quiet, n.node.Spec.Taints, p.pod.Spec.Tolerations, func(t *corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
	}, false)
	if !found {
		return nil
	}
	return []string{fmt.Sprintf("node(s) had untolerated taint(s) {%s: %s}", taint.Key, taint.Value)}
}

func ports(p *podInfo, n *nodeInfo) []string {
	for _, want := range p.ports {
		for _, have := range n.ports {
			if want.clashes(have) {
				return []string{"node(s) didn't have free ports for the requested pod ports"}
			}
		}
	}
	return nil
}

func resources(p *podInfo, n *nodeInfo) []string {
	var out []string
	if int64(len(n.pods))+1 > n.maxPods {
		out = append(out, "Too many pods")
	}
	short := func(name corev1.ResourceName, want, used, has int64) {
		if want > 0 && want > has-used {
			out = append(out, "Insufficient "+string(name))
		}
	}
	short(corev1.ResourceCPU, p.requests.milliCPU, n.requested.milliCPU, n.allocatable.milliCPU)
	short(corev1.ResourceMemory, p.requests.memory, n.requested.memory, n.allocatable.memory)
	short(corev1.ResourceEphemeralStorage, p.requests.storage, n.requested.storage, n.allocatable.storage)
	for name, want := range p.requests.extended {
		short(name, want, n.requested.extended[name], n.allocatable.extended[name])
	}
	return out
}
