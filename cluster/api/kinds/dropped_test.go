package kinds

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/troupe-run/troupe/cluster/api/kind"
)

// resets names, by resource and group, the fields that create does not take from the user, or that
// it folds into another.
var resets = map[string][]string{
	"secrets.": {".stringData"}, // goes into data
	// The system's own facts about who asks.
	"certificatesigningrequests.certificates.k8s.io": {".spec.username", ".spec.uid", ".spec.groups", ".spec.extra", ".status"},
	"serviceaccounts.": {".secrets[0]."},   // only the names are of use
	"nodes.":           {".spec.podCIDRs"}, // the older field is what was meant
	// What Kubernetes 1.36 has switched off, or taken over from an older version.
	"endpointslices.discovery.k8s.io": {".endpoints[0].deprecatedTopology"},
	"leases.coordination.k8s.io":      {".spec.preferredHolder", ".spec.strategy"},
	"statefulsets.apps":               {".spec.updateStrategy.rollingUpdate.maxUnavailable"},
	// The older field for a source takes claims and snapshots only.
	"persistentvolumeclaims.": {".spec.dataSource."},
	// Begun by the library's own strategy, which also notes which versions have been stored.
	"customresourcedefinitions.apiextensions.k8s.io": {".metadata.generation"},
}

// keepsStatus are kinds whose objects come with their status.
var keepsStatus = []string{"nodes."}

// oldAlias is an older name of serviceAccountName, which overrides it.
const oldAlias = ".serviceAccount"

// filler sets every field of an object to something that is not its zero value; of types that
// contain themselves, once.
type filler struct {
	n    int
	open []reflect.Type // the structs that are being filled, from the outermost
}

func (f *filler) fill(v reflect.Value) {
	f.n++
	switch p := v.Addr().Interface().(type) {
	case *metav1.TypeMeta:
		return
	case *metav1.Time:
		*p = metav1.NewTime(time.Unix(int64(1e9+f.n), 0).UTC())
		return
	case *metav1.MicroTime:
		*p = metav1.NewMicroTime(time.Unix(int64(1e9+f.n), 1000).UTC())
		return
	case *resource.Quantity:
		*p = *resource.NewQuantity(int64(f.n), resource.DecimalSI)
		return
	case *intstr.IntOrString:
		*p = intstr.FromInt32(int32(f.n))
		return
	case *runtime.RawExtension:
		p.Raw = fmt.Appendf(nil, `{"n":%d}`, f.n)
		return
	case *apiextensionsv1.JSON:
		p.Raw = fmt.Appendf(nil, `{"n":%d}`, f.n)
		return
	case *metav1.FieldsV1:
		p.SetRawBytes([]byte(`{"f:a":{}}`))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("x%d", f.n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Int8, reflect.Int16:
		v.SetInt(int64(1 + f.n%100))
	case reflect.Uint8:
		v.SetUint(uint64(f.n % 200))
	case reflect.Float64:
		v.SetFloat(float64(f.n))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		f.fill(v.Index(0))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		f.fill(key)
		f.fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		if slices.Contains(f.open, v.Type()) {
			return
		}
		f.open = append(f.open, v.Type())
		defer func() { f.open = f.open[:len(f.open)-1] }()
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				f.fill(v.Field(i))
			}
		}
	}
}

// leaves are the paths of an object's JSON that end in a value.
func leaves(t *testing.T, obj any) map[string]string {
	t.Helper()
	text, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	var walk func(v any, path string)
	walk = func(v any, path string) {
		switch v := v.(type) {
		case map[string]any:
			for key, value := range v {
				walk(value, path+"."+key)
			}
		case []any:
			for i, value := range v {
				walk(value, fmt.Sprintf("%s[%d]", path, i))
			}
		default:
			out[path] = fmt.Sprint(v)
		}
	}
	walk(v, "")
	return out
}

func filled(k *kind.Kind) kind.Object {
	obj := k.New()
	(&filler{}).fill(reflect.ValueOf(obj).Elem())
	return obj
}

// TestNoFieldIsDropped sets every field of every kind and sees what create and update make of it:
// whatever a kind does not list as reset must come out as it went in.
func TestNoFieldIsDropped(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, k := range All() {
		if k.Answer != nil {
			continue
		}
		name := k.Resource + "." + k.GVK.Group
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			obj := filled(&k)
			before := leaves(t, obj)
			if len(before) < 10 {
				t.Fatalf("only %d fields were set", len(before))
			}
			if k.Default != nil {
				k.Default(obj)
			}
			if k.PrepareForCreate != nil {
				k.PrepareForCreate(ctx, obj)
			}
			after := leaves(t, obj)
			status := slices.Contains(keepsStatus, name)
			for _, path := range slices.Sorted(maps.Keys(before)) {
				mayReset := strings.HasSuffix(path, oldAlias) ||
					slices.ContainsFunc(resets[name], func(p string) bool { return strings.HasPrefix(path, p) })
				if after[path] != before[path] && !mayReset && (status || !strings.HasPrefix(path, ".status")) {
					t.Errorf("create makes %q of %s, which was %q", after[path], path, before[path])
				}
			}
			if k.PrepareForUpdate == nil || len(resets[name]) > 0 {
				return
			}
			was := obj.DeepCopyObject().(kind.Object)
			k.PrepareForUpdate(ctx, obj, was)
			if diff := cmp.Diff(leaves(t, was), leaves(t, obj)); diff != "" {
				t.Errorf("an update without a change is one (-was +is):\n%s", diff)
			}
		})
	}
}

// TestVersionsDropNothing sets every field of every further version of a kind and takes it to the kind's
// own and back.
func TestVersionsDropNothing(t *testing.T) {
	t.Parallel()
	for _, k := range All() {
		for _, v := range k.Versions {
			t.Run(v.GVK.GroupVersion().String()+"."+k.Resource, func(t *testing.T) {
				t.Parallel()
				obj := v.New()
				(&filler{}).fill(reflect.ValueOf(obj).Elem())
				before := leaves(t, obj)
				back := v.ToVersion(v.FromVersion(obj))
				after := leaves(t, back)
				for _, path := range slices.Sorted(maps.Keys(before)) {
					if after[path] != before[path] {
						t.Errorf("%q came back as %q at %s", before[path], after[path], path)
					}
				}
			})
		}
	}
}
