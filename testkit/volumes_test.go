package testkit_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/testkit"
)

// TestVolumesAreBoundAtOnce binds many claims and looks at every revision: the references of a volume
// and its claim appear at neighbouring ones, since they were one write.
func TestVolumesAreBoundAtOnce(t *testing.T) {
	t.Parallel()
	c := testkit.Start(t)
	var mu sync.Mutex
	volumes, claims := map[string]uint64{}, map[string]uint64{} // when the references came, by volume
	stop := c.Feed().Follow([]messages.Resource{{Resource: "persistentvolumes"}, {Resource: "persistentvolumeclaims"}}, func(ch objects.Change) {
		mu.Lock()
		defer mu.Unlock()
		switch obj := ch.New.(type) {
		case *corev1.PersistentVolume:
			if _, ok := volumes[obj.Name]; !ok && obj.Spec.ClaimRef != nil {
				volumes[obj.Name] = ch.Rev
			}
		case *corev1.PersistentVolumeClaim:
			if _, ok := claims[obj.Spec.VolumeName]; !ok && obj.Spec.VolumeName != "" {
				claims[obj.Spec.VolumeName] = ch.Rev
			}
		}
	})
	defer stop()
	const n = 30
	var yaml strings.Builder
	for i := range n {
		fmt.Fprintf(&yaml, `---
apiVersion: v1
kind: PersistentVolume
metadata: {name: v%[1]d}
spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /srv/%[1]d}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: c%[1]d}
spec: {storageClassName: "", accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
`, i)
	}
	c.Apply(yaml.String())
	c.Until("all claims are bound", func() bool {
		for _, obj := range c.Reader().List(messages.Resource{Resource: "persistentvolumeclaims"}, "") {
			if obj.(*corev1.PersistentVolumeClaim).Status.Phase != corev1.ClaimBound {
				return false
			}
		}
		return true
	})
	if out := c.Kubectl("get", "pv", "-o", "jsonpath={.items[*].status.phase}"); strings.Count(out, "Bound") != n {
		t.Errorf("volumes: %s", out)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(volumes) != n || len(claims) != n {
		t.Errorf("%d volumes and %d claims refer to each other", len(volumes), len(claims))
	}
	for name, rev := range volumes {
		if d := int64(rev - claims[name]); d != 1 && d != -1 {
			t.Errorf("%s refers to its claim since %d, the claim to it since %d", name, rev, claims[name])
		}
	}
}
