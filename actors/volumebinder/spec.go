package volumebinder

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/volume"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

var (
	volumes = messages.Resource{Resource: "persistentvolumes"}
	claims  = messages.Resource{Resource: "persistentvolumeclaims"}
	classes = messages.Resource{Group: "storage.k8s.io", Resource: "storageclasses"}
)

// These annotations mark the default class; the second is from before there was the first.
const (
	defaultMark     = "storageclass.kubernetes.io/is-default-class"
	betaDefaultMark = "storageclass.beta.kubernetes.io/is-default-class"
)

// binder is the controller; its keys are those of claims and of volumes.
type binder struct {
	controller.Deps

	mu   sync.Mutex
	told map[types.UID]note // what was last told of an object, so that it is not told again
}

// Spec returns the controller of volumes and claims. Its name makes its events come from
// persistentvolume-controller, as users know it.
func Spec(d controller.Deps) controller.Spec {
	b := &binder{Deps: d, told: map[types.UID]note{}}
	return controller.Spec{
		Name: "persistentvolume",
		Watches: []controller.Watch{
			{Resource: claims, Keys: b.ofClaim},
			{Resource: volumes, Keys: b.ofVolume},
			{Resource: classes, Keys: b.ofClass},
			{Resource: messages.Pods, Keys: b.ofPod},
		},
		Reconcile: b.reconcile,
	}
}

func volumeKey(name string) messages.Key           { return messages.KeyOf(volumes, "", name) }
func claimKey(namespace, name string) messages.Key { return messages.KeyOf(claims, namespace, name) }

// ofClaim returns the claim and the volume it names.
func (b *binder) ofClaim(ch objects.Change) []messages.Key {
	out := []messages.Key{ch.Key}
	for _, obj := range []objects.Object{ch.Old, ch.New} {
		if c, ok := obj.(*corev1.PersistentVolumeClaim); ok && c.Spec.VolumeName != "" {
			out = append(out, volumeKey(c.Spec.VolumeName))
		}
	}
	if old, ok := ch.Old.(*corev1.PersistentVolumeClaim); ok && ch.New == nil {
		b.forget(old.UID)
	}
	return out
}

// ofVolume returns the volume, the claim it refers to, and claims that may want it.
func (b *binder) ofVolume(ch objects.Change) []messages.Key {
	out := []messages.Key{ch.Key}
	for _, obj := range []objects.Object{ch.Old, ch.New} {
		if v, ok := obj.(*corev1.PersistentVolume); ok && v.Spec.ClaimRef != nil {
			out = append(out, claimKey(v.Spec.ClaimRef.Namespace, v.Spec.ClaimRef.Name))
		}
	}
	if old, ok := ch.Old.(*corev1.PersistentVolume); ok && ch.New == nil {
		b.forget(old.UID)
	}
	v, _ := ch.New.(*corev1.PersistentVolume)
	free := v != nil && v.Spec.ClaimRef == nil && v.Status.Phase == corev1.VolumeAvailable
	for _, c := range objects.List[*corev1.PersistentVolumeClaim](b.Reader, claims, "") {
		wants := c.Spec.VolumeName == "" && free && volume.GetPersistentVolumeClaimClass(c) == volume.GetPersistentVolumeClass(v)
		if wants || c.Spec.VolumeName == ch.Key.Name {
			out = append(out, claimKey(c.Namespace, c.Name))
		}
	}
	return out
}

// ofClass returns the claims of a class that wait, and those that any default class is for.
func (b *binder) ofClass(ch objects.Change) (out []messages.Key) {
	for _, c := range objects.List[*corev1.PersistentVolumeClaim](b.Reader, claims, "") {
		if c.Spec.VolumeName == "" && (volume.GetPersistentVolumeClaimClass(c) == ch.Key.Name || !volume.PersistentVolumeClaimHasClass(c)) {
			out = append(out, claimKey(c.Namespace, c.Name))
		}
	}
	return out
}

// ofPod returns the claims of a new pod: those that wait for it say so.
func (b *binder) ofPod(ch objects.Change) (out []messages.Key) {
	pod, ok := ch.New.(*corev1.Pod)
	if !ok || ch.Old != nil {
		return nil
	}
	for i := range pod.Spec.Volumes {
		if name := claimName(pod, &pod.Spec.Volumes[i]); name != "" {
			out = append(out, claimKey(pod.Namespace, name))
		}
	}
	return out
}

// claimName is the claim a pod's volume stands for, "" if none.
func claimName(pod *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return pod.Name + "-" + v.Name
	}
	return ""
}

func (b *binder) reconcile(ctx context.Context, key messages.Key) (controller.Result, error) {
	if key.Resource == volumes {
		v, ok := objects.Get[*corev1.PersistentVolume](b.Reader, key)
		if !ok {
			return controller.Result{}, nil
		}
		return controller.Result{}, b.doVolume(ctx, v, decideVolume(v, b))
	}
	c, ok := objects.Get[*corev1.PersistentVolumeClaim](b.Reader, key)
	if !ok {
		return controller.Result{}, nil
	}
	return controller.Result{}, b.doClaim(ctx, c, decideClaim(c, b))
}

// The binder is the view its decisions are made on.

func (b *binder) volume(name string) *corev1.PersistentVolume {
	v, _ := objects.Get[*corev1.PersistentVolume](b.Reader, volumeKey(name))
	return v
}

func (b *binder) volumes() []*corev1.PersistentVolume {
	return objects.List[*corev1.PersistentVolume](b.Reader, volumes, "")
}

func (b *binder) claim(namespace, name string) *corev1.PersistentVolumeClaim {
	c, _ := objects.Get[*corev1.PersistentVolumeClaim](b.Reader, claimKey(namespace, name))
	return c
}

func (b *binder) class(name string) *storagev1.StorageClass {
	c, _ := objects.Get[*storagev1.StorageClass](b.Reader, messages.KeyOf(classes, "", name))
	return c
}

// defaultClass is the class of claims that name none, "" if there is none: the newest of those that
// are marked as such.
func (b *binder) defaultClass() string {
	var newest *storagev1.StorageClass
	for _, c := range objects.List[*storagev1.StorageClass](b.Reader, classes, "") {
		if c.Annotations[defaultMark] != "true" && c.Annotations[betaDefaultMark] != "true" {
			continue
		}
		if newest == nil || newest.CreationTimestamp.Before(&c.CreationTimestamp) ||
			newest.CreationTimestamp.Equal(&c.CreationTimestamp) && c.Name < newest.Name {
			newest = c
		}
	}
	if newest == nil {
		return ""
	}
	return newest.Name
}

// waitingPod is a pod that uses a claim and has no node yet, "" if there is none.
func (b *binder) waitingPod(c *corev1.PersistentVolumeClaim) string {
	for _, pod := range objects.List[*corev1.Pod](b.Reader, messages.Pods, c.Namespace) {
		if pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil {
			continue
		}
		for i := range pod.Spec.Volumes {
			if claimName(pod, &pod.Spec.Volumes[i]) == c.Name {
				return pod.Name
			}
		}
	}
	return ""
}
