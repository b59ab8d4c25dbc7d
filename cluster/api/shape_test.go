package api

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
)

func TestGuardBody(t *testing.T) {
	t.Parallel()
	// The serializer of quantities would choke on writing this one itself.
	hugeQuantity := "\x12\x11\x0a\x0f1e1000000000000"
	for name, tc := range map[string]struct{ mime, body, want string }{
		"plain":                       {"application/json", `{"a":[1,2,{"b":"c"}]}`, ""},
		"deep enough":                 {"application/json", strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth), ""},
		"too deep":                    {"application/json", strings.Repeat("[", maxDepth+1), "deep"},
		"brackets in text":            {"application/json", `{"a":"` + strings.Repeat(`[{,\"`, 400_000) + `"}`, ""},
		"long list":                   {"application/json", "[" + strings.Repeat("1,", maxElements-1) + "1]", ""},
		"longer list":                 {"application/json", "[" + strings.Repeat("1,", maxElements) + "1]", "elements in one list"},
		"many lists":                  {"application/merge-patch+json", "[" + strings.Repeat("[1,2],", 10_000) + "1]", ""},
		"many members":                {"application/json", "{" + strings.Repeat(`"a":1,`, maxValues+1) + "}", "values"},
		"what is neither":             {"text/plain", strings.Repeat("[", maxDepth+1), ""},
		"YAML":                        {"application/yaml", "a:\n- b\n- {c: d}\n", ""},
		"YAML that is JSON":           {"application/apply-patch+yaml", strings.Repeat(`{"a":`, maxDepth+1), "deep"},
		"YAML bomb":                   {"application/yaml", "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n", "document contains excessive aliasing"},
		"YAML quantity":               {"application/yaml", "limits: {cpu: 1e1000000000000}", "quantity"},
		"quantity":                    {"application/json", `{"limits":{"cpu":"1e1000000000000"}}`, "quantity"},
		"quantity as a number":        {"application/json", `{"limits":{"cpu":1e1000000}}`, "quantity"},
		"quantity of many digits":     {"application/json", `{"sizeLimit":"` + strings.Repeat("9", maxDigits+1) + `Ki"}`, "quantity"},
		"quantity deeper":             {"application/json", `{"capacity":{"memory":{"value":"1e-1000000000000"}}}`, "quantity"},
		"quantity in a JSON patch":    {"application/json-patch+json", `[{"op":"add","path":"/spec/hard/cpu","value":"1e1000000000000"}]`, "quantity"},
		"quantities in a JSON patch":  {"application/json-patch+json", `[{"op":"add","path":"/spec/hard","value":{"cpu":"1e1000000000000"}}]`, "quantity"},
		"commit in a JSON patch":      {"application/json-patch+json", `[{"op":"add","path":"/metadata/labels/a","value":"12e3456789"}]`, ""},
		"large but harmless quantity": {"application/json", `{"limits":{"cpu":"1e99"}}`, ""},
		"commit that looks like one":  {"application/json", `{"labels":{"commit":"12e3456789"},"args":["12e3456789"]}`, ""},
		"quantity as protobuf":        {"application/vnd.kubernetes.protobuf", "k8s\x00" + hugeQuantity, "quantity"},
		"other protobuf":              {"application/vnd.kubernetes.protobuf", "k8s\x00\x0a\x0f1e1000000000000", ""},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(tc.body))
		r.Header.Set("Content-Type", tc.mime)
		guardBody(r)
		got, err := io.ReadAll(r.Body)
		switch {
		case tc.want == "" && (err != nil || string(got) != tc.body):
			t.Errorf("%s: %v, %d bytes of %d", name, err, len(got), len(tc.body))
		case tc.want != "" && (!apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// TestGuardFindsQuantitiesInProtobuf makes sure that quantities look in protobuf as it believes.
func TestGuardFindsQuantitiesInProtobuf(t *testing.T) {
	t.Parallel()
	pod := corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{
		Limits: corev1.ResourceList{"cpu": apiresource.MustParse("1e1000001")}}}}}}
	b, err := pod.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if checkProtobuf(b) == "" {
		t.Error("not found")
	}
}

// FuzzGuard compares the guard with a reader of JSON: what is small passes whole.
func FuzzGuard(f *testing.F) {
	for _, seed := range []string{`{"a":["b",{"c":1e5}]}`, `["\"\\",{}]`, `{"limits":{"cpu":"1"}}`, "[[[[", `"`, "{]}", `{"a":{"a":"\u0022"}}`} {
		f.Add([]byte(seed), 3)
	}
	f.Fuzz(func(t *testing.T, body []byte, piece int) {
		var s jsonShape
		var problem string
		for rest := body; len(rest) > 0 && problem == ""; {
			n := min(max(piece, 1), len(rest))
			problem = s.scan(rest[:n])
			rest = rest[n:]
		}
		var v any
		if json.Unmarshal(body, &v) != nil || len(body) > 5000 {
			return
		}
		if problem != "" && problem != tooLargeNumber && len(body) < maxDepth {
			t.Errorf("%q: %s", body, problem)
		}
		if problem == "" && len(s.open) != 0 {
			t.Errorf("%q: %d lists and maps are said to be open", body, len(s.open))
		}
	})
}
