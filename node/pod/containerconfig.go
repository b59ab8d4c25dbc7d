package pod

import (
	"errors"
	"fmt"
	"hash/fnv"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// environment is what the node adds to a pod's configuration.
type environment struct {
	node   string // name of the node
	logs   string // the pod's log folder; empty keeps no logs
	cgroup string // parent of the pod's cgroups; empty leaves it to the runtime
	dns    dnsFacts
	limits machine
}

// run is everything that goes into one run of a container beside its spec.
type run struct {
	attempt uint32
	round   uint32
	image   string
	env     []*cri.KeyValue
	mounts  []*cri.Mount
	backoff time.Duration
	// target is the container whose processes this one sees, empty for its own alone.
	target string
}

// hashOf tells definitions of a container apart that need a new run.
func hashOf(c *corev1.Container) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(c.Name))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(c.Image))
	return strconv.FormatUint(uint64(h.Sum32()), 16)
}

// containerConfig builds what the runtime needs to run a container.
func containerConfig(p *corev1.Pod, c *corev1.Container, r run, env environment) *cri.ContainerConfig {
	labels := podLabels(p)
	labels[labelContainer] = c.Name
	vars := lookup(r.env)
	out := &cri.ContainerConfig{
		Metadata:   &cri.ContainerMetadata{Name: c.Name, Attempt: r.attempt},
		Image:      &cri.ImageSpec{Image: r.image, UserSpecifiedImage: c.Image},
		Command:    expandAll(c.Command, vars),
		Args:       expandAll(c.Args, vars),
		WorkingDir: c.WorkingDir,
		Envs:       r.env,
		Mounts:     r.mounts,
		Labels:     labels,
		Annotations: map[string]string{
			noteHash:            hashOf(c),
			noteRestarts:        strconv.FormatUint(uint64(r.attempt), 10),
			noteTerminationPath: c.TerminationMessagePath,
			noteTerminationHow:  string(c.TerminationMessagePolicy),
			noteBackoff:         r.backoff.String(),
		},
		Stdin:     c.Stdin,
		StdinOnce: c.StdinOnce,
		Tty:       c.TTY,
		Linux:     &cri.LinuxContainerConfig{Resources: resources(p, c, env.limits), SecurityContext: securityContext(p, c)},
	}
	if r.round > 0 {
		out.Annotations[noteRound] = strconv.FormatUint(uint64(r.round), 10)
	}
	join(out.Linux.SecurityContext.NamespaceOptions, r.target)
	if env.logs != "" {
		out.LogPath = logPath(c.Name, r.attempt)
	}
	if l := c.Lifecycle; l != nil && l.StopSignal != nil {
		out.StopSignal = cri.Signal(cri.Signal_value[string(*l.StopSignal)])
	}
	return out
}

func logPath(name string, attempt uint32) string {
	return filepath.Join(name, strconv.FormatUint(uint64(attempt), 10)+".log")
}

// Paths of /proc and /sys that containers see masked or read-only unless procMount is Unmasked.
var (
	maskedPaths = []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// securityContext merges the pod's and the container's wishes; the container's win.
func securityContext(p *corev1.Pod, c *corev1.Container) *cri.LinuxContainerSecurityContext {
	out := &cri.LinuxContainerSecurityContext{NamespaceOptions: namespaces(p), MaskedPaths: maskedPaths, ReadonlyPaths: readonlyPaths}
	seccomp := (*corev1.SeccompProfile)(nil)
	armor := (*corev1.AppArmorProfile)(nil)
	if ps := p.Spec.SecurityContext; ps != nil {
		out.RunAsUser, out.RunAsGroup = int64Value(ps.RunAsUser), int64Value(ps.RunAsGroup)
		out.SupplementalGroups = groups(ps)
		out.SelinuxOptions = seLinux(ps.SELinuxOptions)
		seccomp, armor = ps.SeccompProfile, ps.AppArmorProfile
		if ps.SupplementalGroupsPolicy != nil && *ps.SupplementalGroupsPolicy == corev1.SupplementalGroupsPolicyStrict {
			out.SupplementalGroupsPolicy = cri.SupplementalGroupsPolicy_Strict
		}
	}
	if cs := c.SecurityContext; cs != nil {
		if cs.RunAsUser != nil {
			out.RunAsUser = int64Value(cs.RunAsUser)
		}
		if cs.RunAsGroup != nil {
			out.RunAsGroup = int64Value(cs.RunAsGroup)
		}
		if cs.SELinuxOptions != nil {
			out.SelinuxOptions = seLinux(cs.SELinuxOptions)
		}
		if cs.SeccompProfile != nil {
			seccomp = cs.SeccompProfile
		}
		if cs.AppArmorProfile != nil {
			armor = cs.AppArmorProfile
		}
		out.Privileged = cs.Privileged != nil && *cs.Privileged
		out.ReadonlyRootfs = cs.ReadOnlyRootFilesystem != nil && *cs.ReadOnlyRootFilesystem
		out.NoNewPrivs = cs.AllowPrivilegeEscalation != nil && !*cs.AllowPrivilegeEscalation
		if cs.Capabilities != nil {
			out.Capabilities = &cri.Capability{}
			for _, v := range cs.Capabilities.Add {
				out.Capabilities.AddCapabilities = append(out.Capabilities.AddCapabilities, string(v))
			}
			for _, v := range cs.Capabilities.Drop {
				out.Capabilities.DropCapabilities = append(out.Capabilities.DropCapabilities, string(v))
			}
		}
		if cs.ProcMount != nil && *cs.ProcMount == corev1.UnmaskedProcMount || out.Privileged {
			out.MaskedPaths, out.ReadonlyPaths = nil, nil
		}
	}
	out.Seccomp = seccompProfile(seccomp, out.Privileged)
	if armor != nil {
		out.Apparmor = appArmor(armor)
	}
	return out
}

func seccompProfile(s *corev1.SeccompProfile, privileged bool) *cri.SecurityProfile {
	switch {
	case privileged || s == nil || s.Type == corev1.SeccompProfileTypeUnconfined:
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}
	case s.Type == corev1.SeccompProfileTypeLocalhost && s.LocalhostProfile != nil:
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: *s.LocalhostProfile}
	}
	return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
}

func appArmor(a *corev1.AppArmorProfile) *cri.SecurityProfile {
	switch {
	case a.Type == corev1.AppArmorProfileTypeUnconfined:
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}
	case a.Type == corev1.AppArmorProfileTypeLocalhost && a.LocalhostProfile != nil:
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: *a.LocalhostProfile}
	}
	return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
}

// wantsNonRoot says whether the container must not run as root.
func wantsNonRoot(p *corev1.Pod, c *corev1.Container) bool {
	if c.SecurityContext != nil && c.SecurityContext.RunAsNonRoot != nil {
		return *c.SecurityContext.RunAsNonRoot
	}
	return p.Spec.SecurityContext != nil && p.Spec.SecurityContext.RunAsNonRoot != nil && *p.Spec.SecurityContext.RunAsNonRoot
}

// checkNonRoot refuses a container that must not run as root but would.
func checkNonRoot(sec *cri.LinuxContainerSecurityContext, image *cri.Image) error {
	switch {
	case sec.GetRunAsUser() != nil:
		if sec.GetRunAsUser().GetValue() == 0 {
			return errors.New("container's runAsUser breaks non-root policy")
		}
	case image.GetUid() != nil && image.GetUid().GetValue() == 0, image.GetUid() == nil && image.GetUsername() == "":
		return errors.New("container has runAsNonRoot and image will run as root")
	case image.GetUsername() != "":
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root", image.GetUsername())
	}
	return nil
}
