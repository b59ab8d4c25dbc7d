package apiextensions

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

// TestStatusLeavesTheSpec: whoever writes the status writes the finalizers with it and nothing else,
// and all versions of the definition share one spec.
func TestStatusLeavesTheSpec(t *testing.T) {
	t.Parallel()
	old := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "a", Finalizers: []string{"x"}}}
	old.Spec.Versions = []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Schema: &apiextensionsv1.CustomResourceValidation{}}}
	obj := old.DeepCopy()
	obj.Spec.Versions[0].Name, obj.Finalizers, obj.Status.StoredVersions = "v2", nil, []string{"v1"}
	k := CustomResourceDefinition()
	kindtest.Want(t, kindtest.Sub(k.Status, obj, old))
	want := old.DeepCopy()
	want.Finalizers, want.Status.StoredVersions = nil, []string{"v1"}
	if diff := cmp.Diff(want, obj); diff != "" {
		t.Error(diff)
	}
	if obj.Spec.Versions[0].Schema != old.Spec.Versions[0].Schema {
		t.Error("the schema was copied")
	}
	bad := old.DeepCopy()
	bad.Status.AcceptedNames.Plural = "A B"
	if errs := kindtest.Sub(k.Status, bad, old); len(errs) == 0 || errs[0].Field != "status.acceptedNames.plural" {
		t.Errorf("a name that is none: %v", errs)
	}
}
