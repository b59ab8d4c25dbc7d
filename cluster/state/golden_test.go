package state_test

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// Golden data folders are what some version of the program has left on disk: the files of the bus,
// the mark and the sealing keys, beside a listing of what was in it. Every later version has to
// read them. A change of what is stored gets a new folder, written by -golden, and never touches
// an old one.
var golden = flag.String("golden", "", "write a golden data folder of this name")

var widgets = messages.Resource{Group: "example.com", Resource: "widgets"}

// goldenObject is one line of the listing of a golden folder.
type goldenObject struct {
	Key     string
	Rev     uint64
	Expires int64 `json:",omitempty"`
	Object  map[string]any
}

func goldenConfig(c *state.Config) {
	c.Resources = append(c.Resources, secrets)
	c.Changes = &state.Changes{}
}

// writeGolden stores one of everything: plain, indexed and named oddly, updated, deleted, sealed,
// custom, and with an end.
func writeGolden(t *testing.T, s *state.Store) {
	t.Helper()
	a := pod("a", "node-1")
	a.Labels = map[string]string{"app": "web"}
	rev := commit(t, s, op(t, s, a, 0))
	a = pod("a", "node-2")
	a.Labels = map[string]string{"app": "web", "tier": "front"}
	update := op(t, s, a, rev)
	update.User = "jane@example.com"
	commit(t, s, update)
	commit(t, s, op(t, s, pod("system:node.x_y", ""), 0), op(t, s, pod("twin", ""), 0))
	gone := commit(t, s, op(t, s, pod("gone", ""), 0))
	commit(t, s, state.Op{Key: podKey("gone"), Expect: gone})
	last := op(t, s, pod("last", ""), 0)
	last.TTL = 100 * 365 * 24 * time.Hour
	commit(t, s, last)
	for _, obj := range []objects.Object{
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s", UID: "uid-s"}, StringData: map[string]string{"password": "hunter2"}},
		&unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "example.com/v1", "kind": "Widget", "metadata": map[string]any{"name": "w", "uid": "uid-w"},
			"spec": map[string]any{"size": int64(3), "ratio": 0.5, "big": int64(1) << 60}}},
	} {
		res := messages.Secrets
		if _, ok := obj.(*unstructured.Unstructured); ok {
			res = widgets
		}
		data, err := s.Encode(res, obj)
		if err != nil {
			t.Fatal(err)
		}
		commit(t, s, state.Op{Key: messages.KeyOf(res, obj.GetNamespace(), obj.GetName()), Object: obj, Data: data})
	}
}

// contents lists a store as a golden listing does.
func contents(t *testing.T, s *state.Store) []goldenObject {
	t.Helper()
	var out []goldenObject
	for _, res := range []messages.Resource{messages.Pods, messages.Secrets, widgets} {
		for _, obj := range s.List(res, "") {
			key := messages.KeyOf(res, obj.GetNamespace(), obj.GetName())
			e, _, _ := s.Lookup(key)
			data, err := json.Marshal(obj)
			if err != nil {
				t.Fatal(err)
			}
			line := goldenObject{Key: key.String(), Rev: e.Rev, Expires: e.Expires}
			if err := json.Unmarshal(data, &line.Object); err != nil {
				t.Fatal(err)
			}
			out = append(out, line)
		}
	}
	return out
}

// TestGolden opens what older versions have written and finds what was in it; then writes to it.
func TestGolden(t *testing.T) {
	t.Parallel()
	if *golden != "" {
		makeGolden(t, filepath.Join("testdata", *golden))
	}
	packed, err := filepath.Glob("testdata/*.tar.gz")
	if err != nil || len(packed) == 0 {
		t.Fatalf("golden folders %v: %v", packed, err)
	}
	for _, file := range packed {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			unpack(t, file, dir)
			text, err := os.ReadFile(strings.TrimSuffix(file, ".tar.gz") + ".json")
			if err != nil {
				t.Fatal(err)
			}
			var want []goldenObject
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatal(err)
			}
			b := startBus(t, dir)
			s := open(t, b, goldenConfig)
			if diff := cmp.Diff(want, contents(t, s)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			e, _, _ := s.Lookup(podKey("a"))
			if rev := commit(t, s, op(t, s, pod("a", "node-3"), e.Rev)); rev <= want[len(want)-1].Rev {
				t.Errorf("written at revision %d", rev)
			}
			if got := names(open(t, b, goldenConfig).Index(messages.Pods, objects.IndexNode, "node-3")); got != "a" {
				t.Errorf("on node-3 is %q after reopening", got)
			}
		})
	}
}

func makeGolden(t *testing.T, name string) {
	t.Helper()
	dir := t.TempDir()
	b, err := bus.Start(t.Context(), bus.Config{DataDir: dir, Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	cfg := state.Config{Bus: b, Resources: []state.Resource{pods}, Log: discard()}
	goldenConfig(&cfg)
	s, err := state.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	writeGolden(t, s)
	listing, err := json.MarshalIndent(contents(t, s), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name+".json", append(listing, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name+".tar.gz", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	zip := gzip.NewWriter(f)
	out := tar.NewWriter(zip)
	if err := errors.Join(out.AddFS(os.DirFS(dir)), out.Close(), zip.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func unpack(t *testing.T, file, dir string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	in := tar.NewReader(zip)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.Clean("/"+h.Name))
		if h.FileInfo().IsDir() {
			err = os.MkdirAll(path, 0o700)
		} else {
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			var content []byte
			if content, err = io.ReadAll(in); err == nil {
				err = os.WriteFile(path, content, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
