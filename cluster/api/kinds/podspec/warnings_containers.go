package podspec

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// containers warns of what containers say of themselves, and of ports they have in common.
func (w *warnings) containers(spec *corev1.PodSpec) {
	visit(spec, w.path.Child("spec"), func(c *corev1.Container, path *field.Path) {
		w.amounts(c.Resources.Limits, func() *field.Path { return path.Child("resources", "limits") })
		w.amounts(c.Resources.Requests, func() *field.Path { return path.Child("resources", "requests") })
		seen := make(map[string]bool, len(c.Env))
		for i := range c.Env {
			e := &c.Env[i]
			again := seen[e.Name]
			seen[e.Name] = true
			// A value that is made of the one before means what it says.
			old := "$(" + e.Name + ")"
			if again && (e.ValueFrom != nil || e.Value == old || !strings.Contains(e.Value, old)) {
				w.add(path.Child("env").Index(i), "hides previous definition of %q, which may be dropped when using apply", e.Name)
			}
		}
	})
	type declared struct {
		port *corev1.ContainerPort
		at   *field.Path
	}
	type number struct {
		port     int32
		protocol corev1.Protocol
	}
	ports := make(map[number][]declared)
	visit(spec, w.path.Child("spec"), func(c *corev1.Container, path *field.Path) {
		for i := range c.Ports {
			port, path := &c.Ports[i], path.Child("ports").Index(i)
			if port.HostIP != "" && port.HostPort == 0 {
				w.add(path, "hostIP set without hostPort: %+v", *port)
			}
			n := number{port.ContainerPort, port.Protocol}
			for _, other := range ports[n] {
				switch o := other.port; {
				case port.HostIP == o.HostIP && port.HostPort == o.HostPort:
					w.add(path, "duplicate port definition with %s", other.at)
				case port.HostPort == 0 || o.HostPort == 0:
					w.add(path, "overlapping port definition with %s", other.at)
				case port.HostPort == o.HostPort && (port.HostIP == "") != (o.HostIP == ""):
					w.add(path, "dangerously ambiguous port definition with %s", other.at)
				}
			}
			ports[n] = append(ports[n], declared{port, path})
		}
	})
}

// amounts warns of parts of bytes.
func (w *warnings) amounts(list corev1.ResourceList, path func() *field.Path) {
	for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if q, ok := list[name]; ok && q.MilliValue()%1000 != 0 {
			w.add(path().Key(string(name)), "fractional byte value %q is invalid, must be an integer", q.String())
		}
	}
}
