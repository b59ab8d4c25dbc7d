package testkit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
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
		c.apply(obj)
	}
}

func (c *Cluster) apply(obj *unstructured.Unstructured) {
	c.t.Helper()
	res, err := c.resource(obj.GroupVersionKind(), obj.GetNamespace())
	c.must(err)
	var body bytes.Buffer
	c.must(unstructured.UnstructuredJSONScheme.Encode(obj, &body))
	force := true
	_, err = res.Patch(c.t.Context(), obj.GetName(), types.ApplyPatchType, body.Bytes(),
		metav1.PatchOptions{FieldManager: fieldManager, Force: &force})
	if err != nil {
		c.t.Fatalf("apply %s %s: %v", obj.GetKind(), obj.GetName(), err)
	}
}

// Delete deletes one object, named as in "Deployment.apps default/web" or "Pod default/web-0".
func (c *Cluster) Delete(name string) {
	c.t.Helper()
	res, object := c.find(name)
	c.must(res.Delete(c.t.Context(), object, metav1.DeleteOptions{}))
}

// Get reads one object, named as for Delete; nil when it does not exist.
func (c *Cluster) Get(name string) *unstructured.Unstructured {
	c.t.Helper()
	obj, err := c.get(c.t.Context(), name)
	c.must(err)
	return obj
}

func (c *Cluster) find(name string) (dynamic.ResourceInterface, string) {
	c.t.Helper()
	res, object, err := c.lookup(name)
	c.must(err)
	return res, object
}

// lookup resolves "Kind[.group] [namespace/]name".
func (c *Cluster) lookup(name string) (dynamic.ResourceInterface, string, error) {
	kind, path, ok := strings.Cut(name, " ")
	if !ok {
		return nil, "", fmt.Errorf("%q does not name an object: write \"Kind namespace/name\"", name)
	}
	kind, group, _ := strings.Cut(kind, ".")
	namespace, object, ok := strings.Cut(path, "/")
	if !ok {
		namespace, object = "", path
	}
	if group == "" {
		group = wellKnownGroup(kind)
	}
	res, err := c.resource(schema.GroupVersionKind{Group: group, Kind: kind}, namespace)
	return res, object, err
}

// wellKnownGroup lets tests leave out the group of the commonest kinds.
func wellKnownGroup(kind string) string {
	switch kind {
	case "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet":
		return "apps"
	case "Job", "CronJob":
		return "batch"
	case "EndpointSlice":
		return "discovery.k8s.io"
	}
	return ""
}

func (c *Cluster) resource(gvk schema.GroupVersionKind, namespace string) (dynamic.ResourceInterface, error) {
	groups, err := restmapper.GetAPIGroupResources(c.client.Discovery())
	if err != nil {
		return nil, err
	}
	versions := []string{}
	if gvk.Version != "" {
		versions = append(versions, gvk.Version)
	}
	m, err := restmapper.NewDiscoveryRESTMapper(groups).RESTMapping(gvk.GroupKind(), versions...)
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(c.Config())
	if err != nil {
		return nil, err
	}
	if m.Scope.Name() == "namespace" {
		if namespace == "" {
			namespace = metav1.NamespaceDefault
		}
		return client.Resource(m.Resource).Namespace(namespace), nil
	}
	return client.Resource(m.Resource), nil
}

func (c *Cluster) get(ctx context.Context, name string) (*unstructured.Unstructured, error) {
	res, object, err := c.lookup(name)
	if err != nil {
		return nil, err
	}
	obj, err := res.Get(ctx, object, metav1.GetOptions{})
	if isNotFound(err) {
		return nil, nil
	}
	return obj, err
}
