package compare

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

var (
	only  = flag.String("only", "", "regular expression of kinds to compare, such as ^Pod$")
	limit = flag.Int("limit", 25, "differences of one kind and verb to show")
)

// kindOf is a resource as discovery shows it.
type kindOf struct {
	apiVersion, kind, resource string
	namespaced                 bool
	verbs                      []string
	subresources               []string
}

func (k kindOf) path(name string) string {
	p := "/apis/" + k.apiVersion
	if !strings.Contains(k.apiVersion, "/") {
		p = "/api/" + k.apiVersion
	}
	if k.namespaced {
		p += "/namespaces/default"
	}
	p += "/" + k.resource
	if name != "" {
		p += "/" + name
	}
	return p
}

// both are the servers that are compared.
type both struct {
	reference, subject *server
}

func servers(t *testing.T) both {
	t.Helper()
	reference, subject := os.Getenv("REFERENCE"), os.Getenv("SUBJECT")
	if reference == "" || subject == "" {
		t.Skip("REFERENCE and SUBJECT name no kubeconfigs: see make compare")
	}
	return both{newServer(t, reference), newServer(t, subject)}
}

// ask asks both the same and returns how their answers differ, and that of the reference.
func (b both) ask(t *testing.T, method, path, accept string, body any) (diff string, reference, subject answer) {
	t.Helper()
	reference, err := b.reference.ask(method, path, accept, body)
	if err != nil { // it panics at some of it
		t.Logf("the reference has no answer: %v", err)
		return "", answer{Body: map[string]any{}}, answer{Body: map[string]any{}}
	}
	if subject, err = b.subject.ask(method, path, accept, body); err != nil {
		return err.Error(), reference, answer{Body: map[string]any{}}
	}
	r, s := reference.copy(), subject.copy()
	r.normal()
	s.normal()
	if method == http.MethodPut && !strings.Contains(path, "/status?") { // which controllers have changed
		if r.Body["kind"] != "Status" {
			delete(r.Body, "status")
		}
		if s.Body["kind"] != "Status" {
			delete(s.Body, "status")
		}
	}
	return difference(r, s), reference, subject
}

