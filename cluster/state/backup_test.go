package state_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// TestBackupAndRestore takes a snapshot, goes on writing, and finds in the restored bucket what the
// snapshot had, at revisions above all that were handed out.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	with := func(c *state.Config) { c.Resources = append(c.Resources, secrets) }
	s := open(t, startBus(t, t.TempDir()), with)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}, Data: map[string][]byte{"password": []byte("hunter2")}}
	data, err := s.Encode(messages.Secrets, secret)
	if err != nil {
		t.Fatal(err)
	}
	commit(t, s, state.Op{Key: messages.KeyOf(messages.Secrets, "ns", "s"), Object: secret, Data: data})
	for i := range 600 {
		commit(t, s, op(t, s, pod(fmt.Sprint("p", i), "n1"), 0))
	}
	snapshot := s.Snapshot()
	want := map[string]any{"s": secret}
	for _, o := range s.List(messages.Pods, "") {
		want[o.GetName()] = o
	}
	commit(t, s, op(t, s, pod("later", ""), 0))
	var file bytes.Buffer
	if n, err := snapshot.WriteTo(&file); err != nil || n == 0 || snapshot.Count != 601 {
		t.Fatalf("%d objects, %d bytes, %v", snapshot.Count, n, err)
	}

	dir := t.TempDir()
	b := startBus(t, dir)
	first := snapshot.Revision + state.RestoreGap
	to := open(t, b, func(c *state.Config) { with(c); c.First = first })
	seen := 0
	if err := to.Restore(t.Context(), bytes.NewReader(file.Bytes()), func(n int) { seen = n }); err != nil || seen != 601 {
		t.Fatalf("%d objects restored, %v", seen, err)
	}
	again := open(t, b, with)
	got := map[string]any{}
	for _, res := range []messages.Resource{messages.Pods, messages.Secrets} {
		for _, o := range again.List(res, "") {
			e, _, _ := again.Lookup(messages.KeyOf(res, o.GetNamespace(), o.GetName()))
			if e.Rev < first {
				t.Errorf("%s is at %d, below %d", o.GetName(), e.Rev, first)
			}
			got[o.GetName()] = o
		}
	}
	if diff := cmp.Diff(want, got, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".ResourceVersion" }, cmp.Ignore())); diff != "" {
		t.Errorf("restored (-want +got):\n%s", diff)
	}
}

func TestRestoreOfWhatIsNotWhole(t *testing.T) {
	t.Parallel()
	s := open(t, startBus(t, ""), nil)
	for i := range 5 {
		commit(t, s, op(t, s, pod(fmt.Sprint("p", i), ""), 0))
	}
	var file bytes.Buffer
	if _, err := s.Snapshot().WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	whole := file.Bytes()
	second := bytes.IndexByte(whole, '\n') + 1
	for name, content := range map[string][]byte{
		"empty":            nil,
		"cut":              whole[:len(whole)/2],
		"without its end":  whole[:bytes.LastIndexByte(whole[:len(whole)-1], '\n')+1],
		"without its head": whole[second:],
		"garbage":          []byte("garbage\n"),
	} {
		to := open(t, startBus(t, ""), nil)
		if err := to.Restore(t.Context(), bytes.NewReader(content), func(int) {}); !errors.Is(err, messages.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
