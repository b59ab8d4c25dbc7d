package pod

import (
	"maps"
	"path/filepath"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// logDir is where a pod's container logs lie, by the naming every log collector knows.
func logDir(root string, p *corev1.Pod) string {
	return filepath.Join(root, p.Namespace+"_"+p.Name+"_"+string(p.UID))
}

func podLabels(p *corev1.Pod) map[string]string {
	return map[string]string{labelPodName: p.Name, labelPodNamespace: p.Namespace, labelPodUID: string(p.UID)}
}

// sandboxConfig builds what the runtime needs to know about a pod as a whole.
func sandboxConfig(p *corev1.Pod, attempt uint32, env environment) *cri.PodSandboxConfig {
	labels := podLabels(p)
	for k, v := range p.Labels {
		if _, ours := labels[k]; !ours {
			labels[k] = v
		}
	}
	notes := make(map[string]string, len(p.Annotations)+2)
	maps.Copy(notes, p.Annotations)
	notes[noteNode] = env.node
	if g := p.Spec.TerminationGracePeriodSeconds; g != nil {
		notes[noteGrace] = strconv.FormatInt(*g, 10)
	}
	c := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: p.Name, Namespace: p.Namespace, Uid: string(p.UID), Attempt: attempt},
		LogDirectory: env.logs,
		Labels:       labels,
		Annotations:  notes,
		DnsConfig:    dnsConfig(p, env.dns),
		Linux:        linuxSandbox(p, env),
	}
	if p.Spec.HostNetwork {
		return c // it has the machine's name: the runtime refuses to set one that is not the pod's own
	}
	c.Hostname = Hostname(p)
	if isTrue(p.Spec.SetHostnameAsFQDN) {
		if domain := Subdomain(p, env.dns.domain); domain != "" {
			c.Hostname += "." + domain
		}
	}
	for i := range p.Spec.Containers {
		c.PortMappings = append(c.PortMappings, portMappings(&p.Spec.Containers[i])...)
	}
	for i := range p.Spec.InitContainers {
		if sc := &p.Spec.InitContainers[i]; sidecar(sc) {
			c.PortMappings = append(c.PortMappings, portMappings(sc)...)
		}
	}
	return c
}

// Hostname of a pod: its own or its name, cut to what a host name may be.
func Hostname(p *corev1.Pod) string {
	name := p.Name
	if p.Spec.HostnameOverride != nil {
		return *p.Spec.HostnameOverride
	}
	if p.Spec.Hostname != "" {
		name = p.Spec.Hostname
	}
	if len(name) > 63 {
		name = name[:63]
	}
	for len(name) > 0 && (name[len(name)-1] == '-' || name[len(name)-1] == '.') {
		name = name[:len(name)-1]
	}
	return name
}

// Subdomain is what follows a pod's host name in its full name, empty when it has none.
func Subdomain(p *corev1.Pod, cluster string) string {
	if p.Spec.Subdomain == "" || cluster == "" {
		return ""
	}
	return p.Spec.Subdomain + "." + p.Namespace + ".svc." + cluster
}

func portMappings(c *corev1.Container) []*cri.PortMapping {
	var out []*cri.PortMapping
	for _, port := range c.Ports {
		if port.HostPort <= 0 {
			continue
		}
		m := &cri.PortMapping{HostPort: port.HostPort, ContainerPort: port.ContainerPort, HostIp: port.HostIP}
		switch port.Protocol {
		case corev1.ProtocolUDP:
			m.Protocol = cri.Protocol_UDP
		case corev1.ProtocolSCTP:
			m.Protocol = cri.Protocol_SCTP
		}
		out = append(out, m)
	}
	return out
}

func linuxSandbox(p *corev1.Pod, env environment) *cri.LinuxPodSandboxConfig {
	sec := &cri.LinuxSandboxSecurityContext{
		NamespaceOptions: namespaces(p),
		Privileged:       anyPrivileged(p),
		Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
	}
	out := &cri.LinuxPodSandboxConfig{CgroupParent: env.cgroup, SecurityContext: sec}
	if sc := p.Spec.SecurityContext; sc != nil {
		sec.RunAsUser, sec.RunAsGroup = int64Value(sc.RunAsUser), int64Value(sc.RunAsGroup)
		if sc.RunAsUser == nil {
			sec.RunAsGroup = nil // CRI takes a group only together with a user
		}
		sec.SupplementalGroups = groups(sc)
		sec.SelinuxOptions = seLinux(sc.SELinuxOptions)
		for _, s := range sc.Sysctls {
			if out.Sysctls == nil {
				out.Sysctls = make(map[string]string, len(sc.Sysctls))
			}
			out.Sysctls[s.Name] = s.Value
		}
	}
	return out
}

func namespaces(p *corev1.Pod) *cri.NamespaceOption {
	o := &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}
	switch {
	case p.Spec.HostPID:
		o.Pid = cri.NamespaceMode_NODE
	case p.Spec.ShareProcessNamespace != nil && *p.Spec.ShareProcessNamespace:
		o.Pid = cri.NamespaceMode_POD
	}
	if p.Spec.HostNetwork {
		o.Network = cri.NamespaceMode_NODE
	}
	if p.Spec.HostIPC {
		o.Ipc = cri.NamespaceMode_NODE
	}
	return o
}

func anyPrivileged(p *corev1.Pod) bool {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if sc := list[i].SecurityContext; sc != nil && sc.Privileged != nil && *sc.Privileged {
				return true
			}
		}
	}
	for i := range p.Spec.EphemeralContainers {
		if sc := p.Spec.EphemeralContainers[i].SecurityContext; sc != nil && isTrue(sc.Privileged) {
			return true
		}
	}
	return false
}

func groups(sc *corev1.PodSecurityContext) []int64 {
	out := append([]int64(nil), sc.SupplementalGroups...)
	if sc.FSGroup != nil {
		out = append(out, *sc.FSGroup)
	}
	return out
}

func int64Value(v *int64) *cri.Int64Value {
	if v == nil {
		return nil
	}
	return &cri.Int64Value{Value: *v}
}

func seLinux(o *corev1.SELinuxOptions) *cri.SELinuxOption {
	if o == nil {
		return nil
	}
	return &cri.SELinuxOption{User: o.User, Role: o.Role, Type: o.Type, Level: o.Level}
}
