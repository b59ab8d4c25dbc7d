package gc

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

func (c *collector) reconcile(ctx context.Context, key messages.Key) (controller.Result, error) {
	obj, ok := c.Reader.Get(key)
	if !ok {
		return controller.Result{}, nil
	}
	var err error
	switch {
	case obj.GetDeletionTimestamp() != nil && slices.Contains(obj.GetFinalizers(), metav1.FinalizerOrphanDependents):
		err = c.orphan(ctx, key, obj)
	case waits(obj):
		err = c.release(ctx, key, obj)
	case obj.GetDeletionTimestamp() == nil && len(obj.GetOwnerReferences()) > 0:
		err = c.collect(ctx, key, obj)
	}
	return controller.Result{}, err
}

// orphan takes an owner off its dependents and lets it go.
func (c *collector) orphan(ctx context.Context, key messages.Key, owner objects.Object) error {
	all := c.dependents(owner.GetUID())
	_, err := controller.SlowStart(ctx, len(all), func(ctx context.Context, i int) error {
		return c.strip(ctx, all[i].key, all[i].obj.GetUID(), []types.UID{owner.GetUID()})
	})
	if err != nil {
		return fmt.Errorf("orphan the dependents of %s: %w", key, err)
	}
	return c.unfinalize(ctx, key, owner, metav1.FinalizerOrphanDependents)
}

// release lets an owner go that is deleted in the foreground, once nothing holds it up.
func (c *collector) release(ctx context.Context, key messages.Key, owner objects.Object) error {
	if slices.ContainsFunc(c.dependents(owner.GetUID()), func(d dependent) bool { return blocks(d, owner.GetUID()) }) {
		return nil // the change that ends this comes here again
	}
	return c.unfinalize(ctx, key, owner, metav1.FinalizerDeleteDependents)
}

// collect looks at an object's owners and deletes it when none is left.
func (c *collector) collect(ctx context.Context, key messages.Key, obj objects.Object) error {
	refs := obj.GetOwnerReferences()
	relations := make([]relation, len(refs))
	for i, ref := range refs {
		relations[i] = c.relation(key, ref)
		if relations[i] == misplaced || relations[i] == unresolvable {
			where := "namespace " + key.Namespace
			if key.Namespace == "" {
				where = "cluster scope"
			}
			c.Recorder.Event(obj, corev1.EventTypeWarning, "OwnerRefInvalidNamespace",
				fmt.Sprintf("ownerRef [%s/%s, name: %s, uid: %s] does not exist in %s", ref.APIVersion, ref.Kind, ref.Name, ref.UID, where))
		}
	}
	v := judge(obj, relations, c.dependents(obj.GetUID()))
	if len(v.strip) > 0 {
		return c.strip(ctx, key, obj.GetUID(), v.strip)
	}
	if v.policy == "" {
		return nil
	}
	pre := metav1.NewUIDPreconditions(string(obj.GetUID()))
	if v.unblock {
		if err := c.unblock(ctx, key, obj.GetUID()); err != nil {
			return err
		}
	} else {
		version := obj.GetResourceVersion() // an owner that was added meanwhile counts
		pre.ResourceVersion = &version
	}
	err := c.Writer.Delete(ctx, key, metav1.DeleteOptions{PropagationPolicy: &v.policy, Preconditions: pre})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("collect %s: %w", key, err)
	}
	return nil
}

// strip takes owners off an object, if it is still the same one.
func (c *collector) strip(ctx context.Context, key messages.Key, uid types.UID, owners []types.UID) error {
	return c.mutate(ctx, key, uid, "strip owners of", func(o objects.Object) {
		o.SetOwnerReferences(slices.DeleteFunc(slices.Clone(o.GetOwnerReferences()), func(r metav1.OwnerReference) bool {
			return slices.Contains(owners, r.UID)
		}))
	})
}

func (c *collector) unblock(ctx context.Context, key messages.Key, uid types.UID) error {
	return c.mutate(ctx, key, uid, "unblock the owners of", func(o objects.Object) {
		refs := slices.Clone(o.GetOwnerReferences())
		for i := range refs {
			no := false
			refs[i].BlockOwnerDeletion = &no
		}
		o.SetOwnerReferences(refs)
	})
}

func (c *collector) unfinalize(ctx context.Context, key messages.Key, obj objects.Object, finalizer string) error {
	return c.mutate(ctx, key, obj.GetUID(), "take finalizer "+finalizer+" off", func(o objects.Object) {
		o.SetFinalizers(slices.DeleteFunc(slices.Clone(o.GetFinalizers()), func(f string) bool { return f == finalizer }))
	})
}

func (c *collector) mutate(ctx context.Context, key messages.Key, uid types.UID, act string, fn func(objects.Object)) error {
	_, err := c.Writer.Mutate(ctx, key, "", func(o objects.Object) (objects.Object, error) {
		if o.GetUID() == uid {
			fn(o)
		}
		return o, nil
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("%s %s: %w", act, key, err)
	}
	return nil
}
