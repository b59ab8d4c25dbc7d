package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	explain "k8s.io/kubectl/pkg/explain/v2"
	"sigs.k8s.io/yaml"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds"
)

// example is a valid object of a kind with as many fields set as go together.
type example struct {
	kind kind.Kind
	obj  kind.Object
}

func (e example) String() string { return e.kind.Resource + "." + e.kind.GVK.Group }

// examples reads testdata/examples.yaml, which must have one object of every kind that is stored.
func examples(t *testing.T) []example {
	t.Helper()
	text, err := os.ReadFile("testdata/examples.yaml")
	if err != nil {
		t.Fatal(err)
	}
	docs := make(map[schema.GroupVersionKind][]byte)
	for doc := range strings.SplitSeq(string(text), "\n---\n") {
		var m metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(doc), &m); err != nil {
			t.Fatal(err)
		}
		docs[m.GroupVersionKind()] = []byte(doc)
	}
	var out []example
	for _, k := range kinds.All() {
		// What adds kinds itself has names that follow from what it says, and tests of its own.
		if k.Answer != nil || k.GVK.Group == apiextensionsv1.GroupName || k.GVK.Group == apiregistrationv1.GroupName {
			continue
		}
		doc, ok := docs[k.GVK]
		if !ok {
			t.Errorf("testdata/examples.yaml has no %s", k.GVK)
			continue
		}
		obj := k.New()
		if err := yaml.UnmarshalStrict(doc, obj); err != nil {
			t.Errorf("%s: %v", k.GVK, err)
			continue
		}
		obj.GetObjectKind().SetGroupVersionKind(k.GVK)
		out = append(out, example{k, obj})
	}
	return out
}

// named is the example under another name: kinds whose objects cannot go at once leave the first one behind.
func (e example) named(n int) kind.Object {
	obj := e.obj.DeepCopyObject().(kind.Object)
	switch {
	case n == 0:
	case e.kind.GVK.Kind == "IPAddress":
		obj.SetName(fmt.Sprintf("192.0.2.%d", 50+n))
	default:
		obj.SetName(fmt.Sprintf("%s-%d", obj.GetName(), n))
	}
	return obj
}

const protobufType = "application/vnd.kubernetes.protobuf"

// restClient speaks one group and version in one encoding, watches included.
func (c *cluster) restClient(t *testing.T, gv schema.GroupVersion, contentType string) *rest.RESTClient {
	t.Helper()
	cfg := c.LoopbackConfig()
	cfg.GroupVersion, cfg.APIPath, cfg.NegotiatedSerializer = &gv, "/apis", scheme.Codecs.WithoutConversion()
	if gv.Group == "" {
		cfg.APIPath = "/api"
	}
	cfg.ContentType, cfg.AcceptContentTypes = contentType, contentType
	client, err := rest.RESTClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// settled says whether the server has written the status of an object that it writes by itself, a
// moment after the object; ours is false for all others.
func settled(obj kind.Object) (yes, ours bool) {
	switch o := obj.(type) {
	case *admissionregistrationv1.ValidatingAdmissionPolicy:
		return o.Status.ObservedGeneration == o.Generation, true
	case *flowcontrolv1.FlowSchema:
		return len(o.Status.Conditions) > 0, true
	}
	return false, false
}

// plain is an object as JSON values, without what differs from one object to the next.
func plain(t *testing.T, obj kind.Object) map[string]any {
	t.Helper()
	text, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	if uid := string(obj.GetUID()); uid != "" {
		text = bytes.ReplaceAll(text, []byte(uid), []byte("UID"))
	}
	text = bytes.ReplaceAll(text, []byte(`"`+obj.GetName()+`"`), []byte(`"NAME"`))
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	delete(out, "kind")
	delete(out, "apiVersion")
	meta := out["metadata"].(map[string]any)
	for _, name := range []string{"uid", "resourceVersion", "creationTimestamp", "managedFields"} {
		delete(meta, name)
	}
	if _, ours := settled(obj); ours {
		delete(out, "status")
	}
	if status, ok := out["status"].(map[string]any); ok {
		delete(status, "lastPhaseTransitionTime")
	}
	if spec, ok := out["spec"].(map[string]any); ok {
		claims, _ := spec["volumeClaimTemplates"].([]any)
		for _, claim := range claims { // whose type protobuf does not carry
			delete(claim.(map[string]any), "kind")
			delete(claim.(map[string]any), "apiVersion")
		}
	}
	return out
}

// missing lists the paths at which got lacks something that want has.
func missing(want, got any, path string) []string {
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		var out []string
		for _, key := range slices.Sorted(maps.Keys(w)) {
			out = append(out, missing(w[key], g[key], path+"."+key)...)
		}
		return out
	case []any:
		g, _ := got.([]any)
		var out []string
		for i := range w {
			var item any
			if i < len(g) {
				item = g[i]
			}
			out = append(out, missing(w[i], item, fmt.Sprintf("%s[%d]", path, i))...)
		}
		return out
	}
	if !apiequality.Semantic.DeepEqual(want, got) {
		return []string{fmt.Sprintf("%s: %v, want %v", path, got, want)}
	}
	return nil
}

