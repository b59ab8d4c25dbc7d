package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/troupe-run/troupe/messages"
)

const widgets = `
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wd], categories: [all, gadgets]}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    - {name: Colour, type: string, jsonPath: .spec.colour, priority: 1}
    selectableFields: [{jsonPath: .spec.colour}]
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.selector}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            description: What the widget should be.
            x-kubernetes-validations:
            - {rule: "self.size <= self.limit", message: "size is over the limit"}
            - {rule: "self.colour == oldSelf.colour", message: "colour is immutable", fieldPath: .colour}
            required: [size]
            properties:
              size: {type: integer, minimum: 1}
              limit: {type: integer, default: 10}
              colour: {type: string, default: red}
              replicas: {type: integer}
              parts:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items: {type: object, required: [name], properties: {name: {type: string}, count: {type: integer}}}
          status:
            type: object
            properties: {replicas: {type: integer}, selector: {type: string}, phase: {type: string}}
`

var widgetsResource = schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"}

func (c *cluster) extensions(t testing.TB) *apiextensions.Clientset {
	t.Helper()
	out, err := apiextensions.NewForConfig(c.LoopbackConfig())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (c *cluster) dynamic(t testing.TB) *dynamic.DynamicClient {
	t.Helper()
	out, err := dynamic.NewForConfig(c.LoopbackConfig())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func definition(t testing.TB, manifest string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict([]byte(manifest), crd); err != nil {
		t.Fatal(err)
	}
	return crd
}

// define creates a definition and waits until it is in effect.
func (c *cluster) define(t testing.TB, manifest string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	client := c.extensions(t).ApiextensionsV1().CustomResourceDefinitions()
	crd, err := client.Create(t.Context(), definition(t, manifest), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		crd, err = client.Get(t.Context(), crd.Name, metav1.GetOptions{})
		return err == nil && condition(crd, apiextensionsv1.Established) == apiextensionsv1.ConditionTrue
	})
	return crd
}

func condition(crd *apiextensionsv1.CustomResourceDefinition, t apiextensionsv1.CustomResourceDefinitionConditionType) apiextensionsv1.ConditionStatus {
	for _, c := range crd.Status.Conditions {
		if c.Type == t {
			return c.Status
		}
	}
	return ""
}

func widget(name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v1", "kind": "Widget", "metadata": map[string]any{"name": name}, "spec": spec,
	}}
}

