package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
