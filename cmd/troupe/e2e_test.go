package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/vishvananda/netlink"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/troupe-run/troupe/node/host"
	"github.com/troupe-run/troupe/proxy/netlab"
	"github.com/troupe-run/troupe/testkit/example"
	"github.com/troupe-run/troupe/testkit/image"
)

// toolImage holds testdata/tool.
const toolImage = "troupe.test/tool:1"

// world is a machine on which troupe runs on one data folder.
type world struct {
	t    testing.TB
	dir  string
	proc *exec.Cmd
	done chan struct{} // closed when proc has ended
	out  *output
}

// output keeps what a program prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// newWorld makes an empty machine and, at the end of the test, makes sure that troupe reset leaves
// it as it was.
func newWorld(t testing.TB) *world {
	t.Helper()
	if os.Getenv(partVar) != partTests {
		t.Skip("no real containers here: needs root")
	}
	w := &world{t: t, dir: t.TempDir()}
	if err := host.Preflight(host.Config{DataDir: w.dir, BinDir: binDir, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Skipf("no real containers here: %v", err)
	}
	netlab.Alone(t)
	before := traces(t, w.dir)
	t.Cleanup(func() {
		w.kill()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(w.dir, "containerd/containerd.log"))
			t.Logf("troupe said:\n%s\ncontainerd said:\n%s", tail(w.output()), tail(string(log)))
		}
		if _, err := os.Stat(filepath.Join(w.dir, "version")); err == nil {
			w.must("reset", "--yes", "--data-dir", w.dir)
		}
		if _, err := os.Stat(w.dir); err == nil {
			t.Errorf("the data folder is left")
		}
		if left := added(before, traces(t, w.dir)); len(left) > 0 {
			t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
		}
	})
	return w
}

func tail(s string) string { return s[max(len(s)-6000, 0):] }

func (w *world) output() string {
	if w.out == nil {
		return ""
	}
	return w.out.String()
}

// result is how a command ended.
type result struct {
	out, err string
	code     int
}

// command makes a call of the program under test.
func command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(binDir, "troupe"), args...)
	cmd.Env = append(os.Environ(), partVar+"="+partTroupe, "HOME=/nonexistent")
	return cmd
}

// troupe runs a command to its end, which must come within a minute.
func (w *world) troupe(stdin io.Reader, args ...string) result {
	cmd := command(args...)
	cmd.Env = append(cmd.Env, "TROUPE_DATA_DIR="+w.dir, "KUBECONFIG="+filepath.Join(w.dir, "kubeconfig"))
	cmd.Stdin = stdin
	return finish(w.t, cmd)
}

