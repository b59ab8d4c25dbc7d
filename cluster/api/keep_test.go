package api_test

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

func TestTheServiceOfTheAPIComesBack(t *testing.T) {
	t.Parallel()
	c := start(t)
	services := c.client.CoreV1().Services("default")
	old, err := services.Get(t.Context(), "kubernetes", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := services.Watch(t.Context(), metav1.ListOptions{ResourceVersion: old.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if err := services.Delete(t.Context(), "kubernetes", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	patience := time.After(10 * time.Second)
	for {
		select {
		case e := <-w.ResultChan():
			if e.Type != watch.Added {
				continue
			}
			back, err := services.Get(t.Context(), "kubernetes", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if back.UID == old.UID || back.Spec.ClusterIP != old.Spec.ClusterIP {
				t.Errorf("came back as %s with %s, want another object with %s", back.UID, back.Spec.ClusterIP, old.Spec.ClusterIP)
			}
			return
		case <-patience:
			t.Fatal("the service did not come back")
		}
	}
}
