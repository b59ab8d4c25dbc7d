package example_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	nodeimage "github.com/troupe-run/troupe/node/image"

	"github.com/troupe-run/troupe/node/host"
	"github.com/troupe-run/troupe/node/network"
	"github.com/troupe-run/troupe/testkit/example"
	"github.com/troupe-run/troupe/testkit/image"
)

// machine is a host with a pod network, all in a network namespace of its own: containerd, its
// plugins and the pods are children of the test's thread and live there too.
func machine(t testing.TB) *host.Host {
	t.Helper()
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	cfg := host.Config{DataDir: data, BinDir: bin, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if err := host.Preflight(cfg); err != nil {
		t.Skipf("no real containers here: %v", err)
	}
	if cfg.RunDir, err = os.MkdirTemp("/run", "troupe-test-"); err != nil {
		t.Fatal(err)
	}
	isolate(t)
	pods := network.Config{DataDir: data, BinDir: bin, CacheDir: filepath.Join(data, "cni/cache"), Bridge: "trexample0",
		PodCIDR: netip.MustParsePrefix("10.247.0.0/24"), Log: cfg.Log}
	t.Cleanup(func() {
		if err := host.Down(context.Background(), cfg); err != nil {
			t.Errorf("down: %v", err)
		}
		removeCgroups("troupe-test-example")
		// containerd keeps its CNI results in the one place of the machine.
		pods.CacheDir = ""
		if err := network.Remove(context.Background(), pods); err != nil {
			t.Errorf("remove network: %v", err)
		}
		if left, err := mountinfo.GetMounts(mountinfo.PrefixFilter(data)); err != nil || len(left) > 0 {
			t.Errorf("mounts left: %v, %v", left, err)
		}
	})
	if _, err := network.Setup(t.Context(), pods); err != nil {
		t.Fatal(err)
	}
	h, err := host.Start(t.Context(), cfg)
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(data, "containerd/containerd.log"))
		t.Fatalf("start: %v\n%s", err, log)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func isolate(t testing.TB) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	own, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Set(home); err != nil {
			t.Error(err)
		}
		own.Close()
		home.Close()
	})
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestTheApplicationRunsInContainers takes the bare way through CRI that the node agent takes.
func TestTheApplicationRunsInContainers(t *testing.T) {
	h := machine(t)
	if got := load(t, h); len(got) != 1 || got[0].Name != "docker.io/example/web:v1" {
		t.Errorf("imported %+v", got)
	}
	all, err := nodeimage.List(t.Context(), h.Client())
	if err != nil || len(all) != 2 || all[0].Name != "docker.io/example/web:v1" || !all[1].Pinned {
		t.Errorf("images are %+v, %v", all, err)
	}

	cri := runtimeapi.NewRuntimeServiceClient(h.Conn())
	begin := time.Now()
	sandbox := &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: "web", Namespace: "example", Uid: "u"},
		Hostname:     "web-0",
		LogDirectory: t.TempDir(),
		PortMappings: []*runtimeapi.PortMapping{{ContainerPort: 8080, HostPort: 8099}},
		Linux:        &runtimeapi.LinuxPodSandboxConfig{CgroupParent: "/troupe-test-example"},
	}
	pod, err := cri.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: sandbox})
	if err != nil {
		t.Fatal(err)
	}
	ran := time.Since(begin)
	id := startWeb(t, cri, pod.PodSandboxId, sandbox)
	t.Logf("sandbox %s, container %s", ran, time.Since(begin)-ran)

	status, err := cri.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod.PodSandboxId})
	if err != nil {
		t.Fatal(err)
	}
	if ip := status.Status.Network.GetIp(); ip != "10.247.0.2" {
		t.Errorf("the pod's address is %s", ip)
	}
	for _, address := range []string{"10.247.0.2:8080", "10.247.0.1:8099"} {
		if text := ask(t, address); !strings.Contains(text, "pod:      web-0") || !strings.HasPrefix(text, "hi\n") {
			t.Errorf("%s answers %q", address, text)
		}
	}
	// From inside, through its own host port: forwarding, host ports and hairpin together.
	out, err := cri.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"/web", "get", "http://10.247.0.1:8099/readyz"}, Timeout: 10})
	if err != nil || out.ExitCode != 0 || string(out.Stdout) != "ready\n" {
		t.Errorf("asked from inside: %v, %v", out, err)
	}
}

// load imports the application's image.
func load(t testing.TB, h *host.Host) []nodeimage.Imported {
	t.Helper()
	var archive bytes.Buffer
	if _, err := image.Build(t.Context(), example.Image("."), &archive); err != nil {
		t.Fatal(err)
	}
	got, err := nodeimage.Import(t.Context(), h.Client(), &archive, nodeimage.ImportOptions{Snapshotter: h.Snapshotter()})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// startWeb runs the application's container in a sandbox.
func startWeb(t testing.TB, cri runtimeapi.RuntimeServiceClient, sandbox string, config *runtimeapi.PodSandboxConfig) string {
	t.Helper()
	c, err := cri.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: sandbox, SandboxConfig: config,
		Config: &runtimeapi.ContainerConfig{
			Metadata: &runtimeapi.ContainerMetadata{Name: "web"},
			Image:    &runtimeapi.ImageSpec{Image: example.ImageName},
			Envs:     []*runtimeapi.KeyValue{{Key: "GREETING", Value: []byte("hi")}},
			LogPath:  "web.log",
		}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cri.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: c.ContainerId}); err != nil {
		t.Fatal(err)
	}
	return c.ContainerId
}

// BenchmarkBareCRI is the yardstick for the node agent: what a pod costs with nobody between.
func BenchmarkBareCRI(b *testing.B) {
	h := machine(b)
	load(b, h)
	cri := runtimeapi.NewRuntimeServiceClient(h.Conn())
	logs := b.TempDir()
	for i := 0; b.Loop(); i++ {
		sandbox := &runtimeapi.PodSandboxConfig{
			Metadata:     &runtimeapi.PodSandboxMetadata{Name: fmt.Sprint("web-", i), Namespace: "example", Uid: fmt.Sprint(i)},
			LogDirectory: filepath.Join(logs, fmt.Sprint(i)),
			Linux:        &runtimeapi.LinuxPodSandboxConfig{CgroupParent: "/troupe-test-example"},
		}
		pod, err := cri.RunPodSandbox(b.Context(), &runtimeapi.RunPodSandboxRequest{Config: sandbox})
		if err != nil {
			b.Fatal(err)
		}
		startWeb(b, cri, pod.PodSandboxId, sandbox)
	}
}

// ask sends a request by hand: a client would open its connection on another thread, and so in
// another network namespace.
func ask(t *testing.T, address string) string {
	t.Helper()
	var conn net.Conn
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if conn, err = net.DialTimeout("tcp4", address, time.Second); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	req, err := http.NewRequest(http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// removeCgroups removes the empty folders a cgroup parent leaves in every hierarchy.
func removeCgroups(name string) {
	for _, pattern := range []string{"/sys/fs/cgroup/*/" + name, "/sys/fs/cgroup/" + name} {
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			_ = os.Remove(dir)
		}
	}
}
