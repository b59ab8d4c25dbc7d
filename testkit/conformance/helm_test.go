package conformance

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/cli"
	"helm.sh/helm/v3/pkg/release"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// TestHelm takes a chart through its life: install, test, upgrade, an upgrade whose hook fails,
// rollback, uninstall. Its definitions are there before what they define, and stay when it goes.
func TestHelm(t *testing.T) {
	t.Parallel()
	const namespace, name, timeout = "helm", "shop", time.Minute
	settings := cli.New()
	settings.KubeConfig = shared.kubeconfig()
	settings.SetNamespace(namespace)
	cfg := new(action.Configuration)
	if err := cfg.Init(settings.RESTClientGetter(), namespace, "secret", t.Logf); err != nil {
		t.Fatal(err)
	}
	chart, err := loader.Load("testdata/chart")
	if err != nil {
		t.Fatal(err)
	}
	client, ctx := shared.client(t), within(t, 5*time.Minute)
	color := func() string {
		t.Helper()
		cm, err := client.CoreV1().ConfigMaps(namespace).Get(ctx, name+"-settings", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return cm.Data["color"]
	}
	config, err := shared.config()
	if err != nil {
		t.Fatal(err)
	}
	custom := dynamic.NewForConfigOrDie(config)
	definitions := custom.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	prices := custom.Resource(schema.GroupVersionResource{Group: "shop.example.com", Version: "v1", Resource: "prices"}).Namespace(namespace)
	price := func(want string) {
		t.Helper()
		p, err := prices.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Errorf("price: %v", err)
			return
		}
		if got := fmt.Sprint(p.Object["spec"]); got != want {
			t.Errorf("price is %s, want %s", got, want)
		}
	}
	succeeded := func(hook string) {
		t.Helper()
		pod, err := client.CoreV1().Pods(namespace).Get(ctx, name+"-"+hook, metav1.GetOptions{})
		if err != nil || pod.Status.Phase != corev1.PodSucceeded {
			t.Errorf("hook %s: %v %v", hook, pod.Status.Phase, err)
		}
	}

	install := action.NewInstall(cfg)
	install.ReleaseName, install.Namespace, install.CreateNamespace, install.Wait, install.Timeout = name, namespace, true, true, timeout
	r, err := install.RunWithContext(ctx, chart, nil)
	if err != nil {
		t.Fatalf("install: %v", err)
	}
	if r.Info.Status != release.StatusDeployed || !strings.Contains(r.Info.Notes, "shop is blue") {
		t.Errorf("installed: %+v", r.Info)
	}
	price("map[cents:250 currency:EUR]")
	succeeded("pre-install")
	succeeded("post-install")
	if d, err := client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{}); err != nil || d.Status.ReadyReplicas != 2 {
		t.Errorf("after an install that waits: %+v, %v", d.Status, err)
	}
	if _, err := client.PolicyV1().PodDisruptionBudgets(namespace).Get(ctx, name, metav1.GetOptions{}); err != nil {
		t.Errorf("the chart does not see version 1.36: %v", err)
	}

	check := action.NewReleaseTesting(cfg)
	check.Namespace, check.Timeout = namespace, timeout
	if _, err := check.Run(name); err != nil {
		t.Errorf("test: %v", err)
	}
	succeeded("answers")

	upgrade := func(values map[string]any) error {
		u := action.NewUpgrade(cfg)
		u.Namespace, u.Wait, u.Timeout = namespace, true, timeout
		_, err := u.RunWithContext(ctx, name, chart, values)
		return err
	}
	if err := upgrade(map[string]any{"color": "red", "replicas": 3, "cents": 300}); err != nil {
		t.Fatalf("upgrade: %v", err)
	}
	if d, err := client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{}); err != nil || d.Status.ReadyReplicas != 3 || color() != "red" {
		t.Errorf("after the upgrade: %s, %+v, %v", color(), d.Status, err)
	}
	price("map[cents:300 currency:EUR]")
	if err := upgrade(map[string]any{"color": "red", "replicas": 3, "cents": 0}); err == nil || !strings.Contains(err.Error(), "spec.cents") {
		t.Errorf("an upgrade to what the definition does not allow: %v", err)
	}
	if err := upgrade(map[string]any{"color": "black", "cents": 300, "fail": true}); err == nil || !strings.Contains(err.Error(), "pre-upgrade") {
		t.Errorf("an upgrade whose hook fails: %v", err)
	}
	if color() != "red" {
		t.Errorf("after an upgrade that failed: %s", color())
	}

	back := action.NewRollback(cfg)
	back.Version, back.Wait, back.Timeout = 1, true, timeout
	if err := back.Run(name); err != nil {
		t.Fatalf("rollback: %v", err)
	}
	if d, err := client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{}); err != nil || *d.Spec.Replicas != 2 || color() != "blue" {
		t.Errorf("after the rollback: %s, %+v, %v", color(), d.Spec.Replicas, err)
	}
	price("map[cents:250 currency:EUR]")
	history, err := action.NewHistory(cfg).Run(name)
	if err != nil || len(history) != 5 {
		t.Errorf("history of %d, %v", len(history), err)
	}

	remove := action.NewUninstall(cfg)
	remove.Wait, remove.Timeout = true, timeout
	if _, err := remove.Run(name); err != nil {
		t.Fatalf("uninstall: %v", err)
	}
	if _, err := client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after the uninstall: %v", err)
	}
	if secrets, err := client.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{LabelSelector: "owner=helm"}); err != nil || len(secrets.Items) > 0 {
		t.Errorf("%d secrets of the release are left, %v", len(secrets.Items), err)
	}
	if _, err := prices.Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the price after the uninstall: %v", err)
	}
	if err := definitions.Delete(ctx, "prices.shop.example.com", metav1.DeleteOptions{}); err != nil {
		t.Errorf("the definition did not stay: %v", err)
	}
}
