package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// outsideNATS runs a NATS server as somebody else would, and returns its URL.
func outsideNATS(t *testing.T) string {
	t.Helper()
	opts := &server.Options{}
	if err := opts.ProcessConfigString(`
		jetstream: {max_memory_store: 64MB, max_file_store: 1GB, sync_interval: always}
		max_payload: 4MB
		authorization: {user: troupe, password: hunter2}`); err != nil {
		t.Fatal(err)
	}
	opts.Host, opts.Port, opts.StoreDir, opts.NoSigs, opts.NoLog = "127.0.0.1", server.RANDOM_PORT, t.TempDir(), true, true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS does not come up")
	}
	return strings.Replace(s.ClientURL(), "nats://", "nats://troupe:hunter2@", 1)
}

// TestUpOnOutsideNATS keeps a cluster in a NATS server that runs already, crashes, goes on, and lets a
// second control plane with the same keys stand by and take over.
func TestUpOnOutsideNATS(t *testing.T) {
	t.Parallel()
	url := outsideNATS(t)
	args := []string{"--runtime", "sim", "--api-addr", "127.0.0.1:0", "--nats-url", url, "--log-level", "error"}
	first := &world{t: t, dir: t.TempDir()}
	first.up(args...)
	t.Cleanup(first.kill)
	if strings.Contains(first.out.String(), "hunter2") {
		t.Error("the password is shown")
	}
	first.kubectl("create", "configmap", "colors", "--from-literal=sky=blue")
	first.kubectl("create", "deployment", "web", "--image=x", "--replicas=2")
	first.kubectl("rollout", "status", "deployment", "web", "--timeout=60s")
	const revision = "jsonpath={.metadata.resourceVersion}"
	before := first.kubectl("get", "configmap", "colors", "-o", revision)
	first.kill()
	first.up(args...)
	if after := first.kubectl("get", "configmap", "colors", "-o", revision); after != before {
		t.Errorf("revision %s, before the crash %s", after, before)
	}
	if out := first.must("backup", filepath.Join(t.TempDir(), "b")); !strings.Contains(out, "objects at revision") {
		t.Errorf("backup says %q", out)
	}
	if out := first.must("history", "configmap/colors"); !strings.Contains(out, before) {
		t.Errorf("history says %q", out)
	}

	stranger := &world{t: t, dir: t.TempDir()}
	if r := stranger.troupe(nil, append([]string{"up"}, args...)...); r.code != 1 || !strings.Contains(r.err, "belongs to the cluster") || strings.Count(r.err, "\n") != 1 {
		t.Errorf("a stranger's cluster: code %d, %s", r.code, r.err)
	}

	second := &world{t: t, dir: t.TempDir()}
	for _, name := range []string{"keys", "nats/sealing.key"} {
		copyAll(t, filepath.Join(first.dir, name), filepath.Join(second.dir, name))
	}
	second.up(append(args, "--node-name", "second")...)
	t.Cleanup(second.kill)
	if out := second.out.String(); !strings.Contains(out, "standing by") {
		t.Errorf("the second control plane does not stand by:\n%s", out)
	}
	second.kubectl("patch", "configmap", "colors", "-p", `{"data":{"sky":"grey"}}`)
	if sky := first.kubectl("get", "configmap", "colors", "-o", "jsonpath={.data.sky}"); sky != "grey" {
		t.Errorf("the first control plane shows a %s sky", sky)
	}

	// Both read what is sealed with a key that only one of them has made, and from one's grave too.
	word := func(w *world, secret string) string {
		t.Helper()
		return w.kubectl("get", "secret", secret, "-o", "go-template={{.data.word | base64decode}}")
	}
	second.kubectl("create", "secret", "generic", "before", "--from-literal=word=tulip")
	if out := second.must("secrets", "rotate"); !strings.Contains(out, "all objects are sealed with key") {
		t.Errorf("rotate says:\n%s", out)
	}
	second.kubectl("create", "secret", "generic", "after", "--from-literal=word=rose")
	for _, w := range []*world{first, second} {
		if b, a := word(w, "before"), word(w, "after"); b != "tulip" || a != "rose" {
			t.Errorf("after the rotation: %s and %s", b, a)
		}
	}
	first.kill()
	if b, a := word(second, "before"), word(second, "after"); b != "tulip" || a != "rose" {
		t.Errorf("after the leader's end: %s and %s", b, a)
	}
	second.kubectl("patch", "configmap", "colors", "-p", `{"data":{"sky":"red"}}`)
	second.kubectl("scale", "deployment", "web", "--replicas=3")
	second.kubectl("rollout", "status", "deployment", "web", "--timeout=60s")
	was, _ := strconv.Atoi(before)
	if is, err := strconv.Atoi(second.kubectl("get", "configmap", "colors", "-o", revision)); err != nil || is <= was {
		t.Errorf("revision %d after %d: %v", is, was, err)
	}
}

func copyAll(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	if info.IsDir() {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
		return
	}
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
