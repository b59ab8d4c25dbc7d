package volume

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Mounts says what of the pod's volumes to mount into one container, after Setup. lookup returns
// a variable of the container's environment, for $(NAME) in a subPathExpr. Call it for every start
// of a container: a subPath is resolved anew, because containers may have moved what it names.
// Images that are volumes are named as the manifest names them.
func (m *Manager) Mounts(pod *corev1.Pod, c *corev1.Container, lookup func(name string) (string, error)) ([]*runtimeapi.Mount, error) {
	var out []*runtimeapi.Mount
	for i := range c.VolumeMounts {
		mount, err := m.mount(pod, c, i, lookup)
		if err != nil {
			return nil, fmt.Errorf("mount volume %q into container %q: %w", c.VolumeMounts[i].Name, c.Name, err)
		}
		out = append(out, mount)
	}
	return out, nil
}

func (m *Manager) mount(pod *corev1.Pod, c *corev1.Container, index int, lookup func(string) (string, error)) (*runtimeapi.Mount, error) {
	want := &c.VolumeMounts[index]
	v := findVolume(pod, want.Name)
	if v == nil {
		return nil, errors.New("the pod has no such volume")
	}
	source, err := m.source(pod, v)
	if err != nil {
		return nil, err
	}
	sub := want.SubPath
	if want.SubPathExpr != "" {
		if sub, err = expand(want.SubPathExpr, lookup); err != nil {
			return nil, fmt.Errorf("expand subPathExpr %q: %w", want.SubPathExpr, err)
		}
	}
	if v.Image != nil { // the runtime finds the files
		return &runtimeapi.Mount{
			ContainerPath: filepath.Join("/", want.MountPath), Readonly: true, ImageSubPath: sub,
			Image: &runtimeapi.ImageSpec{Image: v.Image.Reference, UserSpecifiedImage: v.Image.Reference},
		}, nil
	}
	if sub != "" {
		if source, err = m.bindSubPath(pod, v, c.Name, index, source, sub); err != nil {
			return nil, fmt.Errorf("prepare subPath %q: %w", sub, err)
		}
	}
	target := want.MountPath
	if !filepath.IsAbs(target) {
		target = filepath.Join("/", target)
	}
	mount := &runtimeapi.Mount{
		ContainerPath: target,
		HostPath:      source,
		// What comes from the cluster is nobody's to change, whatever the manifest says.
		Readonly: want.ReadOnly || hasContent(v),
	}
	if want.RecursiveReadOnly != nil && *want.RecursiveReadOnly == corev1.RecursiveReadOnlyEnabled {
		mount.RecursiveReadOnly = true
	}
	if want.MountPropagation != nil {
		switch *want.MountPropagation {
		case corev1.MountPropagationHostToContainer:
			mount.Propagation = runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
		case corev1.MountPropagationBidirectional:
			mount.Propagation = runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL
		}
	}
	return mount, nil
}

// source is where a volume lies on the node.
func (m *Manager) source(pod *corev1.Pod, v *corev1.Volume) (string, error) {
	if v.HostPath != nil {
		return filepath.Clean(v.HostPath.Path), nil
	}
	return m.volumeDir(pod.UID, v.Name)
}

func findVolume(pod *corev1.Pod, name string) *corev1.Volume {
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Name == name {
			return &pod.Spec.Volumes[i]
		}
	}
	return nil
}

// expand replaces each $(NAME) in expr by its value; $$ stands for a dollar sign. Anything else is
// taken as it is, like in commands of containers.
func expand(expr string, lookup func(string) (string, error)) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(expr, "$")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		expr = rest
		if after, ok := strings.CutPrefix(rest, "$"); ok {
			out.WriteByte('$')
			expr = after
			continue
		}
		name, after, closed := strings.Cut(strings.TrimPrefix(rest, "("), ")")
		if !strings.HasPrefix(rest, "(") || !closed {
			out.WriteByte('$')
			continue
		}
		value, err := lookup(name)
		if err != nil {
			return "", err
		}
		out.WriteString(value)
		expr = after
	}
}
