package conformance

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// kubectl is a client in a namespace of its own.
type kubectl struct {
	t         *testing.T
	command   []string
	namespace string
	home      string
}

// TestKubectl does with kubectl what users do, once with the one in troupe and, where there is one,
// with the stock one.
func TestKubectl(t *testing.T) {
	t.Parallel()
	clients := map[string][]string{"builtin": {binary, "kubectl"}}
	if path, err := exec.LookPath("kubectl"); err == nil {
		clients["stock"] = []string{path}
	}
	for name, command := range clients {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := &kubectl{t: t, command: command, namespace: name, home: t.TempDir()}
			k.ok("", "create", "namespace", name)
			for _, part := range []struct {
				name string
				run  func(*kubectl)
			}{
				{"apply", (*kubectl).applies}, {"read", (*kubectl).reads}, {"workloads", (*kubectl).workloads}, {"identity", (*kubectl).identity},
				{"nodes", (*kubectl).nodes}, {"delete", (*kubectl).deletes},
			} {
				t.Run(part.name, func(t *testing.T) { part.run(&kubectl{t, command, name, k.home}) })
			}
		})
	}
}

func (k *kubectl) try(input string, args ...string) (string, error) {
	cmd := exec.CommandContext(k.t.Context(), k.command[0], append(append(k.command[1:len(k.command):len(k.command)], "-n", k.namespace), args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+shared.kubeconfig(), "HOME="+k.home, "EDITOR=sed -i s/blue/green/", "KUBE_EDITOR=")
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &out
	err := cmd.Run()
	return out.String(), err
}

// ok runs a command that has to succeed; fails one that must not.
func (k *kubectl) ok(input string, args ...string) string {
	k.t.Helper()
	out, err := k.try(input, args...)
	if err != nil {
		k.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (k *kubectl) fails(input string, args ...string) string {
	k.t.Helper()
	out, err := k.try(input, args...)
	if err == nil {
		k.t.Errorf("kubectl %s did not fail:\n%s", strings.Join(args, " "), out)
	}
	return out
}

func (k *kubectl) contains(out string, want ...string) {
	k.t.Helper()
	for _, w := range want {
		if !strings.Contains(out, w) {
			k.t.Errorf("no %q in\n%s", w, out)
		}
	}
}

const web = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: blue}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: "example/web:1", ports: [{containerPort: 80}], resources: {requests: {cpu: 10m}}}]
`

func (k *kubectl) applies() {
	k.contains(k.ok(web, "apply", "-f", "-"), "configmap/settings created", "deployment.apps/web created")
	k.contains(k.ok(web, "apply", "-f", "-"), "configmap/settings unchanged", "deployment.apps/web unchanged")
	k.contains(k.fails(strings.Replace(web, "blue", "red", 1), "diff", "-f", "-"), "-  color: blue", "+  color: red")
	k.contains(k.ok(web, "apply", "--dry-run=server", "-f", "-"), "configmap/settings unchanged (server dry run)")

	// Server-side: another manager's field is a conflict until it is forced.
	red := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: owned}\ndata: {color: red}\n"
	k.contains(k.ok(red, "apply", "--server-side", "--field-manager=one", "-f", "-"), "configmap/owned serverside-applied")
	blue := strings.Replace(red, "red", "blue", 1)
	k.contains(k.fails(blue, "apply", "--server-side", "--field-manager=two", "-f", "-"), `conflict with "one"`, ".data.color")
	k.contains(k.ok(blue, "apply", "--server-side", "--field-manager=two", "--force-conflicts", "-f", "-"), "serverside-applied")
	k.contains(k.ok("", "get", "cm", "owned", "--show-managed-fields", "-o", "yaml"), "manager: two", "operation: Apply")

	k.contains(k.ok("", "edit", "cm/settings"), "configmap/settings edited")
	k.contains(k.ok("", "get", "cm/settings", "-o", "jsonpath={.data.color}"), "green")
	for _, patch := range [][]string{
		{"--type=merge", `{"data":{"merge":"1"}}`}, {"--type=json", `[{"op":"add","path":"/data/json","value":"1"}]`}, {"--type=strategic", `{"data":{"strategic":"1"}}`},
	} {
		k.contains(k.ok("", "patch", "cm/settings", patch[0], "-p", patch[1]), "configmap/settings patched")
	}
	k.contains(k.ok("", "get", "cm/settings", "-o", "json"), `"merge": "1"`, `"json": "1"`, `"strategic": "1"`)
	k.contains(k.ok("", "label", "cm/settings", "tier=front"), "labeled")
	k.contains(k.fails("", "label", "cm/settings", "tier=back"), "--overwrite")
	k.contains(k.ok("", "annotate", "cm/settings", "note=a b"), "annotated")
	k.contains(k.ok("", "create", "secret", "generic", "keys", "--from-literal=pin=1234"), "secret/keys created")
	k.contains(k.fails("", "create", "cm", "settings"), "already exists")
	k.contains(k.ok(strings.Replace(web, "blue", "replaced", 1), "replace", "--force", "-f", "-"), "configmap/settings replaced")

	k.contains(k.fails(strings.Replace(web, "replicas: 2", "replicaz: 2", 1), "apply", "-f", "-"), `unknown field "spec.replicaz"`)
	k.contains(k.fails(strings.Replace(web, `"example/web:1"`, `""`, 1), "apply", "-f", "-"), "spec.template.spec.containers[0].image: Required value")
}

func (k *kubectl) reads() {
	k.contains(k.ok("", "get", "deploy", "-o", "wide"), "READY", "UP-TO-DATE", "CONTAINERS", "example/web:1", "app=web")
	k.contains(k.ok("", "get", "deploy/web", "-o", "custom-columns=NAME:.metadata.name,IMAGE:.spec.template.spec.containers[*].image"), "web    example/web:1")
	k.contains(k.ok("", "get", "deploy/web", "-o", "go-template={{.spec.replicas}} of {{.metadata.name}}"), "2 of web")
	k.contains(k.ok("", "get", "all"), "deployment.apps/web", "replicaset.apps/web-")
	k.contains(k.ok("", "get", "pods", "--field-selector", "status.phase!=Unknown", "-l", "app=web", "--sort-by=.metadata.name", "--no-headers"), "web-")
	k.contains(k.ok("", "get", "ns", "--show-labels"), "kubernetes.io/metadata.name="+k.namespace)
	k.contains(k.ok("", "describe", "deploy", "web"), "StrategyType:", "RollingUpdate", "NewReplicaSet:")
	for what, want := range map[string]string{"pod.spec.containers": "FIELDS", "deployment.spec.strategy.rollingUpdate.maxSurge": "maxSurge <IntOrString>",
		"csr": "CertificateSigningRequest", "cronjob.spec.schedule": "Cron format"} {
		k.contains(k.ok("", "explain", what), want)
	}
	k.contains(k.ok("", "api-resources", "--verbs=list", "--namespaced", "-o", "wide"), "deployments", "apps/v1", "SHORTNAMES", "CATEGORIES", "horizontalpodautoscalers")
	k.contains(k.ok("", "api-versions"), "apps/v1", "rbac.authorization.k8s.io/v1")
	k.contains(k.ok("", "version"), "Server Version: v1.36")
	k.contains(k.ok("", "cluster-info"), "Kubernetes control plane")
	k.contains(k.ok(""), "Basic Commands", "Troubleshooting")
	k.contains(k.ok("", "get", "--raw", "/readyz?verbose"), "readyz check passed")
	k.contains(k.fails("", "get", "pods", "nothing"), `pods "nothing" not found`)
	k.contains(k.fails("", "get", "nonsense"), `the server doesn't have a resource type "nonsense"`)
}

