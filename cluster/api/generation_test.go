package api_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The node is told by the generation that a pod's spec has changed, whichever way it did.
func TestSubresourcesThatChangeTheSpecCount(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	c.defaultAccount(t)
	pods := c.client.CoreV1().Pods("default")
	cpu := func(v string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(v)}}
	}
	p, err := pods.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "example/web:v1", Resources: cpu("100m")}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "example/sh:v1"}, TargetContainerName: "web",
	}}
	if p, err = pods.UpdateEphemeralContainers(ctx, "web", p, metav1.UpdateOptions{}); err != nil || p.Generation != 2 {
		t.Fatalf("with an ephemeral container: generation %d, %v", p.Generation, err)
	}
	p.Spec.Containers[0].Resources = cpu("200m")
	if p, err = pods.UpdateResize(ctx, "web", p, metav1.UpdateOptions{}); err != nil || p.Generation != 3 {
		t.Fatalf("resized: generation %d, %v", p.Generation, err)
	}
	p.Status.Phase = corev1.PodRunning
	if p, err = pods.UpdateStatus(ctx, p, metav1.UpdateOptions{}); err != nil || p.Generation != 3 {
		t.Errorf("with a status: generation %d, %v", p.Generation, err)
	}
}
