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

// TestPlainClientFollowsChanges is a program that knows NATS and what ARCHITECTURE.md says, nothing
// else: all names are spelled out here. It reads from a durable consumer, goes away, and resumes.
func TestPlainClientFollowsChanges(t *testing.T) {
	t.Parallel()
	w := simUp(t, t.TempDir())
	robot := filepath.Join(t.TempDir(), "robot")
	url := ""
	for line := range strings.Lines(w.must("events", "credentials", "robot", robot)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "url" {
			url = f[1]
		}
	}
	connect := func() jetstream.Consumer {
		nc, err := nats.Connect(url, nats.RootCAs(robot+"/ca.crt"), nats.ClientCert(robot+"/tls.crt", robot+"/tls.key"),
			nats.CustomInboxPrefix("_OBSERVER.robot"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		consumer, err := js.CreateOrUpdateConsumer(t.Context(), "changes", jetstream.ConsumerConfig{
			Durable: "robot", FilterSubject: "troupe.local.changes._.configmaps.default.my/colors", AckPolicy: jetstream.AckExplicitPolicy})
		if err != nil {
			t.Fatal(err)
		}
		return consumer
	}
	next := func(c jetstream.Consumer, verb, sky string) (revision string) {
		t.Helper()
		m, err := c.Next(jetstream.FetchMaxWait(10 * time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
		var object struct {
			Kind     string
			Metadata struct{ Name string }
			Data     map[string]string
		}
		if err := json.Unmarshal(m.Data(), &object); err != nil {
			t.Fatal(err)
		}
		h := m.Headers()
		if h.Get("Troupe-Verb") != verb || h.Get("Troupe-Kind") != "v1/ConfigMap" || h.Get("Troupe-User") != "kubernetes-admin" ||
			object.Kind != "ConfigMap" || object.Metadata.Name != "my.colors" || object.Data["sky"] != sky {
			t.Errorf("%s: got %v with %s", verb, h, m.Data())
		}
		return h.Get("Troupe-Revision")
	}
	w.kubectl("create", "configmap", "my.colors", "--from-literal=sky=blue")
	created := next(connect(), "create", "blue")
	if have := w.kubectl("get", "configmap", "my.colors", "-o", "jsonpath={.metadata.resourceVersion}"); have != created {
		t.Errorf("revision %s is resourceVersion %s", created, have)
	}
	w.kubectl("patch", "configmap", "my.colors", "-p", `{"data":{"sky":"grey"}}`)
	w.kubectl("delete", "configmap", "my.colors")
	again := connect()
	next(again, "update", "grey")
	next(again, "delete", "grey")
}
