package host_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/node/host"
)

// cgroup is the parent of the tests' pods, removed with them.
const cgroup = "/troupe-test-host"

// binDir is where make tools puts what a host runs.
func binDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func config(t *testing.T) host.Config {
	t.Helper()
	run, err := os.MkdirTemp("/run", "troupe-test-")
	if err != nil {
		t.Skipf("no real containers here: %v", err)
	}
	cfg := host.Config{DataDir: t.TempDir(), RunDir: run, BinDir: binDir(t), Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if err := host.Preflight(cfg); err != nil {
		t.Skipf("no real containers here: %v", err)
	}
	t.Cleanup(func() {
		if err := host.Down(context.Background(), cfg); err != nil {
			t.Errorf("down: %v", err)
		}
		for _, pattern := range []string{"/sys/fs/cgroup/*", "/sys/fs/cgroup"} {
			dirs, _ := filepath.Glob(pattern + cgroup)
			for _, dir := range dirs {
				_ = os.Remove(dir)
			}
		}
		left, err := mountinfo.GetMounts(mountinfo.PrefixFilter(cfg.DataDir))
		if err != nil || len(left) > 0 {
			t.Errorf("mounts left: %v, %v", left, err)
		}
	})
	return cfg
}

func start(t *testing.T, cfg host.Config) *host.Host {
	t.Helper()
	begin := time.Now()
	h, err := host.Start(t.Context(), cfg)
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(cfg.DataDir, "containerd/containerd.log"))
		t.Fatalf("start: %v\n%s", err, log)
	}
	t.Logf("start took %s", time.Since(begin))
	return h
}

// sandbox runs a pod on the host's network, which needs no CNI configuration.
func sandbox(t *testing.T, h *host.Host, name string) string {
	t.Helper()
	got, err := runtimeapi.NewRuntimeServiceClient(h.Conn()).RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{
		Config: &runtimeapi.PodSandboxConfig{
			Metadata:     &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: name},
			LogDirectory: t.TempDir(),
			Linux: &runtimeapi.LinuxPodSandboxConfig{CgroupParent: cgroup, SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{Network: runtimeapi.NamespaceMode_NODE}}},
		}})
	if err != nil {
		t.Fatalf("run sandbox: %v", err)
	}
	return got.PodSandboxId
}

func ready(t *testing.T, h *host.Host, id string) bool {
	t.Helper()
	s, err := runtimeapi.NewRuntimeServiceClient(h.Conn()).PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil {
		t.Fatalf("status of sandbox: %v", err)
	}
	return s.Status.State == runtimeapi.PodSandboxState_SANDBOX_READY
}

