package claim

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// Owner returns the key of the controller of obj when it is of the resource and kind given.
func Owner(obj objects.Object, res messages.Resource, kind string) (messages.Key, bool) {
	ref := metav1.GetControllerOfNoCopy(obj)
	if ref == nil || ref.Kind != kind {
		return messages.Key{}, false
	}
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil || gv.Group != res.Group {
		return messages.Key{}, false
	}
	return messages.KeyOf(res, obj.GetNamespace(), ref.Name), true
}

// Sort splits candidates into those that are owner's, those it should adopt (they match and nobody
// controls them) and those it should release (they stopped matching). An owner that is going away
// neither adopts nor releases.
func Sort[T objects.Object](owner metav1.Object, selector labels.Selector, candidates []T) (mine, adopt, release []T) {
	leaving := owner.GetDeletionTimestamp() != nil
	for _, obj := range candidates {
		ref := metav1.GetControllerOfNoCopy(obj)
		matches := selector.Matches(labels.Set(obj.GetLabels()))
		switch {
		case ref != nil && ref.UID != owner.GetUID():
		case ref != nil && matches:
			mine = append(mine, obj)
		case ref != nil && !leaving:
			release = append(release, obj)
		case ref == nil && matches && !leaving && obj.GetDeletionTimestamp() == nil:
			adopt = append(adopt, obj)
		}
	}
	return mine, adopt, release
}

// Adopt makes owner the controller of obj. It returns nil and no error when obj is gone, another
// by now or taken, or when owner itself is no longer the object that was decided for.
func Adopt(ctx context.Context, r objects.Reader, w objects.Writer, owner messages.Key, ref metav1.OwnerReference, key messages.Key, obj objects.Object) (objects.Object, error) {
	now, ok := r.Get(owner)
	if !ok || now.GetUID() != ref.UID || now.GetDeletionTimestamp() != nil {
		return nil, nil
	}
	took := false
	out, err := w.Mutate(ctx, key, "", func(o objects.Object) (objects.Object, error) {
		took = o.GetUID() == obj.GetUID() && o.GetDeletionTimestamp() == nil && metav1.GetControllerOfNoCopy(o) == nil
		if took {
			o.SetOwnerReferences(append(withoutOwner(o, ref.UID), ref))
		}
		return o, nil
	})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("adopt %s by %s: %w", key, owner, err)
	case !took:
		return nil, nil
	}
	return out, nil
}

// Release takes owner's reference off obj, if it is still the same object.
func Release(ctx context.Context, w objects.Writer, owner metav1.Object, key messages.Key, obj objects.Object) error {
	_, err := w.Mutate(ctx, key, "", func(o objects.Object) (objects.Object, error) {
		if o.GetUID() == obj.GetUID() {
			o.SetOwnerReferences(withoutOwner(o, owner.GetUID()))
		}
		return o, nil
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("release %s: %w", key, err)
	}
	return nil
}

func withoutOwner[U ~string](obj metav1.Object, uid U) []metav1.OwnerReference {
	return slices.DeleteFunc(slices.Clone(obj.GetOwnerReferences()), func(r metav1.OwnerReference) bool {
		return string(r.UID) == string(uid)
	})
}
