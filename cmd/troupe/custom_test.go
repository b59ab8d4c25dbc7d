package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const mice = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: mice.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: mice, singular: mouse, kind: Mouse}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {colour: {type: string}, tail: {type: string, default: long}}}}}}
`

const mouse = "apiVersion: example.com/v1\nkind: Mouse\nmetadata: {name: jerry, namespace: default}\nspec: {colour: %}\n"

// TestCustomResourcesOverTime looks back at a custom resource, goes back, follows it in the change
// stream, and restores it from a backup: all that objects of any kind can do.
func TestCustomResourcesOverTime(t *testing.T) {
	t.Parallel()
	w := simUp(t, t.TempDir())
	history := func(args ...string) string {
		t.Helper()
		return w.must(append([]string{"history", "--data-dir", w.dir}, args...)...)
	}
	colour := func(want string) {
		t.Helper()
		if got := w.kubectl("get", "mouse", "jerry", "-o", "jsonpath={.spec.colour} {.spec.tail}"); got != want+" long" {
			t.Errorf("the mouse is %q, want %s", got, want)
		}
	}
	w.apply(mice)
	w.kubectl("wait", "crd/mice.example.com", "--for=condition=Established", "--timeout=30s")
	w.apply(strings.Replace(mouse, "%", "grey", 1))
	w.apply(strings.Replace(mouse, "%", "white", 1))
	lines := strings.Split(strings.TrimSpace(history("mouse/jerry")), "\n")
	if len(lines) != 3 || !strings.Contains(lines[1], "create") || !strings.Contains(lines[1], "kubernetes-admin") || !strings.Contains(lines[2], "spec.colour") {
		t.Fatalf("history:\n%s", strings.Join(lines, "\n"))
	}
	if out := history("mice.example.com/jerry", "--diff"); !strings.Contains(out, `~ spec.colour: "grey" -> "white"`) {
		t.Errorf("history with differences:\n%s", out)
	}
	first, _, _ := strings.Cut(lines[1], " ")
	history("undo", "mouse/jerry", "--to", first)
	colour("grey")
	w.kubectl("delete", "mouse", "jerry")
	history("undo", "mouse/jerry", "--to", first)
	colour("grey")

	robot := filepath.Join(t.TempDir(), "robot")
	url := ""
	for line := range strings.Lines(w.must("events", "credentials", "robot", robot)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "url" {
			url = f[1]
		}
	}
	nc, err := nats.Connect(url, nats.RootCAs(robot+"/ca.crt"), nats.ClientCert(robot+"/tls.crt", robot+"/tls.key"), nats.CustomInboxPrefix("_OBSERVER.robot"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.CreateOrUpdateConsumer(t.Context(), "changes", jetstream.ConsumerConfig{FilterSubject: "troupe.local.changes.example/com.mice.default.jerry"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"create grey", "update white", "update grey", "delete grey", "create grey"} {
		m, err := consumer.Next(jetstream.FetchMaxWait(10 * time.Second))
		if err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		var object struct{ Spec struct{ Colour string } }
		if err := json.Unmarshal(m.Data(), &object); err != nil {
			t.Fatal(err)
		}
		if got := m.Headers().Get("Troupe-Verb") + " " + object.Spec.Colour; got != want || m.Headers().Get("Troupe-Kind") != "example.com/v1/Mouse" || m.Headers().Get("Troupe-Uid") == "" {
			t.Errorf("the change stream says %s %v, want %s", got, m.Headers(), want)
		}
	}

	file := filepath.Join(t.TempDir(), "all.troupe")
	w.must("backup", file)
	uid := w.kubectl("get", "mouse", "jerry", "-o", "jsonpath={.metadata.uid}")
	w.kill()
	dir := filepath.Join(t.TempDir(), "data")
	w.must("restore", file, "--data-dir", dir)
	w = simUp(t, dir)
	colour("grey")
	if got := w.kubectl("get", "mouse", "jerry", "-o", "jsonpath={.metadata.uid}"); got != uid {
		t.Errorf("uid %s, was %s", got, uid)
	}
	w.kubectl("patch", "mouse", "jerry", "--type=merge", "-p", `{"spec":{"colour":"brown"}}`)
	colour("brown")
	w.kubectl("delete", "crd", "mice.example.com", "--timeout=30s")
}
