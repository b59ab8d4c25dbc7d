package scheduler

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	corehelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
)

// quiet keeps the helpers from logging on their own.
var quiet = klog.Logger{}

// refusal says why a pod cannot run on a node; without reasons it can.
type refusal struct {
	reasons []string
	// final: no pod that leaves the node would help.
	final bool
}

func (r refusal) refused() bool { return len(r.reasons) > 0 }

func refuse(reason string) refusal { return refusal{reasons: []string{reason}} }

func refuseForGood(reason string) refusal { return refusal{reasons: []string{reason}, final: true} }

// filter says whether a pod can run on a node.
type filter func(p *podInfo, n *nodeInfo) refusal

// filters run in this order, cheapest first; the first that refuses ends a node's turn.
var filters = filterList{unschedulable, nodeSelection, taints, ports, resources}

func unschedulable(p *podInfo, n *nodeInfo) refusal {
	if !n.node.Spec.Unschedulable {
		return refusal{}
	}
	taint := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if corehelpers.TolerationsTolerateTaint(quiet, p.pod.Spec.Tolerations, &taint, false) {
		return refusal{}
	}
	return refuseForGood("node(s) were unschedulable")
}

func nodeSelection(p *podInfo, n *nodeInfo) refusal {
	if ok, err := p.required.Match(n.node); !ok || err != nil {
		return refuseForGood("node(s) didn't match Pod's node affinity/selector")
	}
	return refusal{}
}

func taints(p *podInfo, n *nodeInfo) refusal {
	if len(n.node.Spec.Taints) == 0 {
		return refusal{}
	}
	taint, found := corehelpers.FindMatchingUntoleratedTaint(quiet, n.node.Spec.Taints, p.pod.Spec.Tolerations, func(t *corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
	}, false)
	if !found {
		return refusal{}
	}
	return refuseForGood(fmt.Sprintf("node(s) had untolerated taint(s) {%s: %s}", taint.Key, taint.Value))
}

func ports(p *podInfo, n *nodeInfo) refusal {
	for _, want := range p.ports {
		for _, have := range n.ports {
			if want.clashes(have) {
				return refuse("node(s) didn't have free ports for the requested pod ports")
			}
		}
	}
	return refusal{}
}

// resources refuses for good what the node would lack even if it were empty.
func resources(p *podInfo, n *nodeInfo) refusal {
	var out refusal
	if int64(len(n.pods))+1 > n.maxPods {
		out.reasons = append(out.reasons, "Too many pods")
	}
	short := func(name corev1.ResourceName, want, used, has int64) {
		if want > 0 && want > has-used {
			out.reasons = append(out.reasons, "Insufficient "+string(name))
			out.final = out.final || want > has
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
