package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// needy is a pod that lacks something.
func needy(name, image, more string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: %s
    imagePullPolicy: IfNotPresent
    args: [serve]
%s
`, name, image, more)
}

// TestWhatIsMissing starts pods that lack something, sees how that is reported, and supplies it.
func TestWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	w.up()
	dir := filepath.Join(t.TempDir(), "made-later")
	const mount = "    volumeMounts: [{name: v, mountPath: /v}]\n  volumes:\n"
	tests := []struct {
		pod, more string
		reasons   []string // the container waits for one of these
		event     string   // reason and start of the message
		supply    func()
	}{
		{"image", "", []string{"ErrImagePull", "ImagePullBackOff"}, "Failed: Failed to pull image \"" + toolImage, func() { w.load(toolImage) }},
		{"env-configmap", "    env: [{name: X, valueFrom: {configMapKeyRef: {name: later, key: x}}}]", []string{"CreateContainerConfigError"},
			`Failed: Error: configmap "later" not found`, func() { w.kubectl("create", "configmap", "later", "--from-literal=x=1") }},
		{"env-key", "    env: [{name: X, valueFrom: {secretKeyRef: {name: part, key: x}}}]", []string{"CreateContainerConfigError"},
			"Failed: Error: couldn't find key x in Secret default/part", func() { w.kubectl("patch", "secret", "part", "-p", `{"stringData":{"x":"1"}}`) }},
		{"env-secret", "    envFrom: [{secretRef: {name: later}}]", []string{"CreateContainerConfigError"},
			`Failed: Error: secret "later" not found`, func() { w.kubectl("create", "secret", "generic", "later", "--from-literal=x=1") }},
		{"volume-configmap", mount + "  - {name: v, configMap: {name: later-too}}", []string{"ContainerCreating"},
			`FailedMount: MountVolume.SetUp failed for volume "v" : configmap "later-too" not found`, func() { w.kubectl("create", "configmap", "later-too", "--from-literal=x=1") }},
		{"volume-secret", mount + "  - {name: v, secret: {secretName: later-too}}", []string{"ContainerCreating"},
			`FailedMount: MountVolume.SetUp failed for volume "v" : secret "later-too" not found`, func() { w.kubectl("create", "secret", "generic", "later-too", "--from-literal=x=1") }},
		{"volume-host", mount + "  - {name: v, hostPath: {path: " + dir + ", type: Directory}}", []string{"ContainerCreating"},
			`FailedMount: MountVolume.SetUp failed for volume "v" : hostPath type check failed: ` + dir + " is not a directory", func() {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}},
	}
	w.kubectl("create", "secret", "generic", "part", "--from-literal=y=1")
	for i, tt := range tests {
		if i == 1 { // the first one alone is to lack its image
			tests[0].supply()
		}
		w.apply(needy(tt.pod, toolImage, tt.more))
		within(t, 20*time.Second, tt.pod+" waits and says why", func() error {
			c := w.status(tt.pod, "main").State.Waiting
			if c == nil || !strings.Contains(strings.Join(tt.reasons, " "), c.Reason) {
				return fmt.Errorf("%+v", w.status(tt.pod, "main").State)
			}
			return w.hasEvent(tt.pod, tt.event)
		})
		if p := w.pod(tt.pod); p.Status.Phase != corev1.PodPending {
			t.Errorf("%s is %s", tt.pod, p.Status.Phase)
		}
	}
	for _, tt := range tests[1:] {
		tt.supply()
	}
	for _, tt := range tests {
		within(t, 60*time.Second, tt.pod+" runs after all", func() error {
			if p := w.pod(tt.pod); p.Status.Phase != corev1.PodRunning {
				return fmt.Errorf("%s: %+v", p.Status.Phase, w.status(tt.pod, "main").State)
			}
			return nil
		})
	}
	w.consistent()
}

// hasEvent says what Events of a pod there are when none is the wanted one.
func (w *world) hasEvent(pod, want string) error {
	list, err := w.client().CoreV1().Events("default").List(w.t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod})
	if err != nil {
		return err
	}
	var have []string
	for _, e := range list.Items {
		line := e.Reason + ": " + e.Message
		if strings.HasPrefix(line, want) {
			return nil
		}
		have = append(have, line)
	}
	return errors.New("events:\n" + strings.Join(have, "\n"))
}

// TestFullDisk fills the disk of the data folder and frees it again.
func TestFullDisk(t *testing.T) {
	w := newWorld(t)
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=256m"); err != nil {
		t.Skipf("no small disk here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	os.Remove(w.dir)
	w.dir = filepath.Join(disk, "data")
	defer func() { w.must("reset", "--yes") }()
	w.up("--eviction-pressure-transition-period", "5s")
	w.load(toolImage)
	w.apply(crowd(1, "a"))
	w.kubectl("rollout", "status", "deployment/crowd", "--timeout=60s")
	before := w.pods("default")[0]

	var fs syscall.Statfs_t
	if err := syscall.Statfs(disk, &fs); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, int64(fs.Bavail)*fs.Bsize-(1<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	r := w.troupe(nil, "kubectl", "create", "configmap", "much", "--from-literal=x=1")
	complaint(t, r, "disk", "is full")
	if out := w.kubectl("get", "pods"); !strings.Contains(out, "crowd-") {
		t.Errorf("reading: %s", out)
	}
	if r := w.troupe(nil, "kubectl", "get", "--raw", "/readyz?verbose"); r.code == 0 || !strings.Contains(r.err+r.out, "[-]nats failed") {
		t.Errorf("health: %+v", r)
	}
	pressure := func(want corev1.ConditionStatus) {
		t.Helper()
		within(t, 20*time.Second, "DiskPressure is "+string(want), func() error {
			if c := w.nodeCondition(corev1.NodeDiskPressure); c.Status != want {
				return fmt.Errorf("%+v", c)
			}
			return nil
		})
	}
	pressure(corev1.ConditionTrue)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	within(t, 20*time.Second, "writes go on", func() error {
		if r := w.troupe(nil, "kubectl", "create", "configmap", "much", "--from-literal=x=1"); r.code != 0 {
			return errors.New(r.err)
		}
		return nil
	})
	pressure(corev1.ConditionFalse)
	w.kubectl("get", "--raw", "/readyz")
	w.apply(crowd(2, "a"))
	w.kubectl("rollout", "status", "deployment/crowd", "--timeout=60s")
	w.consistent()
	// Nothing nobody used was left to remove: the pod went.
	if p := w.pod(before.Name); p.Status.Phase != corev1.PodFailed || p.Status.Reason != "Evicted" || !strings.HasPrefix(p.Status.Message, "The node was low on resource: ephemeral-storage. ") {
		t.Errorf("%s is %s, %s: %s", p.Name, p.Status.Phase, p.Status.Reason, p.Status.Message)
	}
}
