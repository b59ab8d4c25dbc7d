package testkit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// fieldManager owns what Apply sets.
const fieldManager = "testkit"

// Apply applies YAML or JSON manifests, several separated by ---, by server-side apply.
func (c *Cluster) Apply(manifests string) {
	c.t.Helper()
	d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifests), 4096)
	for {
		obj := &unstructured.Unstructured{}
		err := d.Decode(obj)
		if errors.Is(err, io.EOF) {
			return
		}
		c.must(err)
		if len(obj.Object) == 0 {
			continue
		}
		if err := c.apply(obj); err != nil {
			c.t.Fatalf("apply %s %s: %v", obj.GetKind(), obj.GetName(), err)
		}
	}
}

func (c *Cluster) apply(obj *unstructured.Unstructured) error {
	res, err := c.names.resource(obj.GroupVersionKind(), obj.GetNamespace())
	if err != nil {
		return err
	}
	var body bytes.Buffer
	if err := unstructured.UnstructuredJSONScheme.Encode(obj, &body); err != nil {
		return err
	}
	force := true
	_, err = res.Patch(c.t.Context(), obj.GetName(), types.ApplyPatchType, body.Bytes(),
		metav1.PatchOptions{FieldManager: fieldManager, Force: &force})
	return err
}

// Patch merges a fragment of YAML or JSON into an object, named as in "Deployment default/web", as
// kubectl patch does: by strategic merge where the kind has one.
func (c *Cluster) Patch(name, fragment string) {
	c.t.Helper()
	res, object, err := c.names.find(name)
	c.must(err)
	body, err := yaml.ToJSON([]byte(fragment))
	c.must(err)
	for _, how := range []types.PatchType{types.StrategicMergePatchType, types.MergePatchType} {
		_, err = res.Patch(c.t.Context(), object, how, body, metav1.PatchOptions{FieldManager: fieldManager})
		if !apierrors.IsUnsupportedMediaType(err) {
			break
		}
	}
	if err != nil {
		c.t.Fatalf("patch %s: %v", name, err)
	}
}

// Delete deletes one object, named as in "Deployment default/web", "Pod web-0" or "cm kube-system/x".
// It returns when the deletion has begun; WaitFor(name, Gone) waits for its end.
func (c *Cluster) Delete(name string) {
	c.t.Helper()
	res, object, err := c.names.find(name)
	c.must(err)
	if err := res.Delete(c.t.Context(), object, metav1.DeleteOptions{}); err != nil {
		c.t.Fatalf("delete %s: %v", name, err)
	}
}

// Get reads one object, named as for Delete; nil when it does not exist.
func (c *Cluster) Get(name string) *unstructured.Unstructured {
	c.t.Helper()
	obj, err := c.get(c.t.Context(), name)
	c.must(err)
	return obj
}

func (c *Cluster) get(ctx context.Context, name string) (*unstructured.Unstructured, error) {
	res, object, err := c.names.find(name)
	if err != nil {
		return nil, err
	}
	obj, err := res.Get(ctx, object, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return obj, err
}
