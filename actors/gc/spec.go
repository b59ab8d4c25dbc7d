package gc

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// collector is the garbage collector; its keys are those of any object.
type collector struct {
	controller.Deps
}

// Spec returns the garbage collector of owner references.
func Spec(d controller.Deps) controller.Spec {
	c := &collector{d}
	return controller.Spec{
		Name:      "garbage-collector",
		Watches:   []controller.Watch{{Keys: c.concerned}},
		Reconcile: c.reconcile,
		Workers:   32,
	}
}

// concerned returns what to look at after a change; almost always nothing. The reader is never
// behind the change, which makes it safe to pass over an object whose owners are all there: when
// one of them goes later, that change finds the object by the index.
func (c *collector) concerned(ch objects.Change) (out []messages.Key) {
	if ch.Key.Resource.Resource == messages.Events.Resource {
		return nil
	}
	if ch.New == nil {
		return append(c.dependentKeys(ch.Old.GetUID()), c.waitingOwners(ch.Old)...)
	}
	if ch.Old != nil && lostHold(ch.Old, ch.New) {
		out = c.waitingOwners(ch.Old)
	}
	if ch.New.GetDeletionTimestamp() != nil {
		if slices.Contains(ch.New.GetFinalizers(), metav1.FinalizerOrphanDependents) {
			return append(out, ch.Key)
		}
		if waits(ch.New) {
			out = append(out, ch.Key)
			if ch.Old == nil || !waits(ch.Old) {
				out = append(out, c.dependentKeys(ch.New.GetUID())...)
			}
		}
		return out
	}
	refs := ch.New.GetOwnerReferences()
	if len(refs) == 0 || ch.Old != nil && slices.EqualFunc(refs, ch.Old.GetOwnerReferences(), sameRef) {
		return out
	}
	for _, ref := range refs {
		if c.relation(ch.Key, ref) != solid {
			return append(out, ch.Key)
		}
	}
	return out
}

// lostHold says that an object stopped blocking one of its owners.
func lostHold(old, now objects.Object) bool {
	return !slices.EqualFunc(old.GetOwnerReferences(), now.GetOwnerReferences(), sameRef)
}

func sameRef(a, b metav1.OwnerReference) bool {
	return a.UID == b.UID && (a.BlockOwnerDeletion != nil && *a.BlockOwnerDeletion) == (b.BlockOwnerDeletion != nil && *b.BlockOwnerDeletion)
}

// waits says that an object is being deleted in the foreground: after its dependents.
func waits(obj objects.Object) bool {
	return obj.GetDeletionTimestamp() != nil && slices.Contains(obj.GetFinalizers(), metav1.FinalizerDeleteDependents)
}

// waitingOwners returns those owners of obj that wait for their dependents to go.
func (c *collector) waitingOwners(obj objects.Object) (out []messages.Key) {
	for _, ref := range obj.GetOwnerReferences() {
		if key, owner := c.owner(obj.GetNamespace(), ref); owner != nil && waits(owner) {
			out = append(out, key)
		}
	}
	return out
}

// dependent is an object that names another one as its owner.
type dependent struct {
	key messages.Key
	obj objects.Object
}

// dependents returns everything that names uid as an owner.
func (c *collector) dependents(uid types.UID) (out []dependent) {
	for _, res := range c.Reader.Resources() {
		if res.Resource == messages.Events.Resource {
			continue
		}
		for _, obj := range c.Reader.Index(res, objects.IndexOwner, string(uid)) {
			out = append(out, dependent{messages.KeyOf(res, obj.GetNamespace(), obj.GetName()), obj})
		}
	}
	return out
}

func (c *collector) dependentKeys(uid types.UID) (out []messages.Key) {
	for _, d := range c.dependents(uid) {
		out = append(out, d.key)
	}
	return out
}
