package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestVolumesBoundThroughKills kills the cluster while it binds volumes: there is never half a
// binding, and in the end all are bound.
func TestVolumesBoundThroughKills(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := simUp(t, dir)
	const n = 80
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
	applied := make(chan result, 1)
	cmd := command("kubectl", "apply", "-f", "-")
	cmd.Env = append(cmd.Env, "TROUPE_DATA_DIR="+dir, "KUBECONFIG="+filepath.Join(dir, "kubeconfig"))
	cmd.Stdin = strings.NewReader(yaml.String())
	go func() { applied <- finish(t, cmd) }()
	within(t, 30*time.Second, "something is bound", func() error {
		if !strings.Contains(w.kubectl("get", "pvc", "-o", "jsonpath={.items[*].status.phase}"), "Bound") {
			return errors.New("nothing yet")
		}
		return nil
	})
	w.kill()
	<-applied // cut short or not
	w = simUp(t, dir)
	halves(t, w)
	w.apply(yaml.String())
	within(t, 60*time.Second, "all are bound", func() error {
		halves(t, w)
		if bound := strings.Count(w.kubectl("get", "pvc,pv", "-o", "jsonpath={.items[*].status.phase}"), "Bound"); bound != 2*n {
			return fmt.Errorf("%d of %d", bound, 2*n)
		}
		return nil
	})
}

// halves complains of volumes and claims of which only one refers to the other. Both lists are
// taken at one revision.
func halves(t *testing.T, w *world) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	api := w.client().CoreV1()
	claims, err := api.PersistentVolumeClaims("default").List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	volumes, err := api.PersistentVolumes().List(ctx, metav1.ListOptions{ResourceVersion: claims.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchExact})
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]string{}
	for i := range volumes.Items {
		if ref := volumes.Items[i].Spec.ClaimRef; ref != nil {
			of[ref.Name] = volumes.Items[i].Name
		}
	}
	for i := range claims.Items {
		c := &claims.Items[i]
		if c.Spec.VolumeName != of[c.Name] {
			t.Errorf("claim %s has %q, but %q has it", c.Name, c.Spec.VolumeName, of[c.Name])
		}
		if (c.Spec.VolumeName == "") != (c.Annotations["pv.kubernetes.io/bind-completed"] == "") || c.Spec.VolumeName == "" && c.Status.Phase == corev1.ClaimBound {
			t.Errorf("claim %s: %v, %s", c.Name, c.Annotations, c.Status.Phase)
		}
	}
}
