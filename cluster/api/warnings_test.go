package api_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
)

// TestWarningsReachClients: by whichever way an object is written, whoever writes it is told.
func TestWarningsReachClients(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	var heard warnings
	cfg := c.LoopbackConfig()
	cfg.WarningHandler = &heard
	client := kubernetes.NewForConfigOrDie(cfg)
	told := func(what, want string) {
		t.Helper()
		if got := heard.String(); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: told %q, want %q", what, got, want)
		}
		heard.mu.Lock()
		heard.text = nil
		heard.mu.Unlock()
	}
	svc := service("web", corev1.ServicePort{Port: 80})
	svc.Spec.TrafficDistribution = ptr.To(corev1.ServiceTrafficDistributionPreferClose)
	must(client.CoreV1().Services("default").Create(ctx, svc, metav1.CreateOptions{}))
	told("a service", `spec.trafficDistribution: "PreferClose" is deprecated`)

	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: pod("x").Spec}
	template.Spec.NodeSelector = map[string]string{"beta.kubernetes.io/os": "linux"}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web.1"}, Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: template.Labels}, Template: template}}
	deployments := client.AppsV1().Deployments("default")
	const old = `spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead`
	must(deployments.Create(ctx, d, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}))
	told("a deployment, tried", old)
	must(deployments.Create(ctx, d, metav1.CreateOptions{}))
	told("a deployment", "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended")
	must(deployments.Patch(ctx, d.Name, types.MergePatchType, []byte(`{"metadata":{"labels":{"c":"d"}}}`), metav1.PatchOptions{}))
	told("a deployment with a label", "")
	must(deployments.Patch(ctx, d.Name, types.StrategicMergePatchType, []byte(`{"spec":{"replicas":2}}`), metav1.PatchOptions{}))
	told("a deployment with another spec", old)
}
