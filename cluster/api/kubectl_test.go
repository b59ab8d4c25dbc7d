package api_test

import (
	"os/exec"
	"strings"
	"testing"
)

// kubectl runs the stock client against the cluster; the test is skipped where there is none.
func (c *cluster) kubectl(t *testing.T, stdin string, args ...string) (out string, err error) {
	t.Helper()
	path, lookErr := exec.LookPath("kubectl")
	if lookErr != nil {
		t.Skip("needs kubectl:", lookErr)
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"--kubeconfig", c.kubeconfig, "--cache-dir", t.TempDir()}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	b, err := cmd.CombinedOutput()
	return string(b), err
}

func TestKubectl(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.defaultAccount(t)
	const manifest = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: blue}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: example/web}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80}]}
`
	for _, step := range []struct {
		name, stdin string
		args, want  []string
		fails       bool
	}{
		{name: "version", args: []string{"version"}, want: []string{"Server Version: v1.36"}},
		{name: "apply", stdin: manifest, args: []string{"apply", "-f", "-"}, want: []string{"configmap/settings created", "deployment.apps/web created", "service/web created"}},
		{name: "apply again", stdin: manifest, args: []string{"apply", "-f", "-"}, want: []string{"configmap/settings unchanged", "deployment.apps/web unchanged"}},
		{name: "diff", stdin: strings.Replace(manifest, "blue", "red", 1), args: []string{"diff", "-f", "-"}, want: []string{"-  color: blue", "+  color: red"}, fails: true},
		{name: "server-side", stdin: manifest, args: []string{"apply", "--server-side", "--force-conflicts", "-f", "-"}, want: []string{"serverside-applied"}},
		{name: "get", args: []string{"get", "deploy,svc", "-o", "wide"}, want: []string{"READY", "UP-TO-DATE", "example/web", "NodePort", "10.96.0.1"}},
		{name: "scale", args: []string{"scale", "deploy/web", "--replicas=5"}, want: []string{"deployment.apps/web scaled"}},
		{name: "scaled", args: []string{"get", "deploy/web", "-o", "jsonpath={.spec.replicas}"}, want: []string{"5"}},
		{name: "set image", args: []string{"set", "image", "deploy/web", "web=example/web:2"}, want: []string{"image updated"}},
		{name: "label", args: []string{"label", "cm/settings", "tier=front"}, want: []string{"labeled"}},
		{name: "selector", args: []string{"get", "cm", "-A", "-l", "tier=front", "-o", "name"}, want: []string{"configmap/settings"}},
		{name: "field selector", args: []string{"get", "ns", "--field-selector", "metadata.name=kube-system", "-o", "name"}, want: []string{"namespace/kube-system"}},
		{name: "explain", args: []string{"explain", "deployment.spec.strategy.rollingUpdate.maxSurge"}, want: []string{"maxSurge <IntOrString>", "maximum number of pods"}},
		{name: "run", args: []string{"run", "one", "--image=example/one"}, want: []string{"pod/one created"}},
		{name: "describe", args: []string{"describe", "pod", "one"}, want: []string{"kube-api-access-", "node.kubernetes.io/not-ready:NoExecute op=Exists for 300s", "Service Account:  default"}},
		{name: "token", args: []string{"create", "token", "default"}, want: []string{"eyJ"}},
		{name: "can-i", args: []string{"auth", "can-i", "list", "secrets", "--as", "bob"}, want: []string{"no"}, fails: true},
		{name: "whoami", args: []string{"auth", "whoami"}, want: []string{"kubernetes-admin", "system:masters"}},
		{name: "invalid", stdin: strings.ReplaceAll(manifest, "image: example/web", `image: ""`), args: []string{"apply", "-f", "-"}, want: []string{"spec.template.spec.containers[0].image: Required value"}, fails: true},
		{name: "unknown field", stdin: strings.Replace(manifest, "replicas: 3", "replicaz: 3", 1), args: []string{"apply", "-f", "-"}, want: []string{`unknown field "spec.replicaz"`}, fails: true},
		{name: "create twice", args: []string{"create", "cm", "settings"}, want: []string{"already exists"}, fails: true},
		{name: "delete", args: []string{"delete", "cm", "settings"}, want: []string{`configmap "settings" deleted`}},
		{name: "api-resources", args: []string{"api-resources"}, want: []string{"deployments", "apps/v1", "clusterroles", "events.k8s.io/v1"}},
	} {
		out, err := c.kubectl(t, step.stdin, step.args...)
		if (err != nil) != step.fails {
			t.Errorf("%s: %v\n%s", step.name, err, out)
			continue
		}
		for _, want := range step.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", step.name, want, out)
			}
		}
	}
}
