package gc

import (
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// relation is what an owner reference is worth at the moment.
type relation int

const (
	// solid: the owner is there, or of a kind that is not known.
	solid relation = iota
	// dangling: the owner is gone.
	dangling
	// waiting: the owner is being deleted and waits for its dependents.
	waiting
	// misplaced: the owner is in another namespace, which counts as gone.
	misplaced
	// unresolvable: an object without a namespace names an owner that has one; it is left alone.
	unresolvable
)

// kinds is a reader that knows the resources of kinds.
type kinds interface {
	ResourceOf(schema.GroupKind) (messages.Resource, bool)
}

// resourceOf returns the resource of an owner's kind; that of a kind that is not served is guessed.
func (c *collector) resourceOf(ref metav1.OwnerReference) messages.Resource {
	gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	if known, ok := c.Reader.(kinds); ok {
		if res, ok := known.ResourceOf(gvk.GroupKind()); ok {
			return res
		}
	}
	plural, _ := meta.UnsafeGuessKindToResource(gvk)
	return messages.Resource{Group: plural.Group, Resource: plural.Resource}
}

// owner finds the object a reference means, nil when it is not there: in the namespace of the
// dependent or in none.
func (c *collector) owner(namespace string, ref metav1.OwnerReference) (messages.Key, objects.Object) {
	res := c.resourceOf(ref)
	for _, ns := range []string{namespace, ""} {
		key := messages.KeyOf(res, ns, ref.Name)
		if obj, ok := c.Reader.Get(key); ok && obj.GetUID() == ref.UID {
			return key, obj
		}
		if ns == "" {
			break
		}
	}
	return messages.Key{}, nil
}

// relation says what a reference of the object under key is worth.
func (c *collector) relation(key messages.Key, ref metav1.OwnerReference) relation {
	_, owner := c.owner(key.Namespace, ref)
	switch {
	case owner != nil && waits(owner):
		return waiting
	case owner != nil:
		return solid
	}
	res := c.resourceOf(ref)
	served := c.Reader.Resources()
	if !slices.Contains(served, res) {
		// A kind with an irregular plural can only be told by its objects; without one it is unknown.
		for _, other := range served {
			if other.Group != res.Group {
				continue
			}
			if obj := c.byUID(other, ref); obj != nil && waits(obj) {
				return waiting
			}
		}
		return solid
	}
	elsewhere := c.byUID(res, ref)
	switch {
	case elsewhere == nil:
		return dangling
	case key.Namespace == "":
		return unresolvable
	}
	return misplaced
}

// byUID looks for an owner in all namespaces.
func (c *collector) byUID(res messages.Resource, ref metav1.OwnerReference) objects.Object {
	for _, obj := range c.Reader.List(res, "") {
		if obj.GetUID() == ref.UID {
			return obj
		}
	}
	return nil
}
