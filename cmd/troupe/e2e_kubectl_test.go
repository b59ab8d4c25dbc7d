package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// rich is a pod with one of everything, and a few with special wishes.
const rich = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: blue}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {pin: "1234"}
---
apiVersion: v1
kind: Pod
metadata: {name: rich, labels: {app: rich}, annotations: {note: "a note"}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: troupe.test/tool:1
    args: [serve]
    stdin: true
    tty: false
    resources: {requests: {cpu: 250m, memory: 32Mi}, limits: {cpu: 500m, memory: 64Mi}}
    env:
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: HOST, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
    - {name: APP, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {containerName: main, resource: limits.memory}}}
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
    - {name: COMPOSED, value: "$(COLOR)-$(NAME)"}
    envFrom: [{prefix: KEY_, secretRef: {name: keys}}]
    ports: [{name: http, containerPort: 8080, hostPort: 18080}]
    readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
    livenessProbe: {exec: {command: [/tool, "true"]}, periodSeconds: 1}
    startupProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 30}
    volumeMounts:
    - {name: scratch, mountPath: /scratch}
    - {name: settings, mountPath: /settings}
    - {name: host, mountPath: /host}
    - {name: all, mountPath: /all}
  - name: healthy
    image: troupe.test/tool:1
    args: [serve]
    env: [{name: PORT, value: "8081"}]
    readinessProbe: {grpc: {port: 9090}, periodSeconds: 1}
    volumeMounts: [{name: scratch, mountPath: /scratch}]
  volumes:
  - {name: scratch, emptyDir: {}}
  - {name: settings, configMap: {name: settings}}
  - {name: host, hostPath: {path: %q, type: Directory}}
  - name: all
    projected:
      sources:
      - configMap: {name: settings, items: [{key: color, path: sub/color}]}
      - secret: {name: keys}
      - downwardAPI: {items: [{path: note, fieldRef: {fieldPath: "metadata.annotations['note']"}}]}
      - serviceAccountToken: {path: token, audience: somebody, expirationSeconds: 600}
---
apiVersion: v1
kind: Pod
metadata: {name: host}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: "troupe.test/tool:1", args: [serve], env: [{name: PORT, value: "18181"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: talks}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: "troupe.test/tool:1", args: [upper], stdin: true, tty: true}
---
apiVersion: v1
kind: Pod
metadata: {name: lines}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: "troupe.test/tool:1", args: [lines, "100"]}
---
apiVersion: v1
kind: Pod
metadata: {name: fails}
spec:
  containers:
  - {name: main, image: "troupe.test/tool:1", args: [exit, "3"]}
