package storageprotection

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// The finalizers, which are Kubernetes'.
const (
	ClaimFinalizer      = "kubernetes.io/pvc-protection"
	VolumeFinalizer     = "kubernetes.io/pv-protection"
	AttributesFinalizer = "kubernetes.io/vac-protection"
)

var (
	claims     = messages.Resource{Resource: "persistentvolumeclaims"}
	volumes    = messages.Resource{Resource: "persistentvolumes"}
	attributes = messages.Resource{Group: storagev1.GroupName, Resource: "volumeattributesclasses"}
)

// protection is the controller; its keys are those of claims, volumes and classes.
type protection struct{ controller.Deps }

// Spec returns the controller.
func Spec(d controller.Deps) controller.Spec {
	p := &protection{d}
	return controller.Spec{
		Name: "storageprotection",
		Watches: []controller.Watch{
			{Resource: claims, Keys: p.ofClaim},
			{Resource: volumes, Keys: p.ofVolume},
			{Resource: attributes, Keys: going},
			{Resource: messages.Pods, Keys: ofPod},
		},
		Reconcile: p.reconcile,
	}
}

// going is the object itself, if it is to go.
func going(c objects.Change) []messages.Key {
	if c.New == nil || c.New.GetDeletionTimestamp() == nil {
		return nil
	}
	return []messages.Key{c.Key}
}

// ofClaim adds the classes that the claim may have let go of.
func (p *protection) ofClaim(c objects.Change) []messages.Key {
	keys := going(c)
	if old, ok := c.Old.(*corev1.PersistentVolumeClaim); ok {
		for _, name := range classesOfClaim(old) {
			keys = append(keys, messages.KeyOf(attributes, "", name))
		}
	}
	return keys
}

func (p *protection) ofVolume(c objects.Change) []messages.Key {
	keys := going(c)
	if old, ok := c.Old.(*corev1.PersistentVolume); ok {
		if name := ptr.Deref(old.Spec.VolumeAttributesClassName, ""); name != "" {
			keys = append(keys, messages.KeyOf(attributes, "", name))
		}
	}
	return keys
}

// ofPod is the claims of a pod that ended or is gone.
func ofPod(c objects.Change) []messages.Key {
	pod, ok := c.New.(*corev1.Pod)
	if ok && !ended(pod) {
		return nil
	}
	if !ok {
		if pod, ok = c.Old.(*corev1.Pod); !ok {
			return nil
		}
	}
	var keys []messages.Key
	for i := range pod.Spec.Volumes {
		if name, _ := claimOf(pod, &pod.Spec.Volumes[i]); name != "" {
			keys = append(keys, messages.KeyOf(claims, pod.Namespace, name))
		}
	}
	return keys
}

func (p *protection) reconcile(ctx context.Context, key messages.Key) (controller.Result, error) {
	obj, ok := p.Reader.Get(key)
	if !ok || obj.GetDeletionTimestamp() == nil {
		return controller.Result{}, nil
	}
	finalizer, used := p.use(key, obj)
	if used || !slices.Contains(obj.GetFinalizers(), finalizer) {
		return controller.Result{}, nil
	}
	_, err := p.Writer.Mutate(ctx, key, "", func(o objects.Object) (objects.Object, error) {
		o.SetFinalizers(slices.DeleteFunc(o.GetFinalizers(), func(f string) bool { return f == finalizer }))
		return o, nil
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return controller.Result{}, fmt.Errorf("let %s go: %w", key, err)
	}
	return controller.Result{}, nil
}

// use returns the finalizer of an object, and whether somebody uses it.
func (p *protection) use(key messages.Key, obj objects.Object) (finalizer string, used bool) {
	switch o := obj.(type) {
	case *corev1.PersistentVolumeClaim:
		pods := objects.List[*corev1.Pod](p.Reader, messages.Pods, key.Namespace)
		return ClaimFinalizer, slices.ContainsFunc(pods, func(pod *corev1.Pod) bool { return uses(pod, key.Name) })
	case *corev1.PersistentVolume:
		return VolumeFinalizer, o.Status.Phase == corev1.VolumeBound
	}
	for _, c := range objects.List[*corev1.PersistentVolumeClaim](p.Reader, claims, "") {
		if slices.Contains(classesOfClaim(c), key.Name) {
			return AttributesFinalizer, true
		}
	}
	return AttributesFinalizer, slices.ContainsFunc(objects.List[*corev1.PersistentVolume](p.Reader, volumes, ""),
		func(v *corev1.PersistentVolume) bool {
			return ptr.Deref(v.Spec.VolumeAttributesClassName, "") == key.Name
		})
}

// ended says that the pod will not touch its volumes again.
func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// uses says whether the pod holds the claim. A pod without a node does not: no node would start it.
// A claim that was made for the pod alone need not outlast its end.
func uses(pod *corev1.Pod, claim string) bool {
	if pod.Spec.NodeName == "" {
		return false
	}
	for i := range pod.Spec.Volumes {
		if name, own := claimOf(pod, &pod.Spec.Volumes[i]); name == claim && !(own && ended(pod)) {
			return true
		}
	}
	return false
}

// claimOf names the claim behind a volume, and says whether it was made for the pod.
func claimOf(pod *corev1.Pod, v *corev1.Volume) (name string, own bool) {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName, false
	case v.Ephemeral != nil:
		return pod.Name + "-" + v.Name, true
	}
	return "", false
}

func classesOfClaim(c *corev1.PersistentVolumeClaim) []string {
	var out []string
	for _, name := range []*string{c.Spec.VolumeAttributesClassName, c.Status.CurrentVolumeAttributesClassName} {
		if n := ptr.Deref(name, ""); n != "" {
			out = append(out, n)
		}
	}
	if m := c.Status.ModifyVolumeStatus; m != nil && m.TargetVolumeAttributesClassName != "" {
		out = append(out, m.TargetVolumeAttributesClassName)
	}
	return out
}
