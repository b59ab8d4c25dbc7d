package api_test

import (
	"context"
	"net/http"
	"net/url"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// FuzzPatch applies patches of each sort to a Deployment. None makes the server fail, and what it
// stores it can read.
func FuzzPatch(f *testing.F) {
	for i, seed := range []string{
		`[{"op":"replace","path":"/spec/replicas","value":3}]`, `{"spec":{"replicas":null}}`,
		`{"spec":{"template":{"spec":{"containers":[{"name":"c","$patch":"delete"}]}}}}`,
		`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":2}}`,
		`[{"op":"copy","from":"/spec","path":"/spec/template"}]`, `{"spec":{"$retainKeys":["replicas"]}}`, `{"$patch":"replace"}`,
		`{"metadata":{"$deleteFromPrimitiveList/finalizers":["a"],"$setElementOrder/finalizers":["b"]}}`,
	} {
		f.Add(seed, uint8(i))
	}
	c := start(f)
	admin := c.as(f, "admin", "system:masters")
	client := must(rest.HTTPClientFor(admin))
	post := func() {
		_, _ = send(context.Background(), client, c.url, hostile{method: http.MethodPost, path: deployments, mime: jsonMIME, body: []byte(deployment)})
	}
	post()
	f.Fuzz(func(t *testing.T, patch string, sort uint8) {
		mimes := []string{jsonPatch, mergePatch, strategic, applyPatch}
		h := hostile{method: http.MethodPatch, path: deployments + "/web?fieldManager=fuzz&force=true", mime: mimes[int(sort)%len(mimes)], body: []byte(patch)}
		if h.mime != applyPatch {
			h.path = deployments + "/web"
		}
		if code, answer := send(t.Context(), client, c.url, h); code >= 500 || code == 0 {
			t.Errorf("%s: %d %s", h.mime, code, answer)
		}
		if _, err := c.client.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{}); err != nil {
			t.Fatalf("after %s %q: %v", h.mime, patch, err)
		}
	})
}

// FuzzSelectors asks for what selectors select. None makes the server fail.
func FuzzSelectors(f *testing.F) {
	for _, seed := range []string{"a=b", "a in (b,c),!d", "a notin (", "metadata.name=x", "a>1", ",,=", "a==b,c!=d", "metadata.namespace!=default"} {
		f.Add(seed, seed)
	}
	c := start(f)
	must(c.client.CoreV1().ConfigMaps("default").Create(f.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{}))
	client := must(rest.HTTPClientFor(c.as(f, "admin", "system:masters")))
	f.Fuzz(func(t *testing.T, label, field string) {
		q := url.Values{"labelSelector": {label}, "fieldSelector": {field}}
		if code, answer := send(t.Context(), client, c.url, hostile{method: http.MethodGet, path: configMaps + "?" + q.Encode()}); code >= 500 || code == 0 {
			t.Errorf("%d %s", code, answer)
		}
	})
}