`

// TestKubectlOnRealPods does what users do with kubectl.
func TestKubectlOnRealPods(t *testing.T) {
	w := newWorld(t)
	shared := t.TempDir()
	if err := os.WriteFile(filepath.Join(shared, "greeting"), []byte("from the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.up()
	w.load(toolImage)
	w.apply(fmt.Sprintf(rich, shared))
	w.kubectl("wait", "pod/rich", "pod/host", "pod/talks", "pod/lines", "--for=condition=Ready", "--timeout=60s")

	exec := func(args ...string) string {
		return w.kubectl(append([]string{"exec", "rich", "-c", "main", "--", "/tool"}, args...)...)
	}
	contains := func(t *testing.T, text string, want ...string) {
		t.Helper()
		for _, s := range want {
			if !strings.Contains(text, s) {
				t.Errorf("%q is not in\n%s", s, text)
			}
		}
	}

	t.Run("environment", func(t *testing.T) {
		p := w.pod("rich")
		contains(t, exec("env", "NAME", "IP", "HOST", "APP", "CPU", "MEMORY", "COLOR", "COMPOSED", "KEY_pin", "KUBERNETES_SERVICE_HOST"),
			"NAME=rich\n", "IP="+p.Status.PodIP+"\n", "HOST=192.0.2.10\n", "APP=rich\n", "CPU=500\n", "MEMORY=67108864\n", "COLOR=blue\n",
			"COMPOSED=blue-rich\n", "KEY_pin=1234\n", "KUBERNETES_SERVICE_HOST=10.96.0.1\n")
	})
	t.Run("volumes", func(t *testing.T) {
		contains(t, exec("cat", "/settings/color", "/host/greeting", "/all/sub/color", "/all/pin", "/all/note"),
			"/settings/color: blue", "/host/greeting: from the host", "/all/sub/color: blue", "/all/pin: 1234", "/all/note: a note")
		if n := strings.Count(strings.TrimPrefix(exec("cat", "/all/token"), "/all/token: "), "."); n != 2 {
			t.Errorf("the projected token has %d dots", n)
		}
		exec("touch", "/scratch/from-main")
		w.kubectl("exec", "rich", "-c", "healthy", "--", "/tool", "cat", "/scratch/from-main")
		exec("touch", "/host/from-pod")
		if _, err := os.Stat(filepath.Join(shared, "from-pod")); err != nil {
			t.Error(err)
		}
		w.kubectl("patch", "configmap", "settings", "-p", `{"data":{"color":"red"}}`)
		w.kubectl("annotate", "pod", "rich", "--overwrite", "note=another")
		within(t, 10*time.Second, "changes reach the pod", func() error {
			got := exec("cat", "/settings/color", "/all/sub/color", "/all/note")
			if strings.Count(got, "red") != 2 || !strings.Contains(got, "another") {
				return errors.New(got)
			}
			return nil
		})
	})
	t.Run("cgroups", func(t *testing.T) {
		uid := string(w.pod("rich").UID)
		id := strings.TrimPrefix(w.status("rich", "main").ContainerID, "containerd://")
		if _, err := os.Stat("/sys/fs/cgroup/cpu"); err != nil {
			t.Skip("only cgroup version 1 is looked at")
		}
		group := "troupe/*/pod" + uid
		for file, want := range map[string]string{
			"cpu/" + group + "/cpu.shares":                          "256",
			"cpu/" + group + "/" + id + "/cpu.shares":               "256",
			"cpu/" + group + "/" + id + "/cpu.cfs_quota_us":         "50000",
			"memory/" + group + "/" + id + "/memory.limit_in_bytes": "67108864",
		} {
			found, _ := filepath.Glob("/sys/fs/cgroup/" + file)
			if len(found) != 1 {
				t.Errorf("%s: %d files", file, len(found))
				continue
			}
			if got, err := os.ReadFile(found[0]); err != nil || strings.TrimSpace(string(got)) != want {
				t.Errorf("%s is %q, %v; want %s", file, got, err, want)
			}
		}
	})
	t.Run("ports", func(t *testing.T) {
		for _, address := range []string{w.pod("rich").Status.PodIP + ":8080", "192.0.2.10:18080", "127.0.0.1:18080", "192.0.2.10:18181"} {
			within(t, 10*time.Second, address, func() error { return fetch("http://"+address, "this is") })
		}
		if ip := w.pod("host").Status.PodIP; ip != "192.0.2.10" {
			t.Errorf("address with the host's network: %s", ip)
		}
	})
	t.Run("api from inside", func(t *testing.T) {
		contains(t, exec("api", "/version"), "status 200", `"gitVersion"`)
		contains(t, exec("api", "/api/v1/namespaces/default/configmaps"), "status 403", `"reason":"Forbidden"`, "system:serviceaccount:default:default")
		w.kubectl("create", "role", "looks", "--verb=list", "--resource=configmaps")
		w.kubectl("create", "rolebinding", "looks", "--role=looks", "--serviceaccount=default:default")
		within(t, 10*time.Second, "the role applies", func() error {
			if got := exec("api", "/api/v1/namespaces/default/configmaps"); !strings.Contains(got, "status 200") || !strings.Contains(got, `"settings"`) {
				return errors.New(got)
			}
			return nil
		})
		contains(t, exec("api", "/api/v1/namespaces/default/secrets"), "status 403")
	})
	t.Run("logs", func(t *testing.T) {
		if out := w.kubectl("logs", "lines"); strings.Count(out, "\n") != 100 || !strings.HasPrefix(out, "line 0\nline 1\n") {
			t.Errorf("%d lines", strings.Count(out, "\n"))
		}
		if out := w.kubectl("logs", "lines", "--tail=3"); out != "line 97\nline 98\nline 99\n" {
			t.Errorf("tail: %q", out)
		}
		if out := w.kubectl("logs", "lines", "--limit-bytes=7"); out != "line 0\n" {
			t.Errorf("limited: %q", out)
		}
		if out := w.kubectl("logs", "lines", "--since=1h", "--timestamps", "--tail=1"); !regexp.MustCompile(`^20\d\d-\S+Z line 99\n$`).MatchString(out) {
			t.Errorf("since and timestamps: %q", out)
		}
		if out := w.kubectl("logs", "lines", "--since-time=2100-01-01T00:00:00Z"); out != "" {
			t.Errorf("since the future: %q", out)
		}
		if out := w.kubectl("logs", "rich", "--all-containers", "--prefix"); strings.Count(out, "serving on") != 2 {
			t.Errorf("all: %q", out)
		}
		within(t, 30*time.Second, "the log of the run before", func() error {
			if r := w.troupe(nil, "kubectl", "logs", "fails", "--previous"); r.out != "leaving with 3\n" {
				return fmt.Errorf("%+v", r)
			}
			return nil
		})
		complaint(t, w.troupe(nil, "kubectl", "logs", "lines", "--previous"), "previous terminated container", "not found")
		complaint(t, w.troupe(nil, "kubectl", "logs", "lines", "-c", "none"), "container none is not valid for pod lines")
	})
	t.Run("follow", func(t *testing.T) {
		talk := w.talk("logs", "-f", "talks")
		talk.await("terminal: true")
		w.attachTo("talks", func(in *os.File, out *output) {
			io.WriteString(in, "hello\n")
			within(t, 10*time.Second, "an answer on the terminal", func() error {
				if !strings.Contains(out.String(), "HELLO") {
					return fmt.Errorf("%q", out)
				}
				return nil
			})
		})
		talk.await("HELLO")
		w.kubectl("delete", "pod", "talks", "--grace-period=1")
		talk.end()
	})
	t.Run("exec", func(t *testing.T) {
		r := w.troupe(strings.NewReader("one\ntwo\n"), "kubectl", "exec", "-i", "rich", "-c", "main", "--", "/tool", "upper")
		if r.code != 0 || r.out != "terminal: false\nONE\nTWO\n" {
			t.Errorf("%+v", r)
		}
		if r := w.troupe(nil, "kubectl", "exec", "rich", "-c", "main", "--", "/tool", "exit", "7"); r.code != 7 || r.out != "leaving with 7\n" || !strings.Contains(r.err, "exit code 7") {
			t.Errorf("%+v", r)
		}
		if r := w.troupe(nil, "kubectl", "exec", "rich", "-c", "main", "--", "/none"); r.code == 0 || !strings.Contains(r.err, "no such file") {
			t.Errorf("%+v", r)
		}
		if r := w.troupe(nil, "kubectl", "exec", "none", "--", "/tool"); r.code != 1 || !strings.Contains(r.err, `pods "none" not found`) {
			t.Errorf("%+v", r)
		}
		big := strings.Repeat("0123456789abcdef\n", 60_000)
		if r := w.troupe(strings.NewReader(big), "kubectl", "exec", "-i", "rich", "-c", "main", "--", "/tool", "upper"); r.out != "terminal: false\n"+strings.ToUpper(big) {
			t.Errorf("a megabyte comes back as %d bytes, %s", len(r.out), r.err)
		}
	})
	t.Run("attach", func(t *testing.T) {
		talk := w.talk("attach", "rich", "-c", "main")
		within(t, 10*time.Second, "something attached", func() error { return fetch("http://192.0.2.10:18080", "this is") })
		talk.cmd.Process.Kill()
		talk.end()
	})
	t.Run("port-forward", func(t *testing.T) {
		talk := w.talk("port-forward", "pod/rich", ":8080")
		line := talk.await("Forwarding from 127.0.0.1:")
		port := regexp.MustCompile(`127\.0\.0\.1:(\d+)`).FindStringSubmatch(line)[1]
		for range 3 {
			if err := fetch("http://127.0.0.1:"+port, "this is rich"); err != nil {
				t.Error(err)
			}
		}
		talk.cmd.Process.Signal(os.Interrupt)
		talk.end()
	})
	t.Run("proxy", func(t *testing.T) {
		for _, path := range []string{"/api/v1/namespaces/default/pods/rich:8080/proxy/", "/api/v1/nodes/" + w.pod("rich").Spec.NodeName + "/proxy/healthz"} {
			if out := w.kubectl("get", "--raw", path); !strings.Contains(out, "this is rich") && out != "ok" {
				t.Errorf("%s: %q", path, out)
			}
		}
	})
	t.Run("probes", func(t *testing.T) {
		for _, c := range w.pod("rich").Status.ContainerStatuses {
			if !c.Ready || c.Started == nil || !*c.Started || c.RestartCount != 0 {
				t.Errorf("%+v", c)
			}
		}
	})
	w.kubectl("delete", "pods", "--all", "--timeout=30s")
	w.consistent()
}

func (w *world) pod(name string) corev1.Pod {
	w.t.Helper()
	for _, p := range w.pods("default") {
		if p.Name == name {
			return p
		}
	}
	w.t.Fatalf("no pod %s", name)
	return corev1.Pod{}
}

// fetch says why a URL does not answer with a text.
func fetch(url, want string) error {
	c := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: time.Second}).DialContext}}
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Contains(body, []byte(want)) {
		return fmt.Errorf("%s answers %q, %w", url, body, err)
	}
	return nil
}

// talk is a kubectl that runs on.
type talk struct {
	t    testing.TB
	cmd  *osexec.Cmd
	out  *output
	done chan struct{}
}

func (w *world) talk(args ...string) *talk {
	w.t.Helper()
	k := &talk{t: w.t, cmd: command(append([]string{"kubectl"}, args...)...), out: &output{}, done: make(chan struct{})}
	k.cmd.Env = append(k.cmd.Env, "KUBECONFIG="+filepath.Join(w.dir, "kubeconfig"))
	k.cmd.Stdout, k.cmd.Stderr = k.out, k.out
	if err := k.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { k.cmd.Process.Kill() })
	go func() {
		_ = k.cmd.Wait()
		close(k.done)
	}()
	return k
}

// await waits for a text and returns its line.
func (k *talk) await(text string) string {
	k.t.Helper()
	var found string
	within(k.t, 15*time.Second, text, func() error {
		lines := bufio.NewScanner(strings.NewReader(k.out.String()))
		for lines.Scan() {
			if strings.Contains(lines.Text(), text) {
				found = lines.Text()
				return nil
			}
		}
		return errors.New(k.out.String())
	})
	return found
}

func (k *talk) end() {
	k.t.Helper()
	select {
	case <-k.done:
	case <-time.After(15 * time.Second):
		k.t.Errorf("%v does not end:\n%s", k.cmd.Args, k.out)
	}
}

// attachTo attaches a terminal to a pod, lets do use it, and hangs up.
func (w *world) attachTo(pod string, do func(in *os.File, out *output)) {
	w.t.Helper()
	master, slave := terminal(w.t)
	cmd := command("kubectl", "attach", "-it", pod)
	cmd.Env = append(cmd.Env, "KUBECONFIG="+filepath.Join(w.dir, "kubeconfig"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	slave.Close()
	out := &output{}
	read := make(chan struct{})
	go func() {
		_, _ = io.Copy(out, master) // ends with an error when the terminal is hung up
		close(read)
	}()
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		<-read
		master.Close()
	}()
	do(master, out)
}

// terminal opens a pair of pseudo terminals.
func terminal(t testing.TB) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return master, slave
}
