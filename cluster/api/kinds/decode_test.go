package kinds

import (
	"encoding/json"
	"reflect"
	"testing"

	kjson "sigs.k8s.io/json"

	"github.com/troupe-run/troupe/cluster/state"
)

// TestStoredObjectsAreDecodedAsByKubernetes compares what a restart makes of every kind with what the
// API's own decoder does.
func TestStoredObjectsAreDecodedAsByKubernetes(t *testing.T) {
	t.Parallel()
	for _, k := range All() {
		full := k.New()
		(&filler{}).fill(reflect.ValueOf(full).Elem())
		full.GetObjectKind().SetGroupVersionKind(k.GVK)
		text, err := json.Marshal(full)
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range [][]byte{
			text,
			[]byte(`{}`),
			[]byte(`{"metadata":null,"spec":null,"status":null}`),
			[]byte(`{"metadata":{"name":"a","labels":{},"annotations":null,"finalizers":[],"creationTimestamp":null},"Metadata":{"name":"b"}}`),
			[]byte(`{"metadata":{"name":"a","name":"b","annotations":{"a":"\ud800\u0000<&>\u2028","a":"last"}},"nobody":{"knows":[1.5e300]}}`),
			[]byte("{\"metadata\":{\"name\":\"\xff\"}}"),
		} {
			want, got := k.New(), k.New()
			wantErr, gotErr := kjson.UnmarshalCaseSensitivePreserveInts(data, want), state.Unmarshal(data, got)
			if (wantErr == nil) != (gotErr == nil) {
				t.Errorf("%s: %s: %v, want %v", k.GVK.Kind, data, gotErr, wantErr)
			} else if wantErr == nil && !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %s:\n%+v, want\n%+v", k.GVK.Kind, data, got, want)
			}
		}
	}
}
