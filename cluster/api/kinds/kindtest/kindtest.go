package kindtest

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
)

// Errors reduces errors to what clients rely on, "<type> <path>", in a stable order.
func Errors(errs field.ErrorList) []string {
	out := make([]string, 0, len(errs))
	for _, err := range errs {
		out = append(out, string(err.Type)+" "+err.Field)
	}
	slices.Sort(out)
	return out
}

// Create runs defaults, resets and validation of a new object, which it changes.
func Create(k kind.Kind, obj kind.Object) field.ErrorList {
	if k.Default != nil {
		k.Default(obj)
	}
	if k.PrepareForCreate != nil {
		k.PrepareForCreate(context.Background(), obj)
	}
	if k.Validate == nil {
		return nil
	}
	return k.Validate(context.Background(), obj)
}

// Update runs defaults, resets and validation of a change of old into obj.
func Update(k kind.Kind, obj, old kind.Object) field.ErrorList {
	if k.Default != nil {
		k.Default(obj)
	}
	if k.PrepareForUpdate != nil {
		k.PrepareForUpdate(context.Background(), obj, old)
	}
	switch {
	case k.ValidateUpdate != nil:
		return k.ValidateUpdate(context.Background(), obj, old)
	case k.Validate != nil:
		return k.Validate(context.Background(), obj)
	}
	return nil
}

// Sub runs resets and validation of a change through a subresource.
func Sub(s *kind.Subresource, obj, old kind.Object) field.ErrorList {
	if s.Prepare != nil {
		s.Prepare(context.Background(), obj, old)
	}
	if s.Validate == nil {
		return nil
	}
	return s.Validate(context.Background(), obj, old)
}

// Want fails the test when errs are not exactly those wanted, given as [Errors] spells them.
func Want(t *testing.T, errs field.ErrorList, want ...string) {
	t.Helper()
	slices.Sort(want)
	if diff := cmp.Diff(append([]string{}, want...), Errors(errs)); diff != "" {
		t.Errorf("errors (-want +got):\n%s\nin full: %v", diff, errs.ToAggregate())
	}
}
