package node

import (
	"maps"
	"net/netip"
	"runtime"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodeObject is what a node registers: who it is, with its first status.
func nodeObject(name string, labels map[string]string, taints []corev1.Taint, status corev1.NodeStatus) *corev1.Node {
	all := map[string]string{
		corev1.LabelHostname:      name,
		corev1.LabelOSStable:      "linux",
		corev1.LabelArchStable:    runtime.GOARCH,
		"beta.kubernetes.io/os":   "linux",
		"beta.kubernetes.io/arch": runtime.GOARCH,
	}
	maps.Copy(all, labels)
	return &corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: all},
		Spec:       corev1.NodeSpec{Taints: taints},
		Status:     status,
	}
}

func nodeAddresses(name string, ips []netip.Addr) []corev1.NodeAddress {
	out := make([]corev1.NodeAddress, 0, len(ips)+1)
	for _, ip := range ips {
		out = append(out, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip.String()})
	}
	return append(out, corev1.NodeAddress{Type: corev1.NodeHostName, Address: name})
}

// health is what the node's conditions are made of. Empty strings mean well.
type health struct {
	notReady string                     // why no pod can run
	pressure []corev1.NodeConditionType // what the node is short of
}

// nodeConditions words a health as kubelets do. Times move only with a status, so that a node that
// fares well writes nothing.
func nodeConditions(h health, now metav1.Time, old []corev1.NodeCondition) []corev1.NodeCondition {
	list := []corev1.NodeCondition{
		pressure(corev1.NodeMemoryPressure, h.pressure, "KubeletHasInsufficientMemory", "kubelet has insufficient memory available",
			"KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
		pressure(corev1.NodeDiskPressure, h.pressure, "KubeletHasDiskPressure", "kubelet has disk pressure",
			"KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
		pressure(corev1.NodePIDPressure, h.pressure, "KubeletHasInsufficientPID", "kubelet has insufficient PID available",
			"KubeletHasSufficientPID", "kubelet has sufficient PID available"),
		{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"},
	}
	if ready := &list[3]; h.notReady != "" {
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "KubeletNotReady", h.notReady
	}
	for i := range list {
		c := &list[i]
		c.LastHeartbeatTime, c.LastTransitionTime = now, now
		for j := range old {
			if o := &old[j]; o.Type == c.Type && o.Status == c.Status {
				c.LastTransitionTime = o.LastTransitionTime
				if o.Reason == c.Reason && o.Message == c.Message {
					c.LastHeartbeatTime = o.LastHeartbeatTime
				}
			}
		}
	}
	return list
}

func pressure(t corev1.NodeConditionType, on []corev1.NodeConditionType, badReason, badMessage, goodReason, goodMessage string) corev1.NodeCondition {
	if slices.Contains(on, t) {
		return corev1.NodeCondition{Type: t, Status: corev1.ConditionTrue, Reason: badReason, Message: badMessage}
	}
	return corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse, Reason: goodReason, Message: goodMessage}
}
