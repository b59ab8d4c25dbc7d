package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientrest "k8s.io/client-go/rest"
)

// Lists whose JSON is put together from their items' are the same as others, byte for byte.
func TestListsOfSharedJSON(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	maps := c.client.CoreV1().ConfigMaps("default")
	get := func(query string) []byte {
		t.Helper()
		data, err := c.client.CoreV1().RESTClient().Get().AbsPath("/api/v1/namespaces/default/configmaps").
			SetHeader("Accept", "application/json").RequestURI("/api/v1/namespaces/default/configmaps" + query).DoRaw(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	same := func(what, query string) {
		t.Helper()
		pretty := "?pretty=true"
		if query != "" {
			pretty = query + "&pretty=true"
		}
		for range 2 { // made, and kept
			var shared bytes.Buffer
			if err := json.Indent(&shared, bytes.TrimSpace(get(query)), "", "  "); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(bytes.TrimSpace(get(pretty))), shared.String()); diff != "" {
				t.Errorf("%s (-own +shared):\n%s", what, diff)
			}
		}
	}
	same("nothing", "?labelSelector=no%3Dsuch")
	for i := range 5 {
		cm := configMap(fmt.Sprint("c", i), map[string]string{"odd": "<&>\u2028\"items\":[]"})
		cm.Labels = map[string]string{"half": fmt.Sprint(i % 2)}
		if _, err := maps.Create(ctx, cm, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	same("all", "")
	same("selected", "?labelSelector=half%3D1")
	same("a page", "?limit=2")
	if _, err := maps.Patch(ctx, "c3", "application/merge-patch+json", []byte(`{"data":{"odd":"changed"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := maps.Delete(ctx, "c4", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	same("after changes", "")
	if data := get(""); !bytes.Contains(data, []byte(`"changed"`)) || bytes.Contains(data, []byte(`"c4"`)) {
		t.Errorf("an old list: %s", data)
	}
	var list corev1.ConfigMapList
	if err := json.Unmarshal(get(""), &list); err != nil || list.Kind != "ConfigMapList" || list.ResourceVersion == "" {
		t.Errorf("list %s %s: %v", list.Kind, list.ResourceVersion, err)
	}
	for _, cm := range list.Items {
		one, err := maps.Get(ctx, cm.Name, metav1.GetOptions{})
		if err != nil || one.ResourceVersion != cm.ResourceVersion {
			t.Errorf("%s is at %s, listed at %s: %v", cm.Name, one.ResourceVersion, cm.ResourceVersion, err)
		}
	}
}

// Objects whose JSON the store shares are answered as others are, byte for byte, by whatever request
// they are the end of.
func TestObjectsOfSharedJSON(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	rest := c.client.CoreV1().RESTClient()
	const path = "/api/v1/namespaces/default/configmaps"
	get := func(query string) string {
		t.Helper()
		data, err := rest.Get().RequestURI(path+"/one"+query).SetHeader("Accept", "application/json").DoRaw(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	// An answer that is to be indented is encoded anew.
	own := func() string {
		t.Helper()
		var flat bytes.Buffer
		if err := json.Compact(&flat, []byte(get("?pretty=true"))); err != nil {
			t.Fatal(err)
		}
		return flat.String() + "\n"
	}
	for _, step := range []struct {
		what string
		do   *clientrest.Request
		body string
	}{
		{"create", rest.Post().AbsPath(path), `{"metadata":{"name":"one","annotations":{"uid":"\"uid\":\"x\""}},"data":{"odd":"<&>\u2028"}}`},
		{"update", rest.Put().AbsPath(path + "/one"), `{"metadata":{"name":"one","finalizers":["a/b"]},"data":{"odd":"{}"}}`},
		{"update to the same", rest.Put().AbsPath(path + "/one"), `{"metadata":{"name":"one","finalizers":["a/b"]},"data":{"odd":"{}"}}`},
		{"patch", rest.Patch("application/merge-patch+json").AbsPath(path + "/one"), `{"data":{"more":"1"}}`},
		{"apply", rest.Patch("application/apply-patch+yaml").AbsPath(path+"/one").Param("fieldManager", "me"), `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"one"},"data":{"mine":"1"}}`},
	} {
		data, err := step.do.SetHeader("Accept", "application/json").SetHeader("Content-Type", contentType(step.what)).Body([]byte(step.body)).DoRaw(ctx)
		if err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		for range 2 { // made, and kept
			if diff := cmp.Diff(own(), get("")); diff != "" {
				t.Errorf("get after %s (-own +shared):\n%s", step.what, diff)
			}
		}
		if diff := cmp.Diff(own(), string(data)); diff != "" {
			t.Errorf("%s (-own +shared):\n%s", step.what, diff)
		}
	}
	// In other encodings it is the same object.
	typed, err := c.client.CoreV1().ConfigMaps("default").Get(ctx, "one", metav1.GetOptions{})
	if err != nil || typed.Data["mine"] != "1" || typed.Data["more"] != "1" {
		t.Errorf("%v %v", typed, err)
	}
	dry, err := rest.Post().AbsPath(path).Param("dryRun", "All").SetHeader("Accept", "application/json").
		SetHeader("Content-Type", "application/json").Body([]byte(`{"metadata":{"name":"two"}}`)).DoRaw(ctx)
	if err != nil || !bytes.Contains(dry, []byte(`"name":"two"`)) {
		t.Errorf("dry run: %s %v", dry, err)
	}
}

func contentType(what string) string {
	switch what {
	case "patch":
		return "application/merge-patch+json"
	case "apply":
		return "application/apply-patch+yaml"
	}
	return "application/json"
}
