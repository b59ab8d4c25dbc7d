package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Warnings lists what a pod spec may say but hardly means.
func Warnings(spec *corev1.PodSpec, path *field.Path) []string {
	var out []string
	for _, list := range []struct {
		child string
		of    []corev1.Container
	}{{"initContainers", spec.InitContainers}, {"containers", spec.Containers}} {
		for i := range list.of {
			out = append(out, containerWarnings(&list.of[i], path.Child(list.child).Index(i))...)
		}
	}
	if g := spec.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		out = append(out, fmt.Sprintf("%s: must be >= 0; negative values are invalid and will be treated as 1", path.Child("terminationGracePeriodSeconds")))
	}
	seen := sets.New[string]()
	for i, alias := range spec.HostAliases {
		if seen.Has(alias.IP) {
			out = append(out, fmt.Sprintf("%s: duplicate ip %q", path.Child("hostAliases").Index(i).Child("ip"), alias.IP))
		}
		seen.Insert(alias.IP)
	}
	for i, ref := range spec.ImagePullSecrets {
		if ref.Name == "" {
			out = append(out, fmt.Sprintf("%s: invalid empty name %q", path.Child("imagePullSecrets").Index(i), ref.Name))
		}
	}
	return out
}

func containerWarnings(c *corev1.Container, path *field.Path) []string {
	var out []string
	seen := sets.New[string]()
	for i, env := range c.Env {
		if seen.Has(env.Name) {
			out = append(out, fmt.Sprintf("%s: hides previous definition of %q, which may be dropped when using apply", path.Child("env").Index(i), env.Name))
		}
		seen.Insert(env.Name)
	}
	ports := make(map[string]int)
	for i, port := range c.Ports {
		id := fmt.Sprintf("%s/%d/%d/%s", port.HostIP, port.HostPort, port.ContainerPort, port.Protocol)
		if before, ok := ports[id]; ok {
			out = append(out, fmt.Sprintf("%s: duplicate port definition with %s", path.Child("ports").Index(i), path.Child("ports").Index(before)))
		}
		ports[id] = i
	}
	for _, list := range []struct {
		child string
		of    corev1.ResourceList
	}{{"limits", c.Resources.Limits}, {"requests", c.Resources.Requests}} {
		if q, ok := list.of[corev1.ResourceMemory]; ok && q.MilliValue()%1000 != 0 {
			out = append(out, fmt.Sprintf("%s: fractional byte value %q is invalid, must be an integer", path.Child("resources", list.child).Key(string(corev1.ResourceMemory)), q.String()))
		}
	}
	return out
}
