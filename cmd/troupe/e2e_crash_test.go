package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/testkit/example"
)

// crowd is a Deployment whose pods hold all that can leak: files, memory, an address, a host port.
func crowd(replicas int, version string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: ConfigMap
metadata: {name: crowd}
data: {key: %[2]s}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: crowd}
spec:
  replicas: %[1]d
  selector: {matchLabels: {app: crowd}}
  template:
    metadata: {labels: {app: crowd}, annotations: {version: %[2]s}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: one, image: "troupe.test/tool:1", args: [serve], volumeMounts: [{name: c, mountPath: /c}, {name: m, mountPath: /m}]}
      - {name: two, image: "troupe.test/tool:1", args: [lines, "3"], resources: {limits: {memory: 32Mi}}}
      volumes:
      - {name: c, configMap: {name: crowd}}
      - {name: m, emptyDir: {medium: Memory}}
`, replicas, version)
}

// TestKilledAtAnyMoment ends troupe by kill -9 while it is at work, again and again: three times
// somewhere in the story, or all through it with make soak.
func TestKilledAtAnyMoment(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("TROUPE_TEST_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("TROUPE_TEST_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	w := newWorld(t)
	w.up()
	w.load(toolImage)
	w.load(example.ImageName)
	w.apply(string(example.Web))
	w.kubectl("-n", "example", "rollout", "status", "deployment/web", "--timeout=60s")
	kept := w.containers("example")

	rounds := []struct {
		name string
		do   func()
		want int
	}{
		{"pods start", func() { w.apply(crowd(4, "a")) }, 4},
		{"a rollout runs", func() { w.apply(crowd(4, "b")) }, 4},
		{"scaling down", func() { w.apply(crowd(1, "b")) }, 1},
		{"scaling up", func() { w.apply(crowd(5, "b")) }, 5},
		{"another rollout runs", func() { w.apply(crowd(3, "c")) }, 3},
		{"deleting", func() { w.kubectl("delete", "deployment", "crowd", "--wait=false") }, 0},
		{"pods start once more, and containerd dies, too", func() { w.apply(crowd(3, "d")) }, 3},
		{"deleting without grace", func() { w.kubectl("delete", "pods", "-l", "app=crowd", "--force", "--grace-period=0", "--wait=false") }, 3},
	}
	if os.Getenv("TROUPE_SOAK") == "" {
		const few = 3
		from := random.IntN(len(rounds) - few + 1)
		rounds = rounds[from : from+few]
		w.apply(crowd(2, "z")) // what has happened before
		w.kubectl("rollout", "status", "deployment/crowd", "--timeout=60s")
	}
	for i, r := range rounds {
		t.Logf("round %d: %s", i, r.name)
		r.do()
		pass(time.Duration(random.IntN(700)) * time.Millisecond)
		w.kill()
		if strings.Contains(r.name, "containerd") {
			syscall.Kill(w.containerd(), syscall.SIGKILL)
		}
		w.answers() // services are in the kernel
		if i%2 == 1 {
			w.start() // dies again while it comes up
			pass(time.Duration(random.IntN(300)) * time.Millisecond)
			w.kill()
		}
		w.up()
		within(t, 60*time.Second, r.name+" has come to its end", func() error {
			pods := w.pods("default")
			if len(pods) == r.want {
				return nil
			}
			err := fmt.Errorf("%d pods instead of %d", len(pods), r.want)
			for _, p := range pods {
				err = fmt.Errorf("%w\n%s is %s, deleted %v: %+v", err, p.Name, p.Status.Phase, p.DeletionTimestamp, p.Status.ContainerStatuses)
			}
			return err
		})
		w.consistent()
		if err := same(kept, w.containers("example")); err != nil {
			t.Errorf("containers that nobody touched: %v", err)
		}
	}
	w.answers()
	w.asksFromPod()
}

// pass lets time pass: here it is chance that decides when something happens.
func pass(d time.Duration) { <-time.After(d) }

func same(want, have map[string]string) error {
	var errs []error
	for k, v := range want {
		if have[k] != v {
			errs = append(errs, fmt.Errorf("%s was %s, is %s", k, v, have[k]))
		}
	}
	return errors.Join(errs...)
}

// containerd is the process id of the cluster's.
func (w *world) containerd() int {
	w.t.Helper()
	for _, p := range processes(w.t) {
		if filepath.Base(p.args[0]) == "containerd" && strings.Contains(strings.Join(p.args, " "), w.dir) {
			return p.pid
		}
	}
	w.t.Fatal("containerd does not run")
	return 0
}

// TestWhatNodesSurvive kills what runs below troupe.
func TestWhatNodesSurvive(t *testing.T) {
	w := newWorld(t)
	w.up()
	w.load(toolImage)
	w.apply(crowd(2, "a"))
	w.kubectl("rollout", "status", "deployment/crowd", "--timeout=60s")

	t.Run("containerd", func(t *testing.T) {
		before := w.containers("default")
		program, away := filepath.Join(binDir, "containerd"), filepath.Join(binDir, "containerd.away")
		if err := os.Rename(program, away); err != nil {
			t.Fatal(err)
		}
		back := sync.OnceFunc(func() {
			if err := os.Rename(away, program); err != nil {
				t.Error(err)
			}
		})
		defer back()
		syscall.Kill(w.containerd(), syscall.SIGKILL)
		began := time.Now()
		within(t, 5*time.Second, "the node says so", func() error {
			c := w.nodeCondition(corev1.NodeReady)
			if c.Status != corev1.ConditionFalse || !strings.Contains(c.Message, "container runtime is down") {
				return fmt.Errorf("condition %+v", c)
			}
			return nil
		})
		t.Logf("seen after %s: %s", time.Since(began), w.nodeCondition(corev1.NodeReady).Message)
		back()
		within(t, 20*time.Second, "the node heals", func() error {
			if c := w.nodeCondition(corev1.NodeReady); c.Status != corev1.ConditionTrue {
				return fmt.Errorf("condition %+v", c)
			}
			return nil
		})
		t.Logf("healed after %s", time.Since(began))
		w.consistent()
		if err := same(before, w.containers("default")); err != nil {
			t.Error(err)
		}
		w.apply(crowd(3, "a"))
		w.kubectl("rollout", "status", "deployment/crowd", "--timeout=60s")
	})
	t.Run("a process", func(t *testing.T) {
		p := w.pods("default")[0]
		for run := range int32(2) {
			var id string
			within(t, 30*time.Second, "the container runs", func() error {
				c := w.status(p.Name, "one")
				if c.State.Running == nil || c.RestartCount != run {
					return fmt.Errorf("%+v", c)
				}
				id = strings.TrimPrefix(c.ContainerID, "containerd://")
				return nil
			})
			w.killContainer(id)
			within(t, 30*time.Second, "it is restarted", func() error {
				c := w.status(p.Name, "one")
				last := c.LastTerminationState.Terminated
				if c.RestartCount != run+1 || last == nil || last.ExitCode != 137 || last.Reason != "Error" || "containerd://"+id != last.ContainerID {
					return fmt.Errorf("%+v", c)
				}
				return nil
			})
		}
		if c := w.status(p.Name, "two"); c.RestartCount != 0 || c.State.Running == nil {
			t.Errorf("the other container: %+v", c)
		}
		w.consistent()
	})
	t.Run("a shim", func(t *testing.T) {
		for _, p := range processes(t) {
			if strings.HasSuffix(p.args[0], "containerd-shim-runc-v2") {
				syscall.Kill(p.pid, syscall.SIGKILL)
				break
			}
		}
		w.consistent()
	})
}

func (w *world) nodeCondition(kind corev1.NodeConditionType) corev1.NodeCondition {
	w.t.Helper()
	n, err := w.client().CoreV1().Nodes().Get(w.t.Context(), "n1", metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range n.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.NodeCondition{}
}

func (w *world) status(pod, container string) corev1.ContainerStatus {
	w.t.Helper()
	p, err := w.client().CoreV1().Pods("default").Get(w.t.Context(), pod, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range p.Status.ContainerStatuses {
		if c.Name == container {
			return c
		}
	}
	return corev1.ContainerStatus{}
}

// killContainer kills the first process of a container, from outside.
func (w *world) killContainer(id string) {
	w.t.Helper()
	r, err := w.runtime().ContainerStatus(w.t.Context(), &cri.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		w.t.Fatal(err)
	}
	var info struct{ PID int }
	if err := json.Unmarshal([]byte(r.Info["info"]), &info); err != nil || info.PID <= 1 {
		w.t.Fatalf("container %s: %v, %v", id, r.Info, err)
	}
	if err := syscall.Kill(info.PID, syscall.SIGKILL); err != nil {
		w.t.Fatal(err)
	}
}
