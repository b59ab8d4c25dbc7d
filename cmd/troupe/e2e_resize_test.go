package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// cgroupValue reads a value of a cgroup, by its name in version 1 or in version 2.
func cgroupValue(path, controller, v1, v2 string) string {
	for _, file := range []string{filepath.Join("/sys/fs/cgroup", controller, path, v1), filepath.Join("/sys/fs/cgroup", path, v2)} {
		if text, err := os.ReadFile(file); err == nil {
			return strings.TrimSpace(string(text))
		}
	}
	return "none"
}

// TestResize gives a running pod more, and less, and reads from the kernel what it has.
func TestResize(t *testing.T) {
	w := newWorld(t)
	w.up()
	w.load(toolImage)
	w.apply(needy("sized", toolImage, `    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}
    resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}, {resourceName: memory, restartPolicy: NotRequired}]`))
	w.kubectl("wait", "pod/sized", "--for=condition=Ready", "--timeout=60s")
	first := w.status("sized", "main")
	group := filepath.Join("/troupe", filepath.Base(w.runDir()), "pod"+string(w.pod("sized").UID))
	inside := filepath.Join(group, strings.TrimPrefix(first.ContainerID, "containerd://"))
	v1 := cgroupValue(inside, "cpu", "cpu.shares", "none") != "none"

	for _, tt := range []struct {
		name, cpu, cpuLimit, memory string
		shares, quota, bytes        string
	}{
		{"more", "300m", "500m", "128Mi", "307", "50000", "134217728"},
		{"less", "100m", "300m", "96Mi", "102", "30000", "100663296"},
	} {
		w.kubectl("patch", "pod", "sized", "--subresource", "resize", "-p", fmt.Sprintf(
			`{"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":%q,"memory":"32Mi"},"limits":{"cpu":%q,"memory":%q}}}]}}`, tt.cpu, tt.cpuLimit, tt.memory))
		within(t, 20*time.Second, tt.name+" is there", func() error {
			var errs []error
			c := w.status("sized", "main")
			if c.Resources == nil || c.Resources.Limits.Memory().String() != tt.memory || c.Resources.Limits.Cpu().String() != tt.cpuLimit || c.AllocatedResources.Cpu().String() != tt.cpu {
				errs = append(errs, fmt.Errorf("status: %v, %v", c.Resources, c.AllocatedResources))
			}
			p := w.pod("sized")
			for _, cond := range p.Status.Conditions {
				if cond.Type == corev1.PodResizeInProgress || cond.Type == corev1.PodResizePending {
					errs = append(errs, fmt.Errorf("condition %+v", cond))
				}
			}
			if p.Status.ObservedGeneration != p.Generation {
				errs = append(errs, fmt.Errorf("generation %d of %d is observed", p.Status.ObservedGeneration, p.Generation))
			}
			for _, dir := range []string{inside, group} {
				if got := cgroupValue(dir, "memory", "memory.limit_in_bytes", "memory.max"); got != tt.bytes {
					errs = append(errs, fmt.Errorf("%s: memory %s, want %s", dir, got, tt.bytes))
				}
				if got := cgroupValue(dir, "cpu", "cpu.shares", "none"); v1 && got != tt.shares {
					errs = append(errs, fmt.Errorf("%s: shares %s, want %s", dir, got, tt.shares))
				}
			}
			if got := cgroupValue(inside, "cpu", "cpu.cfs_quota_us", "cpu.max"); !strings.HasPrefix(got, tt.quota) {
				errs = append(errs, fmt.Errorf("quota %s, want %s", got, tt.quota))
			}
			return errors.Join(errs...)
		})
	}
	if now := w.status("sized", "main"); now.ContainerID != first.ContainerID || now.RestartCount != 0 {
		t.Errorf("the container was %s, is %s after %d restarts", first.ContainerID, now.ContainerID, now.RestartCount)
	}
	w.kubectl("patch", "pod", "sized", "--subresource", "resize", "-p", `{"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":"1000"},"limits":{"cpu":"1000"}}}]}}`)
	within(t, 20*time.Second, "too much is refused", func() error {
		for _, cond := range w.pod("sized").Status.Conditions {
			if cond.Type == corev1.PodResizePending && cond.Reason == corev1.PodReasonInfeasible {
				return nil
			}
		}
		return fmt.Errorf("%+v", w.pod("sized").Status.Conditions)
	})
	w.consistent()
}
