package node

import (
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// groups lists the pods that have a cgroup, by hierarchy.
func groups(t *testing.T, g *podCgroups) []string {
	t.Helper()
	roots, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, root := range roots {
		found, err := filepath.Glob(filepath.Join(root, g.root, "pod*"))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, found...)
	}
	return out
}

func podOf(uid types.UID) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
}

// TestSweepOfCgroups leaves cgroups as a killed agent does.
func TestSweepOfCgroups(t *testing.T) {
	dir := t.TempDir()
	before := newCgroups(dir)
	t.Cleanup(func() { _ = removeCgroups(dir) })
	for _, uid := range []types.UID{"alive", "gone"} {
		if _, err := before.Ensure(podOf(uid)); err != nil {
			t.Skipf("no cgroups can be made here: %v", err)
		}
	}
	made := groups(t, before)
	// What a runtime adds in the hierarchies that it makes itself.
	if !unified() {
		late := filepath.Join(cgroupMount, "pids", before.root, "podlate", "container")
		if err := os.MkdirAll(late, 0o755); err != nil {
			t.Fatal(err)
		}
	}

	after := newCgroups(dir)
	if _, err := after.Ensure(podOf("new")); err != nil {
		t.Fatal(err)
	}
	if err := after.Sweep([]types.UID{"alive"}); err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{}
	for _, d := range groups(t, after) {
		left[filepath.Base(d)] = true
	}
	if len(left) != 2 || !left["podalive"] || !left["podnew"] {
		t.Errorf("of %v there are left %v, want those of alive and new", made, left)
	}
	if err := after.Sweep(nil); err != nil {
		t.Fatal(err)
	}
	if len(groups(t, after)) == 0 {
		t.Error("the group of a pod that came after the living were counted is gone")
	}
}