func (k *kubectl) workloads() {
	k.contains(k.ok("", "rollout", "status", "deploy/web", "--timeout=60s"), "successfully rolled out")
	k.ok("", "wait", "deploy/web", "--for=condition=Available", "--timeout=60s")
	k.ok("", "wait", "pods", "-l", "app=web", "--for=jsonpath={.status.phase}=Running", "--timeout=60s")
	k.contains(k.ok("", "scale", "deploy/web", "--replicas=3"), "scaled")
	k.contains(k.ok("", "get", "deploy/web", "-o", "jsonpath={.spec.replicas}"), "3")
	k.contains(k.ok("", "set", "image", "deploy/web", "web=example/web:2"), "image updated")
	k.ok("", "rollout", "status", "deploy/web", "--timeout=60s")
	k.contains(k.ok("", "rollout", "history", "deploy/web"), "REVISION", "2")
	k.contains(k.ok("", "rollout", "undo", "deploy/web"), "rolled back")
	k.ok("", "rollout", "status", "deploy/web", "--timeout=60s")
	k.contains(k.ok("", "get", "deploy/web", "-o", "jsonpath={..image}"), "example/web:1")
	k.contains(k.ok("", "rollout", "restart", "deploy/web"), "restarted")
	k.contains(k.ok("", "rollout", "pause", "deploy/web"), "paused")
	k.contains(k.ok("", "rollout", "resume", "deploy/web"), "resumed")
	k.ok("", "rollout", "status", "deploy/web", "--timeout=60s")
	k.contains(k.ok("", "expose", "deploy/web", "--port=80"), "service/web exposed")
	k.contains(k.ok("", "get", "svc", "web", "-o", "wide"), "ClusterIP", "80/TCP", "app=web")
	pod := strings.Fields(k.ok("", "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"))[0]
	k.contains(k.ok("", "get", "--raw", "/api/v1/namespaces/"+k.namespace+"/pods/"+pod+"/proxy/hello"), "GET /hello on port 80 of pod "+k.namespace+"/web-")
	// Old clients autoscale by the first version of that API only.
	if k.namespace == "builtin" || strings.Contains(k.ok("", "api-versions"), "autoscaling/v1\n") {
		k.contains(k.ok("", "autoscale", "deploy/web", "--min=1", "--max=4", "--cpu-percent=80"), "horizontalpodautoscaler.autoscaling/web autoscaled")
		k.contains(k.ok("", "get", "hpa", "web"), "Deployment/web", "MINPODS")
	}
	k.contains(k.ok("", "run", "one", "--image=example/one", "--labels=app=one"), "pod/one created")
	k.ok("", "wait", "pod/one", "--for=condition=Ready", "--timeout=60s")
	k.contains(k.ok("", "describe", "pod", "one"), "kube-api-access-", "Service Account:", "Scheduled")
	k.contains(k.ok("", "events", "--for", "pod/one"), "Scheduled", "Started")
	k.contains(k.ok("", "get", "events", "--field-selector", "involvedObject.name=one,reason=Scheduled"), "pod/one")
	k.contains(k.ok("", "exec", "one", "--", "say", "hello"), "say hello") // a simulated container echoes
	k.contains(k.ok("", "create", "quota", "most", "--hard=pods=100"), "resourcequota/most created")
	k.contains(k.ok("", "create", "job", "once", "--image=example/once"), "job.batch/once created")
	k.contains(k.ok("", "create", "ingress", "in", "--rule=example.org/*=web:80"), "ingress.networking.k8s.io/in created")
}