func finish(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// must runs a command that has to succeed and returns what it printed.
func (w *world) must(args ...string) string {
	w.t.Helper()
	r := w.troupe(nil, args...)
	if r.code != 0 {
		w.t.Fatalf("troupe %s: code %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

func (w *world) kubectl(args ...string) string {
	w.t.Helper()
	return w.must(append([]string{"kubectl"}, args...)...)
}

// apply gives YAML to kubectl.
func (w *world) apply(yaml string) {
	w.t.Helper()
	if r := w.troupe(strings.NewReader(yaml), "kubectl", "apply", "-f", "-"); r.code != 0 {
		w.t.Fatalf("apply: %s\n%s", r.err, yaml)
	}
}

// start starts troupe up and returns at once.
func (w *world) start(args ...string) {
	w.t.Helper()
	w.proc = command(append([]string{"up", "--data-dir", w.dir, "--node-name", "n1"}, args...)...)
	w.out = &output{}
	w.proc.Stdout, w.proc.Stderr = w.out, w.out
	if err := w.proc.Start(); err != nil {
		w.t.Fatal(err)
	}
	done := make(chan struct{})
	w.done = done
	go func(p *exec.Cmd) {
		_ = p.Wait()
		close(done)
	}(w.proc)
}

// up starts troupe and waits until it says that it is ready.
func (w *world) up(args ...string) {
	w.t.Helper()
	w.start(args...)
	within(w.t, 30*time.Second, "troupe up is ready", func() error {
		select {
		case <-w.done:
			w.t.Fatalf("troupe up ended, %s:\n%s", w.proc.ProcessState, w.out)
		default:
		}
		if !strings.Contains(w.out.String(), "\nready in ") {
			return errors.New("not yet:\n" + w.out.String())
		}
		return nil
	})
}

// stop ends troupe as an operator does: the pods go on.
func (w *world) stop() {
	w.t.Helper()
	_ = w.proc.Process.Signal(syscall.SIGTERM)
	w.await()
	if code := w.proc.ProcessState.ExitCode(); code != 0 {
		w.t.Errorf("troupe up ended with code %d:\n%s", code, w.out)
	}
}

// kill ends troupe as a crash does.
func (w *world) kill() {
	if w.proc != nil {
		_ = w.proc.Process.Kill()
		w.await()
	}
}

func (w *world) await() {
	w.t.Helper()
	select {
	case <-w.done:
	case <-time.After(40 * time.Second):
		w.t.Fatalf("troupe up does not end:\n%s", w.out)
	}
}

// client is a client of the cluster's API with all rights.
func (w *world) client() *kubernetes.Clientset {
	w.t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", filepath.Join(w.dir, "kubeconfig"))
	if err != nil {
		w.t.Fatal(err)
	}
	cfg.QPS = -1
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// runDir is where the cluster's containerd has its socket; cgroups are named like it.
func (w *world) runDir() string {
	w.t.Helper()
	found, err := filepath.Glob("/run/troupe/*")
	if err != nil || len(found) != 1 {
		w.t.Fatalf("folders of running clusters: %v %v", found, err)
	}
	return found[0]
}

// runtime speaks CRI to the cluster's containerd.
func (w *world) runtime() cri.RuntimeServiceClient {
	w.t.Helper()
	conn, err := grpc.NewClient("unix://"+filepath.Join(w.runDir(), "containerd.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	return cri.NewRuntimeServiceClient(conn)
}

// archives are the images that tests import, built once.
var archives = sync.OnceValues(func() (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, cfg := range []image.Config{
		{Name: toolImage, Program: "./testdata/tool"},
		example.Image("."),
	} {
		var b bytes.Buffer
		if _, err := image.Build(context.Background(), cfg, &b); err != nil {
			return nil, err
		}
		out[cfg.Name] = b.Bytes()
	}
	return out, nil
})

// load imports an image.
func (w *world) load(name string) {
	w.t.Helper()
	all, err := archives()
	if err != nil {
		w.t.Fatal(err)
	}
	r := w.troupe(bytes.NewReader(all[name]), "image", "import", "-")
	if r.code != 0 || !strings.HasPrefix(r.out, "imported ") {
		w.t.Fatalf("import %s: %+v", name, r)
	}
}

// within tries a check until it holds; time runs out with the check's last complaint.
func within(t testing.TB, d time.Duration, what string, check func() error) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(d)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within %s: %s: %v", d, what, err)
		}
	}
}

// traces lists what troupe and containers can leave on this machine.
func traces(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	add := func(kind string, list ...string) {
		for _, s := range list {
			out = append(out, kind+" "+s)
		}
	}
	for _, p := range processes(t) {
		add("process", p.name+" "+strconv.Itoa(p.pid))
	}
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		add("mount", m.Mountpoint)
	}
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		add("interface", l.Attrs().Name)
	}
	for _, save := range []string{"iptables-save", "ip6tables-save"} {
		rules, err := exec.Command(save).Output()
		if err != nil {
			continue // no IPv6 here
		}
		for line := range strings.Lines(string(rules)) {
			builtIn := strings.HasPrefix(line, ":") && !strings.Contains(line, " - ")
			if !builtIn && strings.ContainsAny(line[:1], "-:") {
				add(save, strings.TrimSpace(line))
			}
		}
	}
	for _, pattern := range []string{"/run/netns/*", "/run/troupe", "/run/containerd", "/var/lib/cni/*", "/sys/fs/cgroup/troupe", "/sys/fs/cgroup/*/troupe"} {
		list, _ := filepath.Glob(pattern)
		add("file", list...)
	}
	slices.Sort(out)
	return out
}

// added returns what is in after only.
func added(before, after []string) []string {
	return slices.DeleteFunc(after, func(s string) bool { return slices.Contains(before, s) })
}

type process struct {
	pid, parent int
	name        string
	args        []string
}

// processes lists those of this machine, but for the tests' own.
func processes(t testing.TB) []process {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var out []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == 1 || pid == os.Getpid() {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has ended meanwhile
		}
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		begin, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
		fields := strings.Fields(string(stat[end+1:]))
		if fields[0] == "Z" {
			continue // waits for its parent
		}
		parent, _ := strconv.Atoi(fields[1])
		out = append(out, process{pid, parent, string(stat[begin+1 : end]), strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")})
	}
	return out
}