// raw sends a request and returns the code and the body.
func (c *cluster) raw(t testing.TB, verb, path, contentType, accept, body string) (int, string) {
	t.Helper()
	r := c.client.CoreV1().RESTClient().Verb(verb).RequestURI(path)
	if contentType != "" {
		r = r.SetHeader("Content-Type", contentType).Body([]byte(body))
	}
	if accept != "" {
		r = r.SetHeader("Accept", accept)
	}
	code := 0
	out, err := r.Do(t.Context()).StatusCode(&code).Raw()
	if status, ok := err.(apierrors.APIStatus); ok {
		return int(status.Status().Code), string(out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return code, string(out)
}

func TestCustomResourceLives(t *testing.T) {
	t.Parallel()
	c := start(t)
	ctx := t.Context()
	c.define(t, widgets)
	client := c.dynamic(t).Resource(widgetsResource).Namespace("default")

	made, err := client.Create(ctx, widget("a", map[string]any{"size": int64(3), "strange": true}), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"size": int64(3), "limit": int64(10), "colour": "red"}
	if diff := cmp.Diff(want, made.Object["spec"]); diff != "" {
		t.Errorf("defaults and pruning (-want +got):\n%s", diff)
	}
	if made.GetGeneration() != 1 {
		t.Errorf("generation %d, want 1", made.GetGeneration())
	}
	if _, err := client.Create(ctx, widget("b", map[string]any{"size": int64(3), "strange": true}), metav1.CreateOptions{FieldValidation: "Strict"}); !apierrors.IsBadRequest(err) {
		t.Errorf("strict validation: %v", err)
	}
	if _, err := client.Create(ctx, widget("b", map[string]any{"size": int64(3)}), metav1.CreateOptions{DryRun: []string{"All"}}); err != nil {
		t.Errorf("dry run: %v", err)
	}
	if _, err := client.Get(ctx, "b", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a dry run stored: %v", err)
	}

	for name, bad := range map[string]struct {
		spec map[string]any
		path string
	}{
		"schema":   {map[string]any{"size": int64(0)}, "spec.size"},
		"type":     {map[string]any{"size": "big"}, "spec.size"},
		"required": {map[string]any{}, "spec.size"},
		"rule":     {map[string]any{"size": int64(11)}, "spec"},
	} {
		_, err := client.Create(ctx, widget("bad", bad.spec), metav1.CreateOptions{})
		if !apierrors.IsInvalid(err) || err.(apierrors.APIStatus).Status().Details.Causes[0].Field != bad.path {
			t.Errorf("%s: %v, want one about %s", name, err, bad.path)
		}
	}
	made.Object["spec"].(map[string]any)["colour"] = "blue"
	if _, err := client.Update(ctx, made, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "colour is immutable") {
		t.Errorf("transition rule: %v", err)
	}

	// The two writers keep out of each other's way.
	made.Object["spec"].(map[string]any)["colour"] = "red"
	made.Object["status"] = map[string]any{"phase": "Ready"}
	made, err = client.Update(ctx, made, metav1.UpdateOptions{})
	if err != nil || made.Object["status"] != nil {
		t.Errorf("status was written with the rest: %v %v", made, err)
	}
	made.Object["status"] = map[string]any{"phase": "Ready", "replicas": int64(2), "selector": "a=b"}
	made.Object["spec"].(map[string]any)["size"] = int64(5)
	made, err = client.UpdateStatus(ctx, made, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, _, _ := unstructured.NestedInt64(made.Object, "spec", "size"); got != 3 || made.GetGeneration() != 1 {
		t.Errorf("spec was written with the status: %v", made)
	}
	scale, err := client.Patch(ctx, "a", types.MergePatchType, []byte(`{"spec":{"replicas":4}}`), metav1.PatchOptions{}, "scale")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"replicas": int64(2), "selector": "a=b"}, scale.Object["status"]); diff != "" {
		t.Error(diff)
	}
	made, err = client.Get(ctx, "a", metav1.GetOptions{})
	if got, _, _ := unstructured.NestedInt64(made.Object, "spec", "replicas"); err != nil || got != 4 || made.GetGeneration() != 2 {
		t.Errorf("after scaling: %v %v", made, err)
	}

	if code, _ := c.raw(t, "PATCH", "/apis/example.com/v1/namespaces/default/widgets/a", string(types.StrategicMergePatchType), "", `{}`); code != http.StatusUnsupportedMediaType {
		t.Errorf("strategic merge patch: %d", code)
	}
	if _, err := client.Patch(ctx, "a", types.JSONPatchType, []byte(`[{"op":"replace","path":"/spec/size","value":6}]`), metav1.PatchOptions{}); err != nil {
		t.Errorf("JSON patch: %v", err)
	}
	if err := client.Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if _, ok := c.store.Get(messages.KeyOf(messages.Resource{Group: "example.com", Resource: "widgets"}, "default", "a")); ok {
		t.Error("it is still there")
	}
}

func TestCustomResourcesAreListedAndWatched(t *testing.T) {
	t.Parallel()
	c := start(t)
	ctx := t.Context()
	c.define(t, widgets)
	client := c.dynamic(t).Resource(widgetsResource).Namespace("default")
	for i := range 5 {
		colour := []string{"red", "blue"}[i%2]
		if _, err := client.Create(ctx, widget(fmt.Sprint("w", i), map[string]any{"size": int64(i + 1), "colour": colour}), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	page, err := client.List(ctx, metav1.ListOptions{Limit: 2})
	if err != nil || len(page.Items) != 2 || page.GetContinue() == "" || *page.GetRemainingItemCount() != 3 {
		t.Fatalf("first page: %v %v", page, err)
	}
	rest, err := client.List(ctx, metav1.ListOptions{Continue: page.GetContinue()})
	if err != nil || len(rest.Items) != 3 || rest.GetResourceVersion() != page.GetResourceVersion() {
		t.Errorf("second page: %v %v", rest, err)
	}
	blue, err := client.List(ctx, metav1.ListOptions{FieldSelector: "spec.colour=blue"})
	if err != nil || len(blue.Items) != 2 {
		t.Errorf("selected by field: %v %v", blue, err)
	}
	if _, err := client.List(ctx, metav1.ListOptions{FieldSelector: "spec.size=1"}); !apierrors.IsBadRequest(err) {
		t.Errorf("a field that is not selectable: %v", err)
	}

	yes := true
	w, err := client.Watch(ctx, metav1.ListOptions{SendInitialEvents: &yes, AllowWatchBookmarks: true,
		ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, FieldSelector: "spec.colour=blue"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	next := func() string {
		e := <-w.ResultChan()
		o, ok := e.Object.(*unstructured.Unstructured)
		if !ok {
			return fmt.Sprint(e)
		}
		if e.Type == watch.Bookmark {
			return "bookmark " + o.GetAnnotations()[metav1.InitialEventsAnnotationKey]
		}
		return fmt.Sprint(e.Type, " ", o.GetName())
	}
	got := []string{next(), next(), next()}
	if err := client.Delete(ctx, "w3", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	got = append(got, next())
	if diff := cmp.Diff([]string{"ADDED w1", "ADDED w3", "bookmark true", "DELETED w3"}, got); diff != "" {
		t.Error(diff)
	}

	_, body := c.raw(t, "GET", "/apis/example.com/v1/namespaces/default/widgets", "", "application/json;as=Table;v=v1;g=meta.k8s.io", "")
	var table metav1.Table
	if err := json.Unmarshal([]byte(body), &table); err != nil {
		t.Fatal(err)
	}
	var columns []string
	for _, col := range table.ColumnDefinitions {
		columns = append(columns, fmt.Sprint(col.Name, col.Priority))
	}
	if diff := cmp.Diff([]string{"Name0", "Size0", "Colour1"}, columns); diff != "" || len(table.Rows) != 4 {
		t.Errorf("%s %d rows", diff, len(table.Rows))
	}
	if err := client.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
	if left, err := client.List(ctx, metav1.ListOptions{}); err != nil || len(left.Items) != 0 {
		t.Errorf("after deletion of all: %v %v", left, err)
	}
}

func TestCustomResourcesAreApplied(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.define(t, widgets)
	client := c.dynamic(t).Resource(widgetsResource).Namespace("default")
	apply := func(by string, force bool, parts ...any) (*unstructured.Unstructured, error) {
		return client.Apply(t.Context(), "a", widget("a", map[string]any{"size": int64(1), "parts": parts}), metav1.ApplyOptions{FieldManager: by, Force: force})
	}
	part := func(name string, count int64) any { return map[string]any{"name": name, "count": count} }
	if _, err := apply("one", false, part("x", 1)); err != nil {
		t.Fatal(err)
	}
	got, err := apply("two", false, part("y", 2))
	if err != nil {
		t.Fatal(err)
	}
	if parts, _, _ := unstructured.NestedSlice(got.Object, "spec", "parts"); len(parts) != 2 {
		t.Errorf("lists are not merged by their keys: %v", parts)
	}
	if _, err := apply("two", false, part("x", 9)); !apierrors.IsConflict(err) {
		t.Errorf("another's field: %v", err)
	}
	if _, err := apply("two", true, part("x", 9)); err != nil {
		t.Error(err)
	}
}

func TestDefinitionsShowInDiscoveryAndSchemas(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.define(t, widgets)
	var list metav1.APIResourceList
	eventually(t, func() bool {
		groups, err := c.client.Discovery().ServerGroups()
		if err != nil {
			return false
		}
		for _, g := range groups.Groups {
			if g.Name == "example.com" {
				return true
			}
		}
		return false
	})
	_, body := c.raw(t, "GET", "/apis/example.com/v1", "", "", "")
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err, body)
	}
	var names []string
	for _, r := range list.APIResources {
		names = append(names, r.Name)
	}
	if diff := cmp.Diff([]string{"widgets", "widgets/status", "widgets/scale"}, names); diff != "" {
		t.Error(diff)
	}
	if r := list.APIResources[0]; r.SingularName != "widget" || r.ShortNames[0] != "wd" || len(r.Categories) != 2 || r.StorageVersionHash == "" {
		t.Errorf("%+v", r)
	}
	var group metav1.APIGroup
	_, body = c.raw(t, "GET", "/apis/example.com", "", "", "")
	if err := json.Unmarshal([]byte(body), &group); err != nil || group.PreferredVersion.Version != "v1" {
		t.Error(err, body)
	}
	_, body = c.raw(t, "GET", "/openapi/v3", "", "", "")
	var root struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}
	if err := json.Unmarshal([]byte(body), &root); err != nil {
		t.Fatal(err, body)
	}
	for _, path := range []string{"apis/example.com/v1", "apis/apps/v1", "apis/apiextensions.k8s.io/v1", "apis/apiregistration.k8s.io/v1", "api/v1"} {
		if root.Paths[path].ServerRelativeURL == "" {
			t.Errorf("/openapi/v3 does not name %s", path)
		}
	}
	for _, path := range []string{root.Paths["apis/example.com/v1"].ServerRelativeURL, "/openapi/v2"} {
		if code, body := c.raw(t, "GET", path, "", "", ""); code != http.StatusOK || !strings.Contains(body, "What the widget should be.") {
			t.Errorf("%s: %d, without the description", path, code)
		}
	}
	if code, _ := c.raw(t, "GET", "/apis/example.com/v2/widgets", "", "", ""); code != http.StatusNotFound {
		t.Errorf("a version that is not served: %d", code)
	}
}

func TestDefinitionsGoWithTheirObjects(t *testing.T) {
	t.Parallel()
	c := start(t)
	ctx := t.Context()
	crd := c.define(t, widgets)
	definitions := c.extensions(t).ApiextensionsV1().CustomResourceDefinitions()
	client := c.dynamic(t).Resource(widgetsResource).Namespace("default")
	held := widget("held", map[string]any{"size": int64(1)})
	held.SetFinalizers([]string{"example.com/hold"})
	for _, w := range []*unstructured.Unstructured{held, widget("free", map[string]any{"size": int64(1)})} {
		if _, err := client.Create(ctx, w, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := definitions.Delete(ctx, crd.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		_, err := client.Get(ctx, "free", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	now, err := definitions.Get(ctx, crd.Name, metav1.GetOptions{})
	if err != nil || condition(now, apiextensionsv1.Terminating) != apiextensionsv1.ConditionTrue || now.Finalizers[0] != apiextensionsv1.CustomResourceCleanupFinalizer {
		t.Fatalf("%v %v", now, err)
	}
	if _, err := client.Create(ctx, widget("late", map[string]any{"size": int64(1)}), metav1.CreateOptions{}); !apierrors.IsForbidden(err) && !apierrors.IsMethodNotSupported(err) {
		t.Errorf("a new object of a definition that goes: %v", err)
	}
	w, err := definitions.Watch(ctx, metav1.ListOptions{ResourceVersion: now.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if _, err := client.Patch(ctx, "held", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	for gone := false; !gone; { // the library looks every five seconds whether the last object has gone
		gone = (<-w.ResultChan()).Type == watch.Deleted
	}
	eventually(t, func() bool {
		return !c.store.Registered(messages.Resource{Group: "example.com", Resource: "widgets"})
	})
	eventually(t, func() bool {
		code, _ := c.raw(t, "GET", "/apis/example.com", "", "", "")
		return code == http.StatusNotFound
	})
}

func TestBadDefinitionsAreRefused(t *testing.T) {
	t.Parallel()
	c := start(t)
	client := c.extensions(t).ApiextensionsV1().CustomResourceDefinitions()
	deep := func(n int) *apiextensionsv1.JSONSchemaProps {
		s := &apiextensionsv1.JSONSchemaProps{Type: "string"}
		for range n {
			s = &apiextensionsv1.JSONSchemaProps{Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"p": *s}}
		}
		return s
	}
	for name, change := range map[string]func(s *apiextensionsv1.JSONSchemaProps){
		"a rule that costs too much": func(s *apiextensionsv1.JSONSchemaProps) {
			s.Properties["list"] = apiextensionsv1.JSONSchemaProps{Type: "array", Items: &apiextensionsv1.JSONSchemaPropsOrArray{
				Schema: &apiextensionsv1.JSONSchemaProps{Type: "string"}},
				XValidations: apiextensionsv1.ValidationRules{{Rule: "self.all(a, self.all(b, self.all(c, a + b != c)))"}}}
		},
		"a rule that does not compile": func(s *apiextensionsv1.JSONSchemaProps) {
			s.XValidations = apiextensionsv1.ValidationRules{{Rule: "self.nothing > 3"}}
		},
		"a schema that is not structural": func(s *apiextensionsv1.JSONSchemaProps) {
			s.Properties["x"] = apiextensionsv1.JSONSchemaProps{}
		},
		"a default that is not valid": func(s *apiextensionsv1.JSONSchemaProps) {
			s.Properties["x"] = apiextensionsv1.JSONSchemaProps{Type: "integer", Default: &apiextensionsv1.JSON{Raw: []byte(`"a"`)}}
		},
	} {
		crd := definition(t, widgets)
		change(crd.Spec.Versions[0].Schema.OpenAPIV3Schema)
		if _, err := client.Create(t.Context(), crd, metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	crd := definition(t, widgets)
	crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["deep"] = *deep(3000)
	if _, err := client.Create(t.Context(), crd, metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a schema 3,000 levels deep: %v", err)
	}
	crd = definition(t, widgets)
	crd.Name = "other.example.com"
	if _, err := client.Create(t.Context(), crd, metav1.CreateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "metadata.name") {
		t.Errorf("another name: %v", err)
	}
	// A second definition of the same kind is kept, but not in effect.
	c.define(t, widgets)
	crd = definition(t, widgets)
	crd.Name, crd.Spec.Names.Plural, crd.Spec.Names.Singular, crd.Spec.Names.ShortNames = "gadgets.example.com", "gadgets", "gadget", nil
	if _, err := client.Create(t.Context(), crd, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		got, err := client.Get(t.Context(), crd.Name, metav1.GetOptions{})
		return err == nil && condition(got, apiextensionsv1.NamesAccepted) == apiextensionsv1.ConditionFalse
	})
	if code, _ := c.raw(t, "GET", "/apis/example.com/v1/gadgets", "", "", ""); code != http.StatusNotFound {
		t.Errorf("it is served: %d", code)
	}
}
