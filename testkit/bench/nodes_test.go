package bench_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// waitNodes waits until so many nodes are Ready.
func waitNodes(b *testing.B, client kubernetes.Interface, want int) {
	b.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		list, err := client.CoreV1().Nodes().List(b.Context(), metav1.ListOptions{})
		if err != nil {
			b.Fatal(err)
		}
		ready := 0
		for i := range list.Items {
			for _, c := range list.Items[i].Status.Conditions {
				if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
					ready++
				}
			}
		}
		if ready >= want {
			return
		}
	}
	b.Fatalf("%d nodes were not Ready within a minute", want)
}