// naming lists the processes that have text in their command line.
func naming(text string) []int {
	var out []int
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range lines {
		line, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(line), text) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// pid is the process of containerd, 0 when there is none.
func pid(cfg host.Config) int {
	if all := naming(cfg.DataDir + "/containerd/config.toml"); len(all) > 0 {
		return all[0]
	}
	return 0
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(20 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestPodsOutliveEveryRestart(t *testing.T) {
	cfg := config(t)
	first := start(t, cfg)
	id := sandbox(t, first, "a")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	before := pid(cfg)

	// A visitor, even one whose own settings differ, disturbs nothing.
	visit := cfg
	visit.BinDir = t.TempDir()
	v, err := host.Connect(t.Context(), visit)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	if !ready(t, v, id) {
		t.Error("a visitor does not see the pod")
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}

	adopted := start(t, cfg)
	if now := pid(cfg); now != before {
		t.Errorf("containerd is process %d, want the adopted %d", now, before)
	}
	if !ready(t, adopted, id) {
		t.Error("the pod did not survive adoption")
	}

	// A containerd that dies comes back by itself, and its pods never noticed.
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- adopted.Run(ctx) }()
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "containerd to come back", func() bool {
		now := pid(cfg)
		return now != 0 && now != before && adopted.Healthy() == nil
	})
	if !ready(t, adopted, id) {
		t.Error("the pod did not survive the death of containerd")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	if err := adopted.Close(); err != nil {
		t.Error(err)
	}

	// Even with containerd killed and nobody watching, Down finds and removes the pod.
	if err := syscall.Kill(pid(cfg), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := host.Down(t.Context(), cfg); err != nil {
		t.Fatalf("down: %v", err)
	}
	if left := append(naming(cfg.DataDir), naming(cfg.RunDir)...); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
	if err := host.Down(t.Context(), cfg); err != nil {
		t.Errorf("down again: %v", err)
	}
	if _, err := host.Connect(t.Context(), cfg); !errors.Is(err, messages.ErrUnavailable) {
		t.Errorf("connect after down: %v", err)
	}
}

func TestPreflightSaysHowToMend(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("all else is checked as root only")
	}
	t.Setenv("PATH", "")
	cfg := host.Config{DataDir: t.TempDir(), BinDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
	err := host.Preflight(cfg)
	if err == nil || !strings.Contains(err.Error(), "containerd is missing in "+cfg.BinDir+": run make tools") {
		t.Errorf("preflight without programs: %v", err)
	}
	cfg.Address = "unix:///no/such.sock"
	if err := host.Preflight(cfg); err == nil || !strings.Contains(err.Error(), "no containerd at /no/such.sock") {
		t.Errorf("preflight without a running containerd: %v", err)
	}
	if err := (host.Config{DataDir: "relative", RunDir: strings.Repeat("x", 60)}).Check(); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("check does not name every fault: %v", err)
	}
}

// Another containerd is used as it is, and left as it is.
func TestForeignContainerdIsOnlyUsed(t *testing.T) {
	cfg := config(t)
	own := start(t, cfg)
	id := sandbox(t, own, "a")
	before := pid(cfg)

	guest := host.Config{DataDir: t.TempDir(), BinDir: cfg.BinDir, Address: "unix://" + own.Socket(), Log: cfg.Log}
	h := start(t, guest)
	if got, want := h.CNIConfDir(), own.CNIConfDir(); got != want {
		t.Errorf("CNI configuration is looked for in %s, want %s", got, want)
	}
	if !ready(t, h, id) || h.Healthy() != nil {
		t.Errorf("the foreign containerd does not serve: %v", h.Healthy())
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if err := host.Down(t.Context(), guest); err != nil {
		t.Error(err)
	}
	if pid(cfg) != before || !ready(t, own, id) {
		t.Error("the foreign containerd was touched")
	}
	if err := own.Close(); err != nil {
		t.Error(err)
	}
}

// Where containerd cannot be started any more, Down still leaves nothing running or mounted.
func TestDownByForce(t *testing.T) {
	cfg := config(t)
	if _, err := os.Stat("/run/containerd"); err == nil {
		t.Skip("another containerd has run here")
	}
	h := start(t, cfg)
	sandbox(t, h, "a")
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid(cfg), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// As a shim leaves it that cleans up after a start that was cut short.
	if err := os.MkdirAll("/run/containerd/runc/k8s.io", 0o711); err != nil {
		t.Fatal(err)
	}
	broken := cfg
	broken.BinDir = t.TempDir()
	if err := host.Down(t.Context(), broken); err != nil {
		t.Errorf("down: %v", err)
	}
	if left := naming(cfg.RunDir); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
	for _, dir := range []string{cfg.RunDir, "/run/containerd"} {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is left", dir)
		}
	}
}

// A containerd that dies while it makes a sandbox may leave a network namespace that nobody knows.
func TestNetworkNamespaceOfNobodyGoes(t *testing.T) {
	cfg := config(t)
	h := start(t, cfg)
	dir := filepath.Join(cfg.RunDir, "state/io.containerd.grpc.v1.cri/netns")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "cni-test")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("/proc/self/ns/net", file, "none", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := h.SweepOrphans(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("one that may be in the making is gone: %v", err)
	}
	if err := h.SweepOrphans(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("it is left")
	}
	if left, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir)); err != nil || len(left) > 0 {
		t.Errorf("mounts left: %v, %v", left, err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}
