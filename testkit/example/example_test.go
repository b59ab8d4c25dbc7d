package example_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/troupe-run/troupe/testkit/example"
)

// A wrong field in a manifest would be dropped in silence by a lenient decoder.
func TestManifestsHaveNoUnknownField(t *testing.T) {
	t.Parallel()
	kinds := map[string]func() runtime.Object{
		"Namespace":  func() runtime.Object { return &corev1.Namespace{} },
		"ConfigMap":  func() runtime.Object { return &corev1.ConfigMap{} },
		"Secret":     func() runtime.Object { return &corev1.Secret{} },
		"Deployment": func() runtime.Object { return &appsv1.Deployment{} },
		"Service":    func() runtime.Object { return &corev1.Service{} },
		"Pod":        func() runtime.Object { return &corev1.Pod{} },
	}
	seen := 0
	for _, file := range [][]byte{example.Web, example.Client} {
		docs := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(file)))
		for {
			doc, err := docs.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			var head struct{ Kind string }
			if err := sigsyaml.Unmarshal(doc, &head); err != nil {
				t.Fatal(err)
			}
			into, ok := kinds[head.Kind]
			if !ok {
				t.Fatalf("unexpected kind %q", head.Kind)
			}
			if err := sigsyaml.UnmarshalStrict(doc, into()); err != nil {
				t.Errorf("%s: %v", head.Kind, err)
			}
			if bytes.Contains(doc, []byte("image: ")) && !bytes.Contains(doc, []byte("image: "+example.ImageName)) {
				t.Errorf("%s asks for another image than %s", head.Kind, example.ImageName)
			}
			seen++
		}
	}
	if seen != 6 {
		t.Errorf("%d objects, want 6", seen)
	}
}