// remove removes an object whatever holds it.
func (b both) remove(t *testing.T, k kindOf, name string) {
	t.Helper()
	for _, s := range []*server{b.reference, b.subject} {
		for _, request := range []struct {
			method, path string
			body         any
		}{
			{http.MethodPatch, k.path(name), map[string]any{"metadata": map[string]any{"finalizers": nil}}},
			{http.MethodDelete, k.path(name) + "?gracePeriodSeconds=0&propagationPolicy=Background", nil},
			{http.MethodPatch, k.path(name), map[string]any{"metadata": map[string]any{"finalizers": nil}}},
			{http.MethodPut, k.path(name) + "/finalize", map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}},
		} {
			if strings.HasSuffix(request.path, "/finalize") && k.kind != "Namespace" {
				continue
			}
			if _, err := s.ask(request.method, request.path, "", request.body); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (a answer) copy() answer {
	a.Body = deepCopy(a.Body).(map[string]any)
	return a
}

func discover(t *testing.T, s *server) map[string]kindOf {
	t.Helper()
	out := map[string]kindOf{}
	groups, err := s.ask(http.MethodGet, "/apis", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	versions := []string{"v1"}
	for _, g := range groups.Body["groups"].([]any) {
		for _, v := range g.(map[string]any)["versions"].([]any) {
			versions = append(versions, v.(map[string]any)["groupVersion"].(string))
		}
	}
	for _, v := range versions {
		path := "/apis/" + v
		if v == "v1" {
			path = "/api/v1"
		}
		list, err := s.ask(http.MethodGet, path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.Body["resources"].([]any) {
			r := r.(map[string]any)
			name := r["name"].(string)
			if base, sub, ok := strings.Cut(name, "/"); ok {
				k := out[v+" "+base]
				k.subresources = append(k.subresources, sub)
				out[v+" "+base] = k
				continue
			}
			k := out[v+" "+name]
			k.apiVersion, k.kind, k.resource, k.namespaced = v, r["kind"].(string), name, r["namespaced"].(bool)
			out[v+" "+name] = k
		}
	}
	return out
}

// examples are valid objects, one of each kind.
func examples(t *testing.T) []map[string]any {
	t.Helper()
	text, err := os.ReadFile("../../../cluster/api/testdata/examples.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var out []map[string]any
	for doc := range strings.SplitSeq(string(text), "\n---\n") {
		var obj map[string]any
		data, err := yaml.YAMLToJSON([]byte(doc))
		if err == nil {
			err = json.Unmarshal(data, &obj)
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, obj)
	}
	return out
}

// TestRules compares what the servers make of an example of every kind, and of all that is nearly the example.
func TestRules(t *testing.T) {
	b := servers(t)
	resources := map[string]kindOf{}
	for _, k := range discover(t, b.reference) {
		resources[k.apiVersion+" "+k.kind] = k
	}
	wanted := regexp.MustCompile(*only)
	for _, obj := range examples(t) {
		k, ok := resources[fmt.Sprintf("%v %v", obj["apiVersion"], obj["kind"])]
		if !ok || !wanted.MatchString(k.kind) {
			continue
		}
		t.Run(k.kind, func(t *testing.T) { compareKind(t, b, k, obj) })
	}
}

var values = regexp.MustCompile(`"[^"]*"|\b\d+\b`)

// report shows the differences of a verb, those of one sort once.
type report struct {
	t     *testing.T
	seen  map[string]int // of all verbs
	own   int
	total int
}

func (r *report) add(what, diff string) {
	r.t.Helper()
	if diff == "" {
		return
	}
	r.total++
	// What only repeats an earlier difference with other values tells nothing new.
	sort := values.ReplaceAllString(diff, "V")
	if r.seen[sort]++; r.seen[sort] > 1 {
		return
	}
	r.own++
	if r.own <= *limit {
		r.t.Errorf("%s (- Kubernetes, + troupe):\n%s", what, short(diff))
	}
}

func (r *report) end(verb string) {
	if r.total > 0 {
		r.t.Errorf("%s: %d differences, %d of them of their own sort", verb, r.total, r.own)
	}
}

const dry = "?dryRun=All&fieldValidation=Strict&fieldManager=compare"

func compareKind(t *testing.T, b both, k kindOf, obj map[string]any) {
	name := obj["metadata"].(map[string]any)["name"].(string)
	b.remove(t, k, name) // left by a run that was cut short
	creates := report{t: t, seen: map[string]int{}}
	diff, _, _ := b.ask(t, http.MethodPost, k.path("")+dry, "", obj)
	creates.add("create the example", diff)
	for _, m := range mutations(obj) {
		diff, _, _ := b.ask(t, http.MethodPost, k.path("")+dry, "", m.obj)
		creates.add("create with "+m.name, diff)
	}
	creates.end("create")

	// A controller may remove what seems to be left by its owner.
	delete(obj["metadata"].(map[string]any), "ownerReferences")

	diff, made, _ := b.ask(t, http.MethodPost, k.path("")+"?fieldManager=compare", "", obj)
	if diff != "" {
		t.Errorf("create: %s", short(diff))
	}
	if made.Code != http.StatusCreated && made.Code != http.StatusConflict {
		t.Logf("the reference does not take the example: %v", made.Body)
		return
	}
	defer b.remove(t, k, name)
	_, stored, _ := b.ask(t, http.MethodGet, k.path(name), "", nil)
	meta := stored.Body["metadata"].(map[string]any)
	for _, own := range []string{"uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"} {
		delete(meta, own)
	}
	compareTable(t, b, k, name)
	for _, sub := range []string{"", "/status"} {
		if sub != "" && !slices.Contains(k.subresources, sub[1:]) {
			continue
		}
		updates := report{t: t, seen: creates.seen}
		full := deepCopy(stored.Body).(map[string]any)
		if sub != "" {
			if have, ok := obj["status"]; ok {
				full["status"] = deepCopy(have)
			}
		}
		diff, _, _ := b.ask(t, http.MethodPut, k.path(name)+sub+dry, "", full)
		updates.add("update"+sub+" with what it is", diff)
		for _, m := range mutations(full) {
			if strings.HasPrefix(m.name, "metadata.name ") || strings.HasPrefix(m.name, "metadata.namespace ") {
				continue
			}
			diff, _, _ := b.ask(t, http.MethodPut, k.path(name)+sub+dry, "", m.obj)
			updates.add("update"+sub+" with "+m.name, diff)
		}
		updates.end("update" + sub)
	}
}

// compareTable compares what kubectl get shows.
func compareTable(t *testing.T, b both, k kindOf, name string) {
	t.Helper()
	const asTable = "application/json;as=Table;v=v1;g=meta.k8s.io"
	_, reference, subject := b.ask(t, http.MethodGet, k.path(name)+"?includeObject=None", asTable, nil)
	reference.normal()
	subject.normal()
	for _, diff := range deep("", reference.Body, subject.Body) {
		t.Errorf("table: %s", diff)
	}
}

// deep lists the places where two values differ.
func deep(at string, reference, subject any) (out []string) {
	switch r := reference.(type) {
	case map[string]any:
		if s, ok := subject.(map[string]any); ok {
			keys := maps.Clone(r)
			maps.Copy(keys, s)
			for _, k := range slices.Sorted(maps.Keys(keys)) {
				out = append(out, deep(at+"."+k, r[k], s[k])...)
			}
			return out
		}
	case []any:
		if s, ok := subject.([]any); ok && len(s) == len(r) {
			for i := range r {
				out = append(out, deep(fmt.Sprintf("%s[%d]", at, i), r[i], s[i])...)
			}
			return out
		}
	}
	if !cmp.Equal(reference, subject) {
		out = append(out, fmt.Sprintf("%s: Kubernetes %v, troupe %v", at, reference, subject))
	}
	return out
}

// TestDiscovery compares names, short names, categories, verbs and subresources.
func TestDiscovery(t *testing.T) {
	b := servers(t)
	groups := map[string]bool{"v1": true}
	for _, k := range discover(t, b.subject) {
		groups[k.apiVersion] = true
	}
	for _, v := range slices.Sorted(maps.Keys(groups)) {
		path := "/apis/" + v
		if v == "v1" {
			path = "/api/v1"
		}
		list := func(s *server) map[string]any {
			a, err := s.ask(http.MethodGet, path, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			out := map[string]any{}
			resources, _ := a.Body["resources"].([]any)
			for _, r := range resources {
				r := r.(map[string]any)
				delete(r, "storageVersionHash")
				out[r["name"].(string)] = r
			}
			return out
		}
		if diff := cmp.Diff(list(b.reference), list(b.subject)); diff != "" {
			t.Errorf("%s (- Kubernetes, + troupe):\n%s", v, diff)
		}
	}
}
