package node_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

func TestNodesNameTheirImages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		images := func(name string) []corev1.ContainerImage {
			n, _ := objects.Get[*corev1.Node](w.store, messages.KeyOf(messages.Nodes, "", name))
			return n.Status.Images
		}
		time.Sleep(time.Minute)
		w.store.Writes()
		if _, err := w.store.Create(t.Context(), podOn("node-1", "web")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Second)
		if got := images("node-1"); len(got) != 1 || got[0].SizeBytes == 0 || got[0].Names[len(got[0].Names)-1] != "example/web:v1" {
			t.Errorf("images = %+v", got)
		}
		if got := images("node-0"); len(got) != 0 {
			t.Errorf("images of a node that pulled none = %+v", got)
		}
		w.store.Writes()
		second := podOn("node-1", "web-2") // needs no pull
		if _, err := w.store.Create(t.Context(), second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		for _, write := range w.store.Writes() {
			if write.Key.Resource == messages.Nodes {
				t.Errorf("written although nothing changed: %v", write)
			}
		}
	})
}
