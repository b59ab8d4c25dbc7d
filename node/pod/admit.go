package pod

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// isNew says whether the pod comes to this node for the first time, and not from an earlier life
// of the agent.
func (p *podActor) isNew(own *corev1.Pod) bool {
	return own.DeletionTimestamp == nil && own.Status.StartTime == nil && !isTerminal(own.Status.Phase) &&
		len(p.s.sandboxes) == 0 && len(p.s.containers) == 0
}

// admit says why a new pod is not let in: the node does not want it, it asks for what no pod may
// have here, or it does not fit.
func (p *podActor) admit(own *corev1.Pod) (f failure) {
	if p.cfg.Admit != nil {
		f.reason, f.message = p.cfg.Admit(own)
	}
	if f.reason == "" {
		f = forbidden(&own.Spec)
	}
	if f.reason == "" {
		f = p.cfg.promised.room(requestsOf(own.Spec), p.cfg.Facts().Capacity)
	}
	if f.reason != "" {
		p.cfg.record(own, corev1.EventTypeWarning, f.reason, "%s", f.message)
	}
	return f
}

// safeSysctls are the kernel parameters that pods may set: they are a namespace's own and cannot
// hurt other pods. The list is the kubelet's.
var safeSysctls = []string{
	"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
	"net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem",
}

// forbidden says what a pod asks for that no pod may have here. The words are the kubelet's.
func forbidden(spec *corev1.PodSpec) failure {
	if spec.OS != nil && spec.OS.Name != corev1.Linux {
		return failure{"PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"}
	}
	if spec.SecurityContext == nil {
		return failure{}
	}
	for _, s := range spec.SecurityContext.Sysctls {
		name := strings.ReplaceAll(s.Name, "/", ".")
		why := ""
		switch {
		case !slices.Contains(safeSysctls, name):
			why = "not allowlisted"
		case strings.HasPrefix(name, "net.") && spec.HostNetwork:
			why = "not allowed with host net enabled"
		case strings.HasPrefix(name, "kernel.") && spec.HostIPC:
			why = "not allowed with host ipc enabled"
		}
		if why != "" {
			return failure{"SysctlForbidden", fmt.Sprintf("forbidden sysctl: %q %s", s.Name, why)}
		}
	}
	return failure{}
}