// TestExamplesSurvive creates an object of every kind by JSON, by protobuf and by server-side apply, reads it
// back by both encodings, by watch and as a table: always the same object comes out, with all that
// went in, and writing it again changes nothing.
func TestExamplesSurvive(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.defaultAccount(t)
	for _, e := range examples(t) {
		t.Run(e.String(), func(t *testing.T) {
			t.Parallel()
			gv := e.kind.GVK.GroupVersion()
			byJSON, byProtobuf := c.restClient(t, gv, "application/json"), c.restClient(t, gv, protobufType)
			var first map[string]any
			for n, way := range []string{"json", "protobuf", "apply"} {
				obj, out := e.named(n), e.kind.New()
				at := func(r *rest.Request) *rest.Request {
					return r.NamespaceIfScoped(obj.GetNamespace(), e.kind.Namespaced).Resource(e.kind.Resource)
				}
				list := e.kind.NewList()
				if err := at(byJSON.Get()).Do(t.Context()).Into(list); err != nil {
					t.Fatal(err)
				}
				before := list.(metav1.ListInterface).GetResourceVersion()
				var err error
				switch way {
				case "json":
					err = at(byJSON.Post()).Body(obj).Do(t.Context()).Into(out)
				case "protobuf":
					err = at(byProtobuf.Post()).Body(obj).Do(t.Context()).Into(out)
				case "apply":
					var body []byte
					if body, err = json.Marshal(obj); err == nil {
						err = at(byJSON.Patch(types.ApplyPatchType)).Name(obj.GetName()).Param("fieldManager", "test").Body(body).Do(t.Context()).Into(out)
					}
				}
				if err != nil {
					t.Fatalf("%s: %v", way, err)
				}
				stored := plain(t, out)
				if lost := missing(plain(t, obj), stored, ""); len(lost) > 0 {
					t.Errorf("%s lost something:\n%s", way, strings.Join(lost, "\n"))
				}
				if first == nil {
					first = stored
				}
				if diff := cmp.Diff(first, stored); diff != "" {
					t.Errorf("%s stores something else than json (-json +%s):\n%s", way, way, diff)
				}
				for name, client := range map[string]*rest.RESTClient{"json": byJSON, "protobuf": byProtobuf} {
					got := e.kind.New()
					if err := at(client.Get()).Name(obj.GetName()).Do(t.Context()).Into(got); err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(stored, plain(t, got)); diff != "" {
						t.Errorf("read by %s after %s (-written +read):\n%s", name, way, diff)
					}
					w, err := at(client.Get()).VersionedParams(&metav1.ListOptions{ResourceVersion: before, Watch: true, FieldSelector: "metadata.name=" + obj.GetName()},
						scheme.ParameterCodec).Watch(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					ev := <-w.ResultChan()
					w.Stop()
					seen, ok := ev.Object.(kind.Object)
					if !ok || ev.Type != "ADDED" {
						t.Fatalf("watched by %s: %s %v", name, ev.Type, ev.Object)
					}
					if diff := cmp.Diff(stored, plain(t, seen)); diff != "" {
						t.Errorf("watched by %s after %s (-written +seen):\n%s", name, way, diff)
					}
				}
				if _, ours := settled(out); ours {
					eventually(t, func() bool {
						err := at(byJSON.Get()).Name(obj.GetName()).Do(t.Context()).Into(out)
						yes, _ := settled(out)
						return err == nil && yes
					})
				}
				again := e.kind.New()
				if err := at(byJSON.Put()).Name(obj.GetName()).Body(out).Do(t.Context()).Into(again); err != nil {
					t.Errorf("write it again: %v", err)
				} else if again.GetResourceVersion() != out.GetResourceVersion() {
					t.Errorf("an update without a change was stored:\n%s", cmp.Diff(plain(t, out), plain(t, again)))
				}
				e.table(t, at(byJSON.Get()).Name(obj.GetName()), obj.GetName())
				zero := int64(0)
				if err := at(byJSON.Delete()).Name(obj.GetName()).Body(&metav1.DeleteOptions{GracePeriodSeconds: &zero}).Do(t.Context()).Error(); err != nil {
					t.Errorf("delete: %v", err)
				}
			}
		})
	}
}

// table checks the row of an object against the columns of its kind.
func (e example) table(t *testing.T, get *rest.Request, name string) {
	t.Helper()
	raw, err := get.SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var table metav1.Table
	if err := json.Unmarshal(raw, &table); err != nil {
		t.Fatal(err)
	}
	columns := e.kind.Columns
	if e.kind.Row == nil {
		columns = make([]metav1.TableColumnDefinition, 2) // Name and Created At
	}
	if len(table.ColumnDefinitions) != len(columns) || len(table.Rows) != 1 || len(table.Rows[0].Cells) != len(columns) {
		t.Fatalf("table %s", raw)
	}
	for i, col := range table.ColumnDefinitions {
		cell := table.Rows[0].Cells[i]
		if col.Name == "Name" && !strings.HasPrefix(fmt.Sprint(cell), name) {
			t.Errorf("column %s says %v, want %s", col.Name, cell, name)
		}
		// As in Kubernetes, some numbers stand in columns of strings.
		if _, number := cell.(float64); !number && col.Type == "integer" {
			t.Errorf("column %s of type %s says %v", col.Name, col.Type, cell)
		}
	}
}

// TestExamplesSurviveCBOR takes every example through the library's CBOR.
func TestExamplesSurviveCBOR(t *testing.T) {
	t.Parallel()
	s := cbor.NewSerializer(scheme.Scheme, scheme.Scheme)
	for _, e := range examples(t) {
		data, err := runtime.Encode(s, e.obj)
		if err != nil {
			t.Errorf("%s: %v", e, err)
			continue
		}
		back, err := runtime.Decode(s, data)
		if err != nil {
			t.Errorf("%s: %v", e, err)
			continue
		}
		if diff := cmp.Diff(plain(t, e.obj), plain(t, back.(kind.Object))); diff != "" {
			t.Errorf("%s (-before +after):\n%s", e, diff)
		}
	}
}

// TestEveryKindExplains walks the schemas of every kind as kubectl explain --recursive does.
func TestEveryKindExplains(t *testing.T) {
	t.Parallel()
	c := start(t)
	client := c.client.Discovery().OpenAPIV3()
	raw, err := c.client.RESTClient().Get().AbsPath("/openapi/v2").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var v2 struct {
		Definitions map[string]struct {
			GVKs []metav1.GroupVersionKind `json:"x-kubernetes-group-version-kind"`
		} `json:"definitions"`
	}
	if err := json.Unmarshal(raw, &v2); err != nil {
		t.Fatal(err)
	}
	known := make(map[metav1.GroupVersionKind]bool)
	for _, def := range v2.Definitions {
		for _, gvk := range def.GVKs {
			known[gvk] = true
		}
	}
	check := func(gvk schema.GroupVersionKind, resource string) {
		var out bytes.Buffer
		if err := explain.PrintModelDescription(nil, &out, client, gvk.GroupVersion().WithResource(resource), true, "plaintext"); err != nil {
			t.Errorf("explain %s: %v", gvk, err)
			return
		}
		if text := out.String(); !strings.Contains(text, "KIND:       "+gvk.Kind) || strings.Count(text, "\n") < 10 {
			t.Errorf("explain %s:\n%s", gvk, text)
		}
		if !known[metav1.GroupVersionKind(gvk)] {
			t.Errorf("/openapi/v2 does not know %s", gvk)
		}
	}
	for _, k := range kinds.All() {
		check(k.GVK, k.Resource)
		for _, v := range k.Versions {
			check(v.GVK, k.Resource)
		}
	}
}

// BenchmarkOpenAPIV2 is the first answer to /openapi/v2, which builds the document.
func BenchmarkOpenAPIV2(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		c := start(b)
		b.StartTimer()
		raw, err := c.client.RESTClient().Get().AbsPath("/openapi/v2").DoRaw(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(raw)), "bytes")
		b.StopTimer()
		c.stop()
		b.StartTimer()
	}
}
