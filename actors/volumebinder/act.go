package volumebinder

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/volume"

	"github.com/troupe-run/troupe/actors/objects"
)

func (b *binder) doClaim(ctx context.Context, c *corev1.PersistentVolumeClaim, step claimStep) error {
	if step.bind != nil {
		return b.bind(ctx, step.bind, c)
	}
	if step.class != "" {
		next := c.DeepCopy()
		next.Spec.StorageClassName = &step.class
		_, err := b.Writer.Update(ctx, next)
		return settled(err, "give a class to", c)
	}
	b.tell(c, step.note)
	var err error
	if step.provisioner != "" {
		if c, err = b.annotate(ctx, c, step.provisioner); err != nil {
			return settled(err, "annotate", c)
		}
	}
	next := c.DeepCopy()
	if next.Status.Phase = step.phase; step.phase == corev1.ClaimPending {
		next.Status.AccessModes, next.Status.Capacity = nil, nil
	}
	if equality.Semantic.DeepEqual(next.Status, c.Status) {
		return nil
	}
	_, err = b.Writer.UpdateStatus(ctx, next)
	return settled(err, "set the phase of", c)
}

// annotate tells a provisioner that a claim waits for it.
func (b *binder) annotate(ctx context.Context, c *corev1.PersistentVolumeClaim, provisioner string) (*corev1.PersistentVolumeClaim, error) {
	if c.Annotations[volume.AnnStorageProvisioner] == provisioner && c.Annotations[volume.AnnBetaStorageProvisioner] == provisioner {
		return c, nil
	}
	next := c.DeepCopy()
	metav1.SetMetaDataAnnotation(&next.ObjectMeta, volume.AnnBetaStorageProvisioner, provisioner)
	metav1.SetMetaDataAnnotation(&next.ObjectMeta, volume.AnnStorageProvisioner, provisioner)
	out, err := b.Writer.Update(ctx, next)
	if err != nil {
		return c, err
	}
	return out.(*corev1.PersistentVolumeClaim), nil
}

// bind makes a volume and a claim refer to each other by one transaction, and then says so in both
// statuses by another. Whatever of it is done already is left out.
func (b *binder) bind(ctx context.Context, v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) error {
	nextVolume, changed, err := volume.GetBindVolumeToClaim(v, c)
	if err != nil {
		return fmt.Errorf("bind %s to %s/%s: %w", v.Name, c.Namespace, c.Name, err)
	}
	nextClaim := boundClaim(v, c)
	// With their resourceVersions: neither may have changed since it was decided.
	var writes []func(context.Context) error
	if changed {
		writes = append(writes, func(ctx context.Context) error { return write(ctx, b.Writer.Update, nextVolume, &v) })
	}
	if !equality.Semantic.DeepEqual(nextClaim, c) {
		writes = append(writes, func(ctx context.Context) error { return write(ctx, b.Writer.Update, nextClaim, &c) })
	}
	if err := b.Writer.All(ctx, writes...); err != nil {
		return settled(err, "bind", c)
	}
	writes = nil
	if next := b.inPhase(v, corev1.VolumeBound, ""); next != nil {
		writes = append(writes, func(ctx context.Context) error { return write(ctx, b.Writer.UpdateStatus, next, &v) })
	}
	if next := boundStatus(v, c); !equality.Semantic.DeepEqual(next.Status, c.Status) {
		writes = append(writes, func(ctx context.Context) error { return write(ctx, b.Writer.UpdateStatus, next, &c) })
	}
	b.forget(c.UID)
	return settled(b.Writer.All(ctx, writes...), "say bound of", c)
}

// write calls one of a writer's methods and puts the outcome in place of what it was made of.
func write[T objects.Object](ctx context.Context, do func(context.Context, objects.Object) (objects.Object, error), next T, into *T) error {
	out, err := do(ctx, next)
	if err == nil {
		*into = out.(T)
	}
	return err
}

// boundClaim returns the claim as it refers to a volume.
func boundClaim(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	next := c.DeepCopy()
	if next.Spec.VolumeName != v.Name {
		next.Spec.VolumeName = v.Name
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, volume.AnnBoundByController, "yes")
	}
	if _, ok := next.Annotations[volume.AnnBindCompleted]; !ok {
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, volume.AnnBindCompleted, "yes")
	}
	return next
}

// boundStatus returns a bound claim with what its volume gives it. A size that was negotiated since
// stays.
func boundStatus(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	next := c.DeepCopy()
	if _, ok := c.Status.Capacity[corev1.ResourceStorage]; !ok || c.Status.Phase != corev1.ClaimBound {
		next.Status.Capacity = v.Spec.Capacity.DeepCopy()
		next.Status.CurrentVolumeAttributesClassName = v.Spec.VolumeAttributesClassName
	}
	next.Status.Phase, next.Status.AccessModes = corev1.ClaimBound, v.Spec.AccessModes
	return next
}

func (b *binder) doVolume(ctx context.Context, v *corev1.PersistentVolume, step volumeStep) error {
	b.tell(v, step.note)
	if step.unbind {
		out, err := b.Writer.Update(ctx, unbound(v))
		if err != nil {
			return settled(err, "unbind", v)
		}
		v = out.(*corev1.PersistentVolume)
	}
	if step.phase == "" {
		return nil
	}
	next := b.inPhase(v, step.phase, step.message)
	if next == nil {
		return nil
	}
	_, err := b.Writer.UpdateStatus(ctx, next)
	return settled(err, "set the phase of", v)
}

// unbound returns a volume without its claim; one that a user has reserved stays reserved by name.
func unbound(v *corev1.PersistentVolume) *corev1.PersistentVolume {
	next := v.DeepCopy()
	if _, ok := next.Annotations[volume.AnnBoundByController]; !ok {
		next.Spec.ClaimRef.UID = ""
		return next
	}
	next.Spec.ClaimRef = nil
	delete(next.Annotations, volume.AnnBoundByController)
	return next
}

// inPhase returns a volume in a phase, nil if it is in it already.
func (b *binder) inPhase(v *corev1.PersistentVolume, phase corev1.PersistentVolumePhase, message string) *corev1.PersistentVolume {
	if v.Status.Phase == phase && v.Status.Message == message {
		return nil
	}
	next := v.DeepCopy()
	if v.Status.Phase != phase {
		now := metav1.NewTime(b.Clock.Now())
		next.Status.LastPhaseTransitionTime = &now
	}
	next.Status.Phase, next.Status.Message, next.Status.Reason = phase, message, ""
	return next
}

// settled is the error of a write. What changed or went away meanwhile comes again by itself.
func settled(err error, act string, obj objects.Object) error {
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("%s %s/%s: %w", act, obj.GetNamespace(), obj.GetName(), err)
}

// tell records an Event, unless it was the last one told of the object.
func (b *binder) tell(obj objects.Object, n note) {
	b.mu.Lock()
	was := b.told[obj.GetUID()]
	if n == (note{}) {
		delete(b.told, obj.GetUID())
	} else {
		b.told[obj.GetUID()] = n
	}
	b.mu.Unlock()
	if n != (note{}) && n != was {
		b.Recorder.Event(obj, n.kind, n.reason, n.message)
	}
}

func (b *binder) forget(uid types.UID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.told, uid)
}
