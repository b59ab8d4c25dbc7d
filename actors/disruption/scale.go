package disruption

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// scaleOf adds up what the controllers of pods want, each counted once.
func scaleOf(r objects.Reader, pods []*corev1.Pod) (s scale) {
	seen := make(map[types.UID]bool)
	for _, p := range pods {
		ref := metav1.GetControllerOf(p)
		if ref == nil {
			s.unmanaged = append(s.unmanaged, p.Name)
			continue
		}
		if seen[ref.UID] {
			continue
		}
		uid, n, err := wants(r, p.Namespace, ref)
		if err != nil {
			s.err = err
			return s
		}
		if uid == "" {
			s.err = fmt.Errorf("found no controllers for pod %q", p.Name)
			return s
		}
		if seen[ref.UID] = true; !seen[uid] || uid == ref.UID {
			seen[uid] = true
			s.pods += n
		}
	}
	return s
}

// wants returns the controller that decides about the number of pods, which for a Deployment is
// behind the one the pods name, and that number. The UID is empty when it is gone.
func wants(r objects.Reader, namespace string, ref *metav1.OwnerReference) (types.UID, int32, error) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return "", 0, err
	}
	owner, res := find(r, gv.Group, namespace, ref)
	if owner == nil || owner.GetUID() != ref.UID {
		return "", 0, nil
	}
	switch o := owner.(type) {
	case *appsv1.ReplicaSet:
		if up := metav1.GetControllerOf(o); up != nil && up.Kind == "Deployment" {
			if d, ok := objects.Get[*appsv1.Deployment](r, messages.KeyOf(messages.Deployments, namespace, up.Name)); ok && d.UID == up.UID {
				return d.UID, ptr.Deref(d.Spec.Replicas, 1), nil
			}
			return "", 0, nil
		}
		return o.UID, ptr.Deref(o.Spec.Replicas, 1), nil
	case *appsv1.StatefulSet:
		return o.UID, ptr.Deref(o.Spec.Replicas, 1), nil
	case *corev1.ReplicationController:
		return o.UID, ptr.Deref(o.Spec.Replicas, 1), nil
	case *unstructured.Unstructured:
		if n, ok, err := unstructured.NestedInt64(o.Object, "spec", "replicas"); ok && err == nil {
			return o.GetUID(), int32(n), nil
		}
	}
	return "", 0, fmt.Errorf("%s does not implement the scale subresource", schema.GroupResource{Group: res.Group, Resource: res.Resource})
}

// find looks an owner up by its kind: among the resources of its group the one named like it.
func find(r objects.Reader, group, namespace string, ref *metav1.OwnerReference) (objects.Object, messages.Resource) {
	stem := strings.ToLower(ref.Kind)
	stem = stem[:max(len(stem)-1, 0)] // what the plural keeps of it: policy, policies
	for _, res := range r.Resources() {
		if res.Group != group || !strings.HasPrefix(res.Resource, stem) {
			continue
		}
		if o, ok := r.Get(messages.KeyOf(res, namespace, ref.Name)); ok && o.GetUID() == ref.UID {
			return o, res
		}
	}
	return nil, messages.Resource{}
}
