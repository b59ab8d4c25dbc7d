package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// consistent makes sure that the machine comes to hold what the API says, and nothing else.
func (w *world) consistent() {
	w.t.Helper()
	rt := w.runtime()
	within(w.t, 60*time.Second, "machine and API agree", func() error { return w.disagreement(rt) })
}

// disagreement compares pods of the API with sandboxes, containers, addresses, interfaces, mounts,
// cgroups and shims.
func (w *world) disagreement(rt cri.RuntimeServiceClient) error {
	ctx := w.t.Context()
	pods, err := w.client().CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	boxes, err := rt.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return err
	}
	list, err := rt.ListContainers(ctx, &cri.ListContainersRequest{})
	if err != nil {
		return err
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	ofPod := map[string]int{} // ready sandboxes by UID
	living := map[string]bool{}
	for _, b := range boxes.Items {
		living[b.Id] = true
		if b.State == cri.PodSandboxState_SANDBOX_READY {
			ofPod[b.Metadata.Uid]++
		}
	}
	running := map[string][]string{} // running containers by UID and name
	for _, c := range list.Containers {
		if !living[c.PodSandboxId] {
			bad("container %s has no sandbox", c.Id)
		}
		if c.State == cri.ContainerState_CONTAINER_RUNNING {
			key := c.Labels["io.kubernetes.pod.uid"] + "/" + c.Metadata.Name
			running[key] = append(running[key], c.Id)
		}
	}
	known := map[string]bool{}
	ready, connected := 0, 0
	for _, p := range pods.Items {
		uid := string(p.UID)
		known[uid] = true
		if p.DeletionTimestamp != nil {
			bad("%s is still being deleted", p.Name)
			continue
		}
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		if p.Status.Phase != corev1.PodRunning {
			bad("%s is %s: %v", p.Name, p.Status.Phase, p.Status.ContainerStatuses)
			continue
		}
		ready++
		if !p.Spec.HostNetwork {
			connected++
		}
		if ofPod[uid] != 1 {
			bad("%s has %d sandboxes", p.Name, ofPod[uid])
		}
		for _, c := range p.Status.ContainerStatuses {
			ids := running[uid+"/"+c.Name]
			if c.State.Running == nil {
				bad("container %s of %s does not run: %v", c.Name, p.Name, c.State)
			} else if len(ids) != 1 || "containerd://"+ids[0] != c.ContainerID {
				bad("container %s of %s is %s to the API, %v to the runtime", c.Name, p.Name, c.ContainerID, ids)
			}
		}
	}
	for _, b := range boxes.Items {
		if !known[b.Metadata.Uid] {
			bad("sandbox %s of %s/%s belongs to no pod", b.Id, b.Metadata.Namespace, b.Metadata.Name)
		}
	}
	leases, _ := filepath.Glob(filepath.Join(w.dir, "cni/leases/*/*"))
	held := 0
	for _, f := range leases {
		if _, err := netip.ParseAddr(filepath.Base(f)); err != nil {
			continue
		}
		held++
		text, _ := os.ReadFile(f)
		if id, _, _ := strings.Cut(string(text), "\n"); !living[strings.TrimSpace(id)] {
			bad("address %s is held by %s, which is gone", filepath.Base(f), id)
		}
	}
	if held != connected {
		bad("%d addresses are held by %d pods", held, connected)
	}
	if n := ports("troupe0"); n != connected {
		bad("%d interfaces on the bridge for %d pods", n, connected)
	}
	if spaces, _ := filepath.Glob("/run/troupe/*/state/*/netns/*"); len(spaces) != connected {
		bad("%d network namespaces for %d pods", len(spaces), connected)
	}
	shims := 0
	for _, p := range processes(w.t) {
		if strings.HasSuffix(p.args[0], "containerd-shim-runc-v2") {
			shims++
		}
	}
	if shims != ready {
		bad("%d shims for %d pods", shims, ready)
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(filepath.Join(w.dir, "pods")))
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if !belongs(m.Mountpoint, known) {
			bad("mount %s belongs to no pod", m.Mountpoint)
		}
	}
	own := filepath.Base(w.runDir())
	for _, pattern := range []string{"/sys/fs/cgroup/*/troupe/" + own + "/pod*", "/sys/fs/cgroup/troupe/" + own + "/pod*", w.dir + "/pods/*"} {
		groups, _ := filepath.Glob(pattern)
		for _, g := range groups {
			if !belongs(g, known) {
				bad("%s belongs to no pod", g)
			}
		}
	}
	return errors.Join(errs...)
}

// belongs says whether a path names one of the pods.
func belongs(path string, pods map[string]bool) bool {
	for uid := range pods {
		if strings.Contains(path, uid) {
			return true
		}
	}
	return false
}

// ports counts the interfaces of a bridge.
func ports(bridge string) int {
	b, err := netlink.LinkByName(bridge)
	if err != nil {
		return 0
	}
	links, err := netlink.LinkList()
	if err != nil {
		return 0
	}
	n := 0
	for _, l := range links {
		if l.Attrs().MasterIndex == b.Attrs().Index {
			n++
		}
	}
	return n
}

// answering says which of the URLs does not give the example's answer.
func answering(urls ...string) error {
	c := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, u := range urls {
		resp, err := c.Get(u)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return err
		}
		if !strings.HasPrefix(string(body), "Hello from troupe\n") {
			return fmt.Errorf("%s answers %q", u, body)
		}
	}
	return nil
}
