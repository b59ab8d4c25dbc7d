package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/testkit/example"
)

// TestTheDemo takes the way that a newcomer takes, and goes on to stop and start again.
func TestTheDemo(t *testing.T) {
	w := newWorld(t)
	empty := traces(t, w.dir)
	w.up()
	if info, err := os.Stat(filepath.Join(w.dir, "kubeconfig")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kubeconfig: %v, %v", info.Mode(), err)
	}
	w.load(example.ImageName)
	if out := w.must("image", "ls"); !strings.Contains(out, "docker.io/example/web:v1") {
		t.Errorf("images:\n%s", out)
	}
	w.apply(string(example.Web))
	w.kubectl("-n", "example", "rollout", "status", "deployment/web", "--timeout=60s")
	w.answers()
	w.asksFromPod()
	if out := w.must("events", "--since", "5m", "--kind", "Pod", "-n", "example", "--follow=false"); strings.Count(out, "create") < 4 {
		t.Errorf("events of pods:\n%s", out)
	}

	before := w.containers("example")
	w.stop()
	w.answers() // nobody of us is there
	w.up()
	w.kubectl("-n", "example", "rollout", "status", "deployment/web", "--timeout=60s")
	w.answers()
	w.consistent()
	if after := w.containers("example"); !maps.Equal(before, after) {
		t.Errorf("containers before %v, after %v", before, after)
	}
	for _, p := range w.pods("example") {
		for _, c := range p.Status.ContainerStatuses {
			if c.RestartCount != 0 {
				t.Errorf("%s was restarted", p.Name)
			}
		}
	}

	for range 2 { // the second time there is nothing to do
		w.must("down")
		if left := added(empty, traces(t, w.dir)); len(left) > 0 {
			t.Fatalf("down leaves:\n%s", strings.Join(left, "\n"))
		}
	}
	w.up() // from the data alone
	within(t, 60*time.Second, "the application is back", w.reachable)
	w.consistent()
	w.must("reset", "--yes")
	if _, err := os.Stat(w.dir); !os.IsNotExist(err) {
		t.Errorf("the data is left: %v", err)
	}
	if r := w.troupe(nil, "reset", "--yes"); r.code != 1 || !strings.Contains(r.err, "is no data folder of troupe") {
		t.Errorf("a second reset: %+v", r)
	}
}

// nodePort is the example's, in its manifest.
const nodePort = 30080

// reachable says why the example does not answer on its cluster IP and its node port.
func (w *world) reachable() error {
	svc, err := w.client().CoreV1().Services("example").Get(w.t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		return err
	}
	return answering("http://"+svc.Spec.ClusterIP+"/", fmt.Sprintf("http://127.0.0.1:%d/", nodePort), fmt.Sprintf("http://192.0.2.10:%d/", nodePort))
}

// answers makes sure that the example answers on all ways from the host, without the API.
func (w *world) answers() {
	w.t.Helper()
	within(w.t, 20*time.Second, "an answer", func() error {
		return answering(fmt.Sprintf("http://127.0.0.1:%d/", nodePort), fmt.Sprintf("http://192.0.2.10:%d/", nodePort))
	})
}

func (w *world) asksFromPod() {
	w.t.Helper()
	w.apply(string(example.Client))
	w.kubectl("-n", "example", "wait", "pod/client", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
	if out := w.kubectl("-n", "example", "logs", "client"); !strings.Contains(out, "Hello from troupe") {
		w.t.Errorf("the client saw %q", out)
	}
	w.kubectl("-n", "example", "delete", "pod", "client")
}

func (w *world) pods(ns string) []corev1.Pod {
	w.t.Helper()
	list, err := w.client().CoreV1().Pods(ns).List(w.t.Context(), metav1.ListOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return list.Items
}

// containers returns the container of each pod, as the API knows them.
func (w *world) containers(ns string) map[string]string {
	out := map[string]string{}
	for _, p := range w.pods(ns) {
		for _, c := range p.Status.ContainerStatuses {
			out[p.Name+"/"+c.Name] = c.ContainerID
		}
	}
	return out
}
