package pod

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestForbidden(t *testing.T) {
	t.Parallel()
	sysctls := func(names ...string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{}
			for _, n := range names {
				p.Spec.SecurityContext.Sysctls = append(p.Spec.SecurityContext.Sysctls, corev1.Sysctl{Name: n, Value: "1"})
			}
		}
	}
	for _, tt := range []struct {
		name string
		edit []func(*corev1.Pod)
		want string
	}{
		{"nothing", nil, ""},
		{"safe ones", []func(*corev1.Pod){sysctls("kernel.shm_rmid_forced", "net/ipv4/tcp_syncookies")}, ""},
		{"an unsafe one", []func(*corev1.Pod){sysctls("net.ipv4.tcp_rmem", "kernel.msgmax")}, `SysctlForbidden forbidden sysctl: "kernel.msgmax" not allowlisted`},
		{"one of the machine's network", []func(*corev1.Pod){sysctls("net.ipv4.tcp_rmem"), func(p *corev1.Pod) { p.Spec.HostNetwork = true }},
			`SysctlForbidden forbidden sysctl: "net.ipv4.tcp_rmem" not allowed with host net enabled`},
		{"one of the machine's memory", []func(*corev1.Pod){sysctls("kernel.shm_rmid_forced"), func(p *corev1.Pod) { p.Spec.HostIPC = true }},
			`SysctlForbidden forbidden sysctl: "kernel.shm_rmid_forced" not allowed with host ipc enabled`},
		{"Linux", []func(*corev1.Pod){func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Linux} }}, ""},
		{"Windows", []func(*corev1.Pod){func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }},
			"PodOSNotSupported Failed to admit pod as the OS field doesn't match node OS"},
	} {
		f := forbidden(&newTestPod("web", tt.edit...).Spec)
		if got := strings.TrimSpace(f.reason + " " + f.message); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestUsersOfItsOwnOrNone(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		no := false
		b.want(newTestPod("web", func(p *corev1.Pod) { p.Spec.HostUsers = &no }))
		pass(5 * time.Second)
		if st := b.status(); st.Phase != corev1.PodPending || b.ctl.count(eventCreated) != 0 || b.ctl.count(eventFailedSandbox) == 0 {
			t.Errorf("%s\n%s", st.Phase, strings.Join(b.ctl.events, "\n"))
		}
	})
}
