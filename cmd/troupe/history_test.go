package main

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/troupe-run/troupe/messages"
)

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := yaml.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestChangesBetweenRevisions(t *testing.T) {
	t.Parallel()
	const before = `
metadata: {name: web, resourceVersion: "1", managedFields: [{manager: a}], labels: {example.org/a: x}}
spec: {replicas: 2, containers: [{name: web, image: "web:1"}, {name: log, image: log}], args: [a]}`
	for name, tt := range map[string]struct {
		after string
		want  []string
	}{
		"nothing": {before, nil},
		"unread":  {strings.NewReplacer(`"1"`, `"2"`, "manager: a", "manager: b").Replace(before), nil},
		"a value": {strings.Replace(before, "replicas: 2", "replicas: 5", 1), []string{"~ spec.replicas: 2 -> 5"}},
		"a label": {strings.Replace(before, "example.org/a: x", "b: z", 1), []string{"+ metadata.labels.b: \"z\"", "- metadata.labels[\"example.org/a\"]: \"x\""}},
		"one in front": {strings.Replace(before, `[{name: web, image: "web:1"}, `, `[{name: new}, {name: web, image: "web:2"}, `, 1),
			[]string{`+ spec.containers[new].name: "new"`, `~ spec.containers[web].image: "web:1" -> "web:2"`}},
		"in a list of values": {strings.Replace(before, "args: [a]", "args: [a, null]", 1), []string{"+ spec.args[1]: null"}},
	} {
		var got []string
		for _, c := range changes(parse(t, before), past{verb: messages.VerbUpdate, object: parse(t, tt.after)}) {
			got = append(got, c.String())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if got := changes(parse(t, before), past{verb: messages.VerbUpdate, sealed: true}); got != nil {
		t.Errorf("of a sealed revision: %v", got)
	}
}

func TestGoBack(t *testing.T) {
	t.Parallel()
	now := &unstructured.Unstructured{Object: parse(t, `{kind: X, metadata: {name: a, resourceVersion: "9"}, spec: {n: 2}, extra: 1, status: {up: true}}`)}
	was := parse(t, `{kind: X, metadata: {name: a, resourceVersion: "3", uid: old, ownerReferences: [], labels: {l: m}}, spec: {n: 1}, data: {k: v}, status: {up: false}}`)
	want := parse(t, `{kind: X, metadata: {name: a, resourceVersion: "9"}, spec: {n: 1}, data: {k: v}, status: {up: true}}`)
	if diff := cmp.Diff(want, goBack(now, was).Object); diff != "" {
		t.Errorf("updated (-want +got):\n%s", diff)
	}
	want = parse(t, `{kind: X, metadata: {name: a, labels: {l: m}}, spec: {n: 1}, data: {k: v}}`)
	if diff := cmp.Diff(want, afresh(was).Object); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
}

// TestHistoryOfObjects writes as a user does, looks back and goes back.
func TestHistoryOfObjects(t *testing.T) {
	t.Parallel()
	w := simUp(t, t.TempDir())
	history := func(args ...string) string {
		t.Helper()
		return w.must(append([]string{"history", "--data-dir", w.dir}, args...)...)
	}
	w.kubectl("create", "configmap", "colors", "--from-literal=sky=blue")
	w.kubectl("patch", "configmap", "colors", "-p", `{"data":{"sky":"grey"}}`)
	w.kubectl("create", "secret", "generic", "key", "--from-literal=password=hunter2")
	out := history("cm/colors")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 || !strings.Contains(lines[1], "create") || !strings.Contains(lines[1], "kubernetes-admin") || !strings.Contains(lines[2], "data.sky") {
		t.Errorf("history:\n%s", out)
	}
	if out := history("ConfigMap/colors", "--diff"); !strings.Contains(out, `~ data.sky: "blue" -> "grey"`) {
		t.Errorf("history with differences:\n%s", out)
	}
	if out := history("secret/key", "--diff"); strings.Contains(out, "hunter2") || !strings.Contains(out, "create") {
		t.Errorf("history of a secret:\n%s", out)
	}
	first, _, _ := strings.Cut(lines[1], " ")
	if out := history("undo", "cm/colors", "--to", first); !strings.Contains(out, "again") {
		t.Errorf("undo:\n%s", out)
	}
	if sky := w.kubectl("get", "configmap", "colors", "-o", "jsonpath={.data.sky}"); sky != "blue" {
		t.Errorf("after undoing the sky is %s", sky)
	}
	w.kubectl("delete", "configmap", "colors")
	history("undo", "cm/colors", "--to", first)
	if sky := w.kubectl("get", "configmap", "colors", "-o", "jsonpath={.data.sky}"); sky != "blue" {
		t.Errorf("created anew the sky is %s", sky)
	}
	n, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"colors"}, "KIND/NAME"},
		{[]string{"cm/none"}, "nothing of cm/none"},
		{[]string{"undo", "cm/colors"}, "--to"},
		{[]string{"undo", "cm/colors", "--to", strconv.Itoa(n + 100000)}, "no revision"},
		{[]string{"undo", "secret/key", "--to", "1"}, "no revision 1"},
	} {
		complaint(t, w.troupe(nil, append([]string{"history", "--data-dir", w.dir}, tt.args...)...), tt.want)
	}
}
