package api

import (
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/troupe-run/troupe/cluster/api/kinds"
)

// FuzzDecode reads bodies of each form. What can be read can be written and read again.
func FuzzDecode(f *testing.F) {
	c, err := newCodecs(kinds.All())
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"1"}}}]}}`,
		"apiVersion: apps/v1\nkind: Deployment\nspec: {replicas: 1}", "k8s\x00\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x00", "k8s\x00", "{", "- a",
		`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Secret","data":{"a":"YQ=="}}]}`,
		`{"apiVersion":"batch/v1","kind":"CronJob","spec":{"schedule":"* * * * *","jobTemplate":{"spec":{"template":{"spec":{}}}}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		obj, gvk, err := c.factory.UniversalDeserializer().Decode(body, nil, nil)
		if err != nil {
			return
		}
		encoder := c.factory.LegacyCodec(schema.GroupVersion{Group: gvk.Group, Version: gvk.Version})
		written, err := runtime.Encode(encoder, obj)
		if err != nil {
			return // a kind that is never sent by itself
		}
		if _, err := runtime.Decode(c.factory.UniversalDeserializer(), written); err != nil {
			t.Errorf("%q became %q: %v", body, written, err)
		}
	})
}
