package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// TestSecretsRotate changes the sealing key of a running cluster, of one that is killed at it, and
// looks for what Secrets hold in the data folder and on all that other programs may read.
func TestSecretsRotate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := simUp(t, dir)
	const password = "correct-horse-battery"
	var yaml strings.Builder
	for i := range 120 {
		fmt.Fprintf(&yaml, "apiVersion: v1\nkind: Secret\nmetadata: {name: s%d}\nstringData: {password: %s}\n---\n", i, password)
	}
	heard := eavesdrop(t, w)
	w.apply(yaml.String())
	keys := func() int {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, "nats/sealing.key"))
		if err != nil {
			t.Fatal(err)
		}
		return len(strings.Split(strings.TrimSpace(string(text)), "\n"))
	}
	out := w.must("secrets", "rotate")
	for _, want := range []string{"objects to seal", "100 %", "all objects are sealed with key", "is kept until"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %q", want, out)
		}
	}
	if n := keys(); n != 2 {
		t.Errorf("%d keys after the first change", n)
	}

	// Killed in the midst of it, the cluster goes on when it is there again.
	cmd := command("secrets", "rotate", "--data-dir", dir)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := pipe.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	w.kill()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	complaint(t, w.troupe(nil, "secrets", "rotate"), "is troupe up?")
	w = simUp(t, dir)
	w.must("secrets", "rotate")
	if n := keys(); n != 3 && n != 4 { // by when it was killed it may have been done
		t.Errorf("%d keys in the end", n)
	}
	if got := w.kubectl("get", "secret", "s77", "-o", "jsonpath={.data.password}"); got != "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5" {
		t.Errorf("the password is %s", got)
	}
	if got := w.kubectl("get", "secrets", "-o", "name"); strings.Count(got, "\n") != 120 {
		t.Errorf("secrets:\n%s", got)
	}
	select {
	case text := <-heard:
		t.Errorf("a subject showed it: %s", text)
	default:
	}
	for _, form := range []string{password, "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5"} {
		nowhere(t, dir, form)
	}
}

// eavesdrop reads all that an observer may and returns what shows a password.
func eavesdrop(t *testing.T, w *world) <-chan string {
	t.Helper()
	robot := filepath.Join(t.TempDir(), "robot")
	url := ""
	for line := range strings.Lines(w.must("events", "credentials", "robot", robot)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "url" {
			url = f[1]
		}
	}
	nc, err := nats.Connect(url, nats.RootCAs(robot+"/ca.crt"), nats.ClientCert(robot+"/tls.crt", robot+"/tls.key"),
		nats.CustomInboxPrefix("_OBSERVER.robot"), nats.RetryOnFailedConnect(true))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	heard := make(chan string, 1000)
	if _, err := nc.Subscribe("troupe.local.changes.>", func(m *nats.Msg) {
		if bytes.Contains(m.Data, []byte("horse")) || bytes.Contains(m.Data, []byte("Y29ycmVjdC1ob3JzZ")) {
			heard <- m.Subject
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	return heard
}

// nowhere looks for a text in all files of a folder.
func nowhere(t *testing.T, dir, text string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it was in the midst of being replaced
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if bytes.Contains(content, []byte(text)) {
			t.Errorf("%s holds %q", path, text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
