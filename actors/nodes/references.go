package nodes

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/messages"
)

// references lists, each once, the ConfigMaps and Secrets that a node needs to start a pod.
func references(pod *corev1.Pod) []messages.Key {
	r := refs{namespace: pod.Namespace, seen: make(map[messages.Key]bool)}
	for _, s := range pod.Spec.ImagePullSecrets {
		r.add(messages.Secrets, s.Name)
	}
	for i := range pod.Spec.InitContainers {
		r.env(pod.Spec.InitContainers[i].EnvFrom, pod.Spec.InitContainers[i].Env)
	}
	for i := range pod.Spec.Containers {
		r.env(pod.Spec.Containers[i].EnvFrom, pod.Spec.Containers[i].Env)
	}
	for i := range pod.Spec.EphemeralContainers {
		r.env(pod.Spec.EphemeralContainers[i].EnvFrom, pod.Spec.EphemeralContainers[i].Env)
	}
	for i := range pod.Spec.Volumes {
		r.volume(&pod.Spec.Volumes[i].VolumeSource)
	}
	return r.keys
}

type refs struct {
	namespace string
	seen      map[messages.Key]bool
	keys      []messages.Key
}

func (r *refs) add(res messages.Resource, name string) {
	key := messages.KeyOf(res, r.namespace, name)
	if name == "" || r.seen[key] {
		return
	}
	r.seen[key] = true
	r.keys = append(r.keys, key)
}

func (r *refs) env(from []corev1.EnvFromSource, env []corev1.EnvVar) {
	for _, f := range from {
		if f.ConfigMapRef != nil {
			r.add(messages.ConfigMaps, f.ConfigMapRef.Name)
		}
		if f.SecretRef != nil {
			r.add(messages.Secrets, f.SecretRef.Name)
		}
	}
	for _, e := range env {
		if e.ValueFrom == nil {
			continue
		}
		if ref := e.ValueFrom.ConfigMapKeyRef; ref != nil {
			r.add(messages.ConfigMaps, ref.Name)
		}
		if ref := e.ValueFrom.SecretKeyRef; ref != nil {
			r.add(messages.Secrets, ref.Name)
		}
	}
}

func (r *refs) volume(v *corev1.VolumeSource) {
	switch {
	case v.ConfigMap != nil:
		r.add(messages.ConfigMaps, v.ConfigMap.Name)
	case v.Secret != nil:
		r.add(messages.Secrets, v.Secret.SecretName)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				r.add(messages.ConfigMaps, s.ConfigMap.Name)
			}
			if s.Secret != nil {
				r.add(messages.Secrets, s.Secret.Name)
			}
		}
	}
}
