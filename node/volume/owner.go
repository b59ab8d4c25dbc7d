package volume

import (
	"io/fs"
	"os"

	corev1 "k8s.io/api/core/v1"
)

// own sets owner and mode of a file below root. Content is read-only for the group of a pod
// (fsGroup): it gets read, and folders also the set-group bit so that new files keep the group.
func own(root *os.Root, name string, mode fs.FileMode, uid, gid *int64) error {
	if uid != nil || gid != nil {
		if err := root.Lchown(name, id(uid), id(gid)); err != nil {
			return err
		}
	}
	// After the change of owner, which takes set-id bits away.
	return root.Chmod(name, groupMode(mode, gid))
}

func groupMode(mode fs.FileMode, gid *int64) fs.FileMode {
	if gid == nil {
		return mode
	}
	if mode.IsDir() {
		return mode | 0o550 | fs.ModeSetgid
	}
	return mode | 0o440
}

// id is what chown takes: -1 leaves the owner as it is.
func id(v *int64) int {
	if v == nil {
		return -1
	}
	return int(*v)
}

// fsGroup owns the volumes of a pod; nil means root does.
func fsGroup(pod *corev1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroup
}

// fsUser is the user all containers of a pod run as, nil when they differ or none is named. Only
// then a token can belong to the one who reads it.
func fsUser(pod *corev1.Pod) *int64 {
	var base, out *int64
	if pod.Spec.SecurityContext != nil {
		base = pod.Spec.SecurityContext.RunAsUser
	}
	for i, c := range allContainers(pod) {
		uid := base
		if c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
			uid = c.SecurityContext.RunAsUser
		}
		if uid == nil || i > 0 && *uid != *out {
			return nil
		}
		out = uid
	}
	return out
}

func allContainers(pod *corev1.Pod) []*corev1.Container {
	var out []*corev1.Container
	for i := range pod.Spec.InitContainers {
		out = append(out, &pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		out = append(out, &pod.Spec.Containers[i])
	}
	for i := range pod.Spec.EphemeralContainers {
		c := corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		out = append(out, &c)
	}
	return out
}
