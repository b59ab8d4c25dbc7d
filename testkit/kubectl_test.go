package testkit_test

import (
	"bufio"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/troupe-run/troupe/testkit"
)

// wants fails when text does not match all patterns.
func wants(t *testing.T, what, text string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(text) {
			t.Errorf("%s: no match of %q in\n%s", what, p, text)
		}
	}
}

const shop = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {COLOUR: green}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: example/web:v1
        ports: [{containerPort: 8080}]
        envFrom: [{configMapRef: {name: settings}}]
`

func TestKubectl(t *testing.T) {
	t.Parallel()
	c := testkit.Start(t, testkit.Nodes(2))
	k := c.Kubectl
	wants(t, "apply", c.KubectlInput(shop, "apply", "-f", "-"), `configmap/settings created`, `service/web created`, `deployment.apps/web created`)
	wants(t, "apply again", c.KubectlInput(shop, "apply", "-f", "-"), `configmap/settings unchanged`, `service/web unchanged`, `deployment.apps/web unchanged`)
	wants(t, "diff", c.KubectlInput(shop, "diff", "-f", "-"), `^$`)
	wants(t, "rollout status", k("rollout", "status", "deploy/web", "--timeout=20s"), `deployment "web" successfully rolled out`)
	wants(t, "version", k("version"), `Server Version: v1\.36`)
	wants(t, "get", k("get", "deploy,rs,po,svc,no,cm"), `deployment.apps/web +2/2 +2 +2`, `replicaset.apps/web-\w+ +2 +2 +2`, `pod/web-\S+ +1/1 +Running +0`,
		`service/web +NodePort +10\.96\.\S+ +<none> +80:30080/TCP`, `node/node-0 +Ready +<none> +\S+ +v1\.36`, `configmap/settings +1`)
	wants(t, "get -o wide", k("get", "po", "-o", "wide", "-l", "app=web"), `10\.244\.\d+\.\d+ +node-[01]`)
	wants(t, "get -o jsonpath", k("get", "deploy", "web", "-o", "jsonpath={.status.readyReplicas}"), `^2$`)
	wants(t, "get all", k("get", "all", "-A"), `deployment.apps/web`, `service/kubernetes`)
	wants(t, "get --sort-by", k("get", "po", "--sort-by=.metadata.name"), `web-`)
	wants(t, "describe deploy", k("describe", "deploy", "web"), `Replicas: +2 desired \| 2 updated \| 2 total \| 2 available`, `ScalingReplicaSet`, `settings`)
	wants(t, "describe pod", k("describe", "po", "-l", "app=web"), `Status: +Running`, `Scheduled.*Successfully assigned default/web`, `Started container web`)
	wants(t, "describe node", k("describe", "node", "node-0"), `Ready +True`, `Non-terminated Pods:`, `cpu: +32`)
	wants(t, "describe svc", k("describe", "svc", "web"), `NodePort: +http +30080/TCP`, `Endpoints: +10\.244`)
	wants(t, "explain", k("explain", "deployment.spec.strategy.rollingUpdate"), `maxSurge`, `maximum number of pods`)
	wants(t, "explain --recursive", k("explain", "pod.spec.containers", "--recursive"), `livenessProbe`)
	wants(t, "api-resources", k("api-resources"), `deployments +deploy +apps/v1 +true +Deployment`, `endpointslices`)
	wants(t, "api-versions", k("api-versions"), `(?m)^apps/v1$`, `(?m)^v1$`)
	wants(t, "events", k("events", "--for", "deploy/web"), `ScalingReplicaSet`)

	wants(t, "set image", k("set", "image", "deploy/web", "web=example/web:v2"), `image updated`)
	k("rollout", "status", "deploy/web", "--timeout=20s")
	wants(t, "rollout history", k("rollout", "history", "deploy/web"), `(?m)^1 `, `(?m)^2 `)
	wants(t, "rollout undo", k("rollout", "undo", "deploy/web"), `rolled back`)
	k("rollout", "status", "deploy/web", "--timeout=20s")
	wants(t, "the image", k("get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}"), `^example/web:v1$`)
	wants(t, "rollout restart", k("rollout", "restart", "deploy/web"), `restarted`)
	k("rollout", "status", "deploy/web", "--timeout=20s")
	wants(t, "rollout pause", k("rollout", "pause", "deploy/web"), `paused`)
	wants(t, "rollout resume", k("rollout", "resume", "deploy/web"), `resumed`)
	wants(t, "scale", k("scale", "deploy/web", "--replicas=3"), `scaled`)
	wants(t, "wait", k("wait", "deploy/web", "--for=jsonpath={.status.readyReplicas}=3", "--timeout=20s"), `condition met`)
	wants(t, "wait", k("wait", "po", "-l", "app=web", "--for=condition=Ready", "--timeout=20s"), `condition met`)

	wants(t, "label", k("label", "cm/settings", "tier=front"), `labeled`)
	wants(t, "label again", c.KubectlFails("label", "cm/settings", "tier=back"), `already has a value`)
	wants(t, "annotate", k("annotate", "cm/settings", "note=x"), `annotated`)
	wants(t, "patch", k("patch", "cm", "settings", "-p", `{"data":{"COLOUR":"blue"}}`), `patched`)
	wants(t, "patch json", k("patch", "cm", "settings", "--type=json", "-p", `[{"op":"remove","path":"/data/COLOUR"}]`), `patched`)
	wants(t, "ssa", c.KubectlInput(shop, "apply", "--server-side", "--force-conflicts", "-f", "-"), `serverside-applied`)
	wants(t, "create", k("create", "secret", "generic", "s", "--from-literal=a=b"), `created`)
	wants(t, "create dry", k("create", "deploy", "x", "--image=i", "--dry-run=server", "-o", "name"), `deployment.apps/x`)
	wants(t, "get of nothing", c.KubectlFails("get", "deploy", "x"), `Error from server \(NotFound\): deployments.apps "x" not found`)
	wants(t, "auth can-i", k("auth", "can-i", "create", "deployments"), `yes`)
	wants(t, "auth can-i as", c.KubectlFails("auth", "can-i", "list", "secrets", "--as=system:serviceaccount:default:default"), `no`)
	wants(t, "auth whoami", k("auth", "whoami"), `admin`)
	wants(t, "create token", k("create", "token", "default"), `^ey`)

	wants(t, "cordon", k("cordon", "node-0"), `cordoned`)
	wants(t, "drain", k("drain", "node-0", "--ignore-daemonsets", "--timeout=20s"), `drained`)
	wants(t, "uncordon", k("uncordon", "node-0"), `uncordoned`)
	wants(t, "taint", k("taint", "node", "node-0", "a=b:NoSchedule"), `tainted`)

	wants(t, "create namespace", k("create", "namespace", "shop"), `created`)
	wants(t, "run", k("run", "one", "-n", "shop", "--image=example/one:v1", "--restart=Never"), `created`)
	wants(t, "delete namespace", k("delete", "namespace", "shop", "--timeout=20s"), `deleted`)
	wants(t, "delete --wait", k("delete", "deploy/web", "svc/web", "--wait", "--timeout=20s", "--cascade=foreground"), `deployment.apps "web" deleted`)
	wants(t, "get of none", k("get", "po,rs"), `No resources found`)
}

func TestKubectlReachesContainers(t *testing.T) {
	t.Parallel()
	c := testkit.Start(t)
	k := c.Kubectl
	c.Apply(podWith(`troupe.run/sim-exec-code.broken: "3"`, `containers: [{name: web, image: "example/web:v1"}, {name: broken, image: "example/broken:v1"}]`))
	c.WaitFor("Pod web", testkit.Running)
	wants(t, "logs", k("logs", "web"), `container web of pod default/web runs, simulated`)
	wants(t, "logs of all", k("logs", "web", "--all-containers", "--prefix", "--timestamps"), `\[pod/web/web\] 20\S+Z container web`, `\[pod/web/broken\]`)
	wants(t, "logs of none", c.KubectlFails("logs", "web", "-c", "none"), `container none is not valid for pod web`)
	wants(t, "previous logs", c.KubectlFails("logs", "web", "-c", "web", "--previous"), `previous terminated container "web" in pod "web" not found`)
	wants(t, "exec", k("exec", "web", "-c", "web", "--", "echo", "hello"), `echo hello`)
	wants(t, "exec -i", c.KubectlInput("from the test", "exec", "-i", "web", "-c", "web", "--", "cat"), `cat\nfrom the test`)
	wants(t, "failing exec", c.KubectlFails("exec", "web", "-c", "broken", "--", "false"), `exit code 3`)
	c.Apply(`{apiVersion: v1, kind: Pod, metadata: {name: slow, annotations: {troupe.run/sim-start-delay: 1h}}, spec: {containers: [{name: web, image: "example/web:v1"}]}}`)
	c.WaitFor("Pod slow", testkit.Waiting("ContainerCreating"))
	wants(t, "logs of what is on its way", c.KubectlFails("logs", "slow"), `container "web" in pod "slow" is waiting to start: ContainerCreating\n`)
	wants(t, "exec in what is on its way", c.KubectlFails("exec", "slow", "--", "true"), `unable to upgrade connection: container not found \("web"\)`)
	wants(t, "exec in none", c.KubectlFails("exec", "none", "--", "true"), `pods "none" not found`)
}

func TestKubectlForwardsPorts(t *testing.T) {
	t.Parallel()
	c := testkit.Start(t)
	c.Apply(podWith("", `containers: [{name: web, image: "example/web:v1", ports: [{containerPort: 8080}]}]`))
	c.WaitFor("Pod web", testkit.Running)
	cmd := c.KubectlCommand("port-forward", "pod/web", ":8080", "--address", "127.0.0.1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(line, "127.0.0.1:")
	port, _, _ := strings.Cut(rest, " ")
	res, err := http.Get("http://127.0.0.1:" + port + "/")
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	wants(t, "answer", string(body), `port 8080 of pod default/web, simulated`)
	if err != nil {
		t.Error(err)
	}
}

func TestProxiesReachPorts(t *testing.T) {
	t.Parallel()
	c := testkit.Start(t)
	c.Apply(podWith("", `containers: [{name: web, image: "example/web:v1", ports: [{containerPort: 8080}]}]`) + `---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
`)
	c.WaitFor("Pod web", testkit.Running)
	const service = "/api/v1/namespaces/default/services/web:http/proxy/hello"
	c.Until("the service has an endpoint", func() bool {
		return c.Client().CoreV1().RESTClient().Get().AbsPath(service).Do(t.Context()).Error() == nil
	})
	for path, want := range map[string]string{
		service: `GET /hello on port 8080 of pod default/web, simulated`,
		"/api/v1/namespaces/default/pods/web/proxy/hello":     `GET /hello on port 8080 of pod default/web, simulated`,
		"/api/v1/namespaces/default/pods/web:9090/proxy/?a=b": `GET / on port 9090 of pod default/web, simulated`,
		"/api/v1/nodes/node-0:9100/proxy/metrics":             `GET /metrics on port 9100 of node node-0, simulated`,
		"/api/v1/nodes/node-0/proxy/healthz":                  `ok`,
	} {
		wants(t, path, c.Kubectl("get", "--raw", path), want)
	}
	wants(t, "a node that is not there", c.KubectlFails("get", "--raw", "/api/v1/nodes/none/proxy/healthz"), `nodes "none" not found`)
}
