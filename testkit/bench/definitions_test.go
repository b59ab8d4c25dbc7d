package bench_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/troupe-run/troupe/testkit/bench"
)

// definitions is how many CustomResourceDefinitions there are, each in a group of its own, with two
// versions and a schema of some 250 fields: about 40 KB of JSON.
const definitions = 500

// BenchmarkDefinitions restarts a cluster with 500 CustomResourceDefinitions, and then asks for each
// of the resources once.
func BenchmarkDefinitions(b *testing.B) {
	for b.Loop() {
		dir := b.TempDir()
		run := func(fn func(p *bench.Process, cfg *rest.Config)) {
			p, err := bench.Start(b.Context(), binary(b), dir, 1)
			if err != nil {
				b.Fatal(err)
			}
			defer stop(b, p)
			cfg, err := p.Config()
			if err != nil {
				b.Fatal(err)
			}
			cfg.ContentType = "application/json"
			fn(p, cfg)
		}
		run(func(p *bench.Process, cfg *rest.Config) {
			took := define(b, cfg)
			b.ReportMetric(float64(definitions)/took.Seconds(), "defined/s")
		})
		run(func(p *bench.Process, cfg *rest.Config) {
			b.ReportMetric(float64(p.API.Milliseconds()), "api-ms")
			b.ReportMetric(float64(p.Ready.Milliseconds()), "ready-ms")
			time.Sleep(settle)
			b.ReportMetric(float64(usage(b, p).RSS)/megabyte, "MB-rss")
			b.ReportMetric(float64(usage(b, p).PeakRSS)/megabyte, "MB-peak")
			look(b, cfg)
			b.ReportMetric(float64(usage(b, p).RSS)/megabyte, "MB-rss-all-used")
		})
	}
}

// define creates the definitions and waits until all are in effect.
func define(b *testing.B, cfg *rest.Config) time.Duration {
	b.Helper()
	client, err := apiextensions.NewForConfig(cfg)
	if err != nil {
		b.Fatal(err)
	}
	crds := client.ApiextensionsV1().CustomResourceDefinitions()
	begun := time.Now()
	g, ctx := errgroup.WithContext(b.Context())
	g.SetLimit(8)
	for i := range definitions {
		g.Go(func() error {
			_, err := crds.Create(ctx, definition(i), metav1.CreateOptions{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	last := fmt.Sprintf("things.g%d.example.com", definitions-1)
	err = wait.PollUntilContextTimeout(b.Context(), 50*time.Millisecond, 5*time.Minute, true, func(ctx context.Context) (bool, error) {
		crd, err := crds.Get(ctx, last, metav1.GetOptions{})
		return err == nil && established(crd), nil
	})
	if err != nil {
		b.Fatal(err)
	}
	took := time.Since(begun)
	list, err := crds.List(b.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != definitions {
		b.Fatal(len(list.Items), err)
	}
	return took
}

func established(crd *apiextensionsv1.CustomResourceDefinition) bool {
	for _, c := range crd.Status.Conditions {
		if c.Type == apiextensionsv1.Established {
			return c.Status == apiextensionsv1.ConditionTrue
		}
	}
	return false
}

// look lists every one of the resources.
func look(b *testing.B, cfg *rest.Config) {
	b.Helper()
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		b.Fatal(err)
	}
	for i := range definitions {
		res := schema.GroupVersionResource{Group: fmt.Sprintf("g%d.example.com", i), Version: "v1", Resource: "things"}
		if _, err := client.Resource(res).List(b.Context(), metav1.ListOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

// definition describes things in one of many groups.
func definition(i int) *apiextensionsv1.CustomResourceDefinition {
	field := func(n int) apiextensionsv1.JSONSchemaProps {
		return apiextensionsv1.JSONSchemaProps{Type: "string", Description: fmt.Sprintf("Field %d of the thing, with a sentence that says what it is good for.", n)}
	}
	spec := apiextensionsv1.JSONSchemaProps{Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{}}
	for part := range 10 {
		props := apiextensionsv1.JSONSchemaProps{Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{}}
		for n := range 12 {
			props.Properties[fmt.Sprint("field", n)] = field(n)
		}
		spec.Properties[fmt.Sprint("part", part)] = props
	}
	version := func(name string, storage bool) apiextensionsv1.CustomResourceDefinitionVersion {
		s := *spec.DeepCopy()
		s.Properties["only"+name] = field(0)
		return apiextensionsv1.CustomResourceDefinitionVersion{Name: name, Served: true, Storage: storage,
			Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
				Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"spec": s}}}}
	}
	group := fmt.Sprintf("g%d.example.com", i)
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "things." + group},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{Group: group, Scope: apiextensionsv1.NamespaceScoped,
			Names:    apiextensionsv1.CustomResourceDefinitionNames{Plural: "things", Kind: "Thing"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{version("v1", true), version("v1beta1", false)}},
	}
}