func (k *kubectl) identity() {
	k.contains(k.ok("", "auth", "whoami"), "kubernetes-admin", "system:masters")
	k.contains(k.ok("", "auth", "can-i", "delete", "pods"), "yes")
	k.contains(k.fails("", "auth", "can-i", "list", "secrets", "--as", "bob"), "no")
	k.contains(k.ok("", "auth", "can-i", "--list", "--as", "bob"), "selfsubjectreviews.authentication.k8s.io", "[/healthz]")
	k.contains(k.ok("", "create", "serviceaccount", "robot"), "created")
	k.contains(k.ok("", "create", "role", "reader", "--verb=get,list,watch", "--resource=pods,pods/log"), "role.rbac.authorization.k8s.io/reader created")
	k.contains(k.ok("", "create", "rolebinding", "robots-read", "--role=reader", "--serviceaccount="+k.namespace+":robot"), "created")
	robot := "--as=system:serviceaccount:" + k.namespace + ":robot"
	k.contains(k.ok("", "auth", "can-i", "list", "pods", robot), "yes")
	k.contains(k.ok("", "auth", "can-i", "--list", robot), "pods/log", "[get list watch]")
	k.contains(k.ok("", "get", "pods", robot), "one")
	k.contains(k.fails("", "delete", "pod", "one", robot), "is forbidden", `cannot delete resource "pods"`)
	k.contains(k.ok(`
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: `+k.namespace+`}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get]}]
`, "auth", "reconcile", "-f", "-"), "role.rbac.authorization.k8s.io/reader reconciled")
	k.contains(k.ok("", "auth", "can-i", "get", "configmaps", robot), "yes")

	// A token, by request and in a Secret, is good for the API.
	token := strings.TrimSpace(k.ok("", "create", "token", "robot", "--duration=10m"))
	k.contains(k.bare(token, "auth", "whoami"), "system:serviceaccount:"+k.namespace+":robot", "system:serviceaccounts")
	k.ok(`
apiVersion: v1
kind: Secret
metadata: {name: robot-token, annotations: {kubernetes.io/service-account.name: robot}}
type: kubernetes.io/service-account-token
`, "apply", "-f", "-")
	k.ok("", "wait", "secret/robot-token", "--for=jsonpath={.data.token}", "--timeout=60s")
	kept, err := base64.StdEncoding.DecodeString(k.ok("", "get", "secret", "robot-token", "-o", "jsonpath={.data.token}"))
	if err != nil {
		k.t.Fatal(err)
	}
	k.contains(k.bare(string(kept), "auth", "whoami"), "system:serviceaccount:"+k.namespace+":robot")
	k.ok("", "delete", "serviceaccount", "robot")
	k.ok("", "wait", "secret/robot-token", "--for=delete", "--timeout=60s")

	k.certificate()
	k.join()
}

