package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestBackupOfARunningCluster restores a backup elsewhere: the same kubeconfig user, the same
// objects, and revisions above all that the first cluster has handed out.
func TestBackupOfARunningCluster(t *testing.T) {
	t.Parallel()
	w := simUp(t, t.TempDir())
	file := filepath.Join(t.TempDir(), "all.troupe")
	w.kubectl("create", "secret", "generic", "key", "--from-literal=password=hunter2")
	w.kubectl("create", "configmap", "colors", "--from-literal=sky=blue")
	if out := w.must("backup", file); !strings.Contains(out, "objects at revision") {
		t.Errorf("backup says %q", out)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file: %v, %v", info, err)
	}
	w.kubectl("patch", "configmap", "colors", "-p", `{"data":{"sky":"grey"}}`)
	const revision = "jsonpath={.metadata.resourceVersion}"
	before, err := strconv.Atoi(w.kubectl("get", "configmap", "colors", "-o", revision))
	if err != nil {
		t.Fatal(err)
	}
	complaint(t, w.troupe(nil, "restore", file), "is not empty", "--data-dir")
	w.kill()

	dir := filepath.Join(t.TempDir(), "data")
	if out := w.must("restore", file, "--data-dir", dir); !strings.Contains(out, "100 %") || !strings.Contains(out, "troupe up") {
		t.Errorf("restore says %q", out)
	}
	w = simUp(t, dir)
	if sky := w.kubectl("get", "configmap", "colors", "-o", "jsonpath={.data.sky}"); sky != "blue" {
		t.Errorf("the sky is %s", sky)
	}
	if password := w.kubectl("get", "secret", "key", "-o", "jsonpath={.data.password}"); password != "aHVudGVyMg==" {
		t.Errorf("the password is %s", password)
	}
	after, err := strconv.Atoi(w.kubectl("get", "configmap", "colors", "-o", revision))
	if err != nil || after <= before {
		t.Errorf("revision %d after %d, %v", after, before, err)
	}
	w.kubectl("patch", "configmap", "colors", "-p", `{"data":{"sky":"red"}}`)

	if err := os.WriteFile(file+".cut", []byte("troupe"), 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(t.TempDir(), "none")
	complaint(t, w.troupe(nil, "restore", file+".cut", "--data-dir", none), "read backup")
	for _, left := range []string{none, none + ".restoring"} {
		if _, err := os.Stat(left); err == nil {
			t.Errorf("%s is left", left)
		}
	}
}
