package gc

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/actors/objects"
)

// verdict is what becomes of an object with owner references.
type verdict struct {
	// strip are owners to be taken off the object, which stays for the sake of the others.
	strip []types.UID
	// policy is how to delete the object; "" means not.
	policy metav1.DeletionPropagation
	// unblock says that the object must stop blocking its owners first: they wait for each other.
	unblock bool
}

// judge decides by what each of the owner references is worth. dependents are those of obj itself.
func judge(obj objects.Object, relations []relation, dependents []dependent) verdict {
	var lost []types.UID
	kept, waited := false, false
	for i, ref := range obj.GetOwnerReferences() {
		switch relations[i] {
		case solid, unresolvable:
			kept = true
		case waiting:
			waited = true
			lost = append(lost, ref.UID)
		case dangling, misplaced:
			lost = append(lost, ref.UID)
		}
	}
	switch {
	case kept:
		return verdict{strip: lost}
	case waited && len(dependents) > 0:
		cycle := slices.ContainsFunc(dependents, func(d dependent) bool { return waits(d.obj) })
		return verdict{policy: metav1.DeletePropagationForeground, unblock: cycle}
	case slices.Contains(obj.GetFinalizers(), metav1.FinalizerOrphanDependents):
		return verdict{policy: metav1.DeletePropagationOrphan}
	case slices.Contains(obj.GetFinalizers(), metav1.FinalizerDeleteDependents):
		return verdict{policy: metav1.DeletePropagationForeground}
	}
	return verdict{policy: metav1.DeletePropagationBackground}
}

// blocks says that a dependent holds the deletion of its owner up.
func blocks(d dependent, owner types.UID) bool {
	return slices.ContainsFunc(d.obj.GetOwnerReferences(), func(r metav1.OwnerReference) bool {
		return r.UID == owner && r.BlockOwnerDeletion != nil && *r.BlockOwnerDeletion
	})
}