// bare runs kubectl with a token and nothing else.
func (k *kubectl) bare(token string, args ...string) string {
	k.t.Helper()
	empty := filepath.Join(k.home, "none")
	_ = os.WriteFile(empty, nil, 0o600)
	return k.ok("", append([]string{"--kubeconfig", empty, "--server", "https://" + shared.addr, "--insecure-skip-tls-verify", "--token", token}, args...)...)
}

// request makes a key and a request for a certificate, both in PEM.
func (k *kubectl) request(subject pkix.Name) (key, csr []byte) {
	k.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		k.t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, private)
	if err != nil {
		k.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		k.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func signingRequest(name, signer string, csr []byte) string {
	return fmt.Sprintf(`
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: %s}
spec: {signerName: %s, request: %s, usages: [digital signature, client auth]}
`, name, signer, base64.StdEncoding.EncodeToString(csr))
}

// certificate has a certificate signed for a user and uses it.
func (k *kubectl) certificate() {
	name := k.namespace + "-ann"
	key, csr := k.request(pkix.Name{CommonName: "ann", Organization: []string{"team"}})
	k.ok(signingRequest(name, "kubernetes.io/kube-apiserver-client", csr), "apply", "-f", "-")
	k.contains(k.ok("", "get", "csr", name), "Pending")
	k.contains(k.ok("", "certificate", "approve", name), "approved")
	k.ok("", "wait", "csr/"+name, "--for=jsonpath={.status.certificate}", "--timeout=60s")
	k.contains(k.ok("", "get", "csr", name), "Approved,Issued")
	cert, err := base64.StdEncoding.DecodeString(k.ok("", "get", "csr", name, "-o", "jsonpath={.status.certificate}"))
	if err != nil {
		k.t.Fatal(err)
	}
	files := map[string][]byte{"cert": cert, "key": key, "none": nil}
	for file, content := range files {
		if err := os.WriteFile(filepath.Join(k.home, file), content, 0o600); err != nil {
			k.t.Fatal(err)
		}
	}
	k.contains(k.ok("", "--kubeconfig", filepath.Join(k.home, "none"), "--server", "https://"+shared.addr, "--insecure-skip-tls-verify",
		"--client-certificate", filepath.Join(k.home, "cert"), "--client-key", filepath.Join(k.home, "key"), "auth", "whoami"), "ann", "team", "system:authenticated")
	k.ok(signingRequest(name+"-denied", "kubernetes.io/kube-apiserver-client", csr), "apply", "-f", "-")
	k.contains(k.ok("", "certificate", "deny", name+"-denied"), "denied")
	k.contains(k.ok("", "get", "csr", name+"-denied"), "Denied")
}

// join goes the way of a machine that joins: with a bootstrap token to a node's certificate.
func (k *kubectl) join() {
	id := map[string]string{"builtin": "aaaaaa", "stock": "bbbbbb"}[k.namespace]
	k.ok(fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: bootstrap-token-%s, namespace: kube-system}
type: bootstrap.kubernetes.io/token
stringData:
  token-id: %s
  token-secret: 0123456789abcdef
  usage-bootstrap-authentication: "true"
  usage-bootstrap-signing: "true"
  auth-extra-groups: system:bootstrappers:kubeadm:default-node-token
`, id, id), "apply", "-n", "kube-system", "-f", "-")
	k.ok("", "wait", "-n", "kube-public", "cm/cluster-info", "--for=jsonpath={.data.jws-kubeconfig-"+id+"}", "--timeout=60s")
	token := id + ".0123456789abcdef"
	k.contains(k.bare(token, "auth", "whoami"), "system:bootstrap:"+id, "system:bootstrappers")
	name := k.namespace + "-node"
	_, csr := k.request(pkix.Name{CommonName: "system:node:" + name, Organization: []string{"system:nodes"}})
	file := filepath.Join(k.home, "csr.yaml")
	if err := os.WriteFile(file, []byte(signingRequest(name, "kubernetes.io/kube-apiserver-client-kubelet", csr)), 0o600); err != nil {
		k.t.Fatal(err)
	}
	k.bare(token, "create", "--validate=false", "-f", file)
	k.ok("", "wait", "csr/"+name, "--for=jsonpath={.status.certificate}", "--timeout=60s")
	k.contains(k.ok("", "describe", "csr", name), "system:bootstrap:"+id, "Approved,Issued")
}

func (k *kubectl) nodes() {
	k.contains(k.ok("", "get", "nodes"), "Ready", "v1.36")
	node := map[string]string{"builtin": "0", "stock": "1"}[k.namespace]
	var name string
	for _, n := range strings.Fields(k.ok("", "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}")) {
		if strings.HasSuffix(n, node) {
			name = n
		}
	}
	k.contains(k.ok("", "cordon", name), "cordoned")
	k.contains(k.ok("", "get", "node", name), "SchedulingDisabled")
	k.contains(k.ok("", "drain", name, "--ignore-daemonsets", "--force", "--delete-emptydir-data", "--pod-selector=none-has=this", "--timeout=60s"), "drained")
	k.contains(k.ok("", "uncordon", name), "uncordoned")
	k.contains(k.ok("", "taint", "node", name, k.namespace+"=yes:PreferNoSchedule"), "tainted")
	k.contains(k.ok("", "taint", "node", name, k.namespace+"-"), "untainted")
	k.contains(k.ok("", "describe", "node", name), "Allocated resources", "Addresses:")
}

func (k *kubectl) deletes() {
	k.ok("", "delete", "deploy/web", "--cascade=orphan")
	k.contains(k.ok("", "get", "rs", "-l", "app=web", "-o", "name"), "replicaset.apps/web-")
	k.ok(web, "apply", "-f", "-")
	k.ok("", "rollout", "status", "deploy/web", "--timeout=60s")
	k.ok("", "delete", "deploy/web", "--cascade=foreground", "--timeout=60s")
	if out := k.ok("", "get", "rs,pods", "-l", "app=web", "-o", "name"); strings.Contains(out, "web-") {
		k.t.Errorf("after a deletion in the foreground there is\n%s", out)
	}
	k.contains(k.ok("", "delete", "cm", "--all"), `configmap "owned" deleted`)
	k.contains(k.ok("", "delete", "pod/one", "--now"), "deleted")
	k.ok("", "delete", "namespace", k.namespace, "--timeout=60s")
}
