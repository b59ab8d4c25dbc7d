package kinds

import (
	"context"
	"encoding/json"
	"math/rand"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"sigs.k8s.io/randfill"

	"github.com/troupe-run/troupe/cluster/api/kind"
)

func init() {
	for _, add := range []func(*runtime.Scheme) error{apiextensionsv1.AddToScheme, apiregistrationv1.AddToScheme} {
		if err := add(scheme.Scheme); err != nil {
			panic(err)
		}
	}
}

func TestKindsAreWellFormed(t *testing.T) {
	t.Parallel()
	seen := make(map[schema.GroupVersionResource]bool)
	for _, k := range All() {
		gvr := k.GVK.GroupVersion().WithResource(k.Resource)
		if seen[gvr] {
			t.Errorf("%s is listed twice", gvr)
		}
		seen[gvr] = true
		t.Run(k.Resource+"."+k.GVK.Group, func(t *testing.T) {
			t.Parallel()
			if k.Singular == "" || k.Resource != strings.ToLower(k.Resource) {
				t.Errorf("names: resource %q, singular %q", k.Resource, k.Singular)
			}
			obj := k.New()
			gvks, _, err := scheme.Scheme.ObjectKinds(obj)
			if err != nil || gvks[0] != k.GVK {
				t.Errorf("New() is a %v, want %s: %v", gvks, k.GVK, err)
			}
			if k.Row == nil {
				return
			}
			if cells := k.Row(obj); len(cells) != len(k.Columns) {
				t.Errorf("%d cells for %d columns", len(cells), len(k.Columns))
			}
			names := 0
			for _, col := range k.Columns {
				if col.Format == "name" {
					names++
				}
				if col.Description == "" && col.Name != "Handler" { // which has none in Kubernetes either
					t.Errorf("column %s has no description", col.Name)
				}
			}
			want := 1
			if k.GVK.Kind == "VolumeAttachment" {
				want = 2 // the attacher too, as in Kubernetes
			}
			if names != want {
				t.Errorf("%d name columns, want %d", names, want)
			}
		})
	}
}

// TestWhatPutMayDo compares who may create by PUT, and who may not write without a resourceVersion, with Kubernetes.
func TestWhatPutMayDo(t *testing.T) {
	t.Parallel()
	creates := []string{
		"ClusterRole", "ClusterRoleBinding", "Endpoints", "Event", "Lease", "LimitRange", "Role", "RoleBinding", "RuntimeClass", "Service",
	}
	needs := []string{
		"APIService", "CSIDriver", "CSINode", "CSIStorageCapacity", "CustomResourceDefinition", "Lease", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "MutatingWebhookConfiguration",
		"PodDisruptionBudget", "RuntimeClass", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration", "VolumeAttachment",
	}
	for _, k := range All() {
		if k.AllowCreateOnUpdate != slices.Contains(creates, k.GVK.Kind) {
			t.Errorf("%s: create by PUT %t", k.GVK, k.AllowCreateOnUpdate)
		}
		if k.NeedsResourceVersion != slices.Contains(needs, k.GVK.Kind) {
			t.Errorf("%s: needs a resourceVersion %t", k.GVK, k.NeedsResourceVersion)
		}
	}
}

// TestNothingPanics feeds every kind objects full of nonsense: whatever a client sends, rules must
// answer with errors. Defaults must settle: what is stored is defaulted again on every read.
func TestNothingPanics(t *testing.T) {
	t.Parallel()
	const rounds = 60
	for _, k := range All() {
		t.Run(k.Resource+"."+k.GVK.Group, func(t *testing.T) {
			t.Parallel()
			fill := fuzzer.FuzzerFor(fuzzer.MergeFuzzerFuncs(metafuzzer.Funcs, schemaFuncs), rand.NewSource(7), scheme.Codecs).MaxDepth(24)
			old := k.New()
			for range rounds {
				obj := k.New()
				fill.Fill(obj)
				if k.Default != nil {
					k.Default(obj)
					again := obj.DeepCopyObject()
					k.Default(again.(kind.Object))
					if !apiequality.Semantic.DeepEqual(obj, again) {
						t.Fatalf("defaults do not settle:\n%s", cmp.Diff(obj, again))
					}
				}
				exercise(k, obj, old)
				roundTrip(t, k, obj)
				old = obj
			}
		})
	}
}

// schemaFuncs fill what must not be just anything: they keep schemas, which contain themselves, small, and the JSON in them JSON.
func schemaFuncs(serializer.CodecFactory) []any {
	return []any{
		func(j *apiextensionsv1.JSON, c randfill.Continue) { j.Raw = []byte(`{"a":1}`) },
		func(r *autoscalingv2.HPAScalingRules, c randfill.Continue) {
			if c.FillNoCustom(r); len(r.Policies) == 0 { // an empty list is refused, and never stored
				r.Policies = nil
			}
		},
		func(s *apiextensionsv1.JSONSchemaProps, c randfill.Continue) {
			c.Fill(&s.Type)
			c.Fill(&s.Format)
			c.Fill(&s.XValidations)
			c.Fill(&s.Default)
			if c.Int()%3 == 0 {
				s.Properties = map[string]apiextensionsv1.JSONSchemaProps{"p": {Type: c.String(4)}}
				s.Items = &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &apiextensionsv1.JSONSchemaProps{Type: c.String(4)}}
			}
		},
	}
}

// exercise runs every function of a kind on one object and its predecessor.
func exercise(k kind.Kind, obj, old kind.Object) {
	ctx := context.Background()
	dup := func(o kind.Object) kind.Object { return o.DeepCopyObject().(kind.Object) }
	if k.Validate != nil {
		k.Validate(ctx, dup(obj))
	}
	if k.ValidateUpdate != nil {
		k.ValidateUpdate(ctx, dup(obj), dup(old))
		k.ValidateUpdate(ctx, dup(obj), dup(obj))
	}
	if k.PrepareForCreate != nil {
		k.PrepareForCreate(ctx, dup(obj))
	}
	if k.PrepareForUpdate != nil {
		k.PrepareForUpdate(ctx, dup(obj), dup(old))
	}
	if k.SpecChanged != nil {
		k.SpecChanged(obj, old)
	}
	if k.Warnings != nil {
		k.Warnings(ctx, obj, nil)
	}
	if k.Row != nil {
		k.Row(obj)
	}
	if k.Fields != nil {
		k.Fields(obj)
	}
	for _, index := range k.Indexes {
		index(obj)
	}
	if k.Scale != nil {
		k.Scale.Get(obj)
		k.Scale.Set(dup(obj), 3)
	}
	subs := []*kind.Subresource{k.Status}
	for _, s := range k.Subresources {
		subs = append(subs, s)
	}
	for _, s := range subs {
		if s == nil {
			continue
		}
		o, was := dup(obj), dup(old)
		if s.Prepare != nil {
			s.Prepare(ctx, o, was)
		}
		if s.Validate != nil {
			s.Validate(ctx, o, was)
		}
	}
}

// roundTrip checks that a defaulted object survives storage, which keeps it as JSON.
func roundTrip(t *testing.T, k kind.Kind, obj kind.Object) {
	t.Helper()
	data, err := json.Marshal(obj)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	back := k.New()
	if err := json.Unmarshal(data, back); err != nil {
		t.Fatalf("decode: %v", err)
	}
	if k.Default != nil {
		k.Default(back)
	}
	if again, err := json.Marshal(back); err != nil || !reflect.DeepEqual(data, again) {
		t.Fatalf("an object changes in storage: %v\n%s", err, cmp.Diff(string(data), string(again)))
	}
}
