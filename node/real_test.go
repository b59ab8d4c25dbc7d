package node

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/uuid"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/node/host"
	"github.com/troupe-run/troupe/node/image"
	"github.com/troupe-run/troupe/node/link"
	"github.com/troupe-run/troupe/node/network"
	"github.com/troupe-run/troupe/node/pod"
	"github.com/troupe-run/troupe/node/probe"
	"github.com/troupe-run/troupe/node/runtime"
	"github.com/troupe-run/troupe/node/volume"
	"github.com/troupe-run/troupe/proxy/netlab"
)

const workerImage = "troupe.test/worker:1"

// machineUnderTest is a real containerd with a real network, and pods on it that a test commands in
// the control plane's place.
type machineUnderTest struct {
	t     testing.TB
	host  *host.Host
	rt    *runtime.CRI
	cfg   pod.Config
	pods  *pod.Pods
	stage *stage.System
	bare  string // cgroup of pods made by hand

	mu      sync.Mutex
	events  []string
	reports map[types.UID][]link.PodReport
	changed chan struct{}
	configs map[string]*corev1.ConfigMap
}

func (m *machineUnderTest) ConfigMap(ns, name string) (*corev1.ConfigMap, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.configs[ns+"/"+name]
	return c, ok
}
func (m *machineUnderTest) Secret(string, string) (*corev1.Secret, bool) { return nil, false }
func (m *machineUnderTest) Token(context.Context, *corev1.Pod, string, time.Duration) (string, time.Time, error) {
	return "token", time.Now().Add(time.Hour), nil
}
func (m *machineUnderTest) Record(e link.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, e.Pod.Name+" "+e.Reason+": "+e.Message)
}
func (m *machineUnderTest) ReportPod(r link.PodReport) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reports[r.UID] = append(m.reports[r.UID], r)
	close(m.changed)
	m.changed = make(chan struct{})
}

// await waits until a report of the pod satisfies ok, and returns it.
func (m *machineUnderTest) await(p *corev1.Pod, what string, ok func(link.PodReport) bool) link.PodReport {
	m.t.Helper()
	limit := time.After(30 * time.Second)
	for {
		m.mu.Lock()
		list, changed := m.reports[p.UID], m.changed
		m.mu.Unlock()
		if len(list) > 0 && ok(list[len(list)-1]) {
			return list[len(list)-1]
		}
		select {
		case <-changed:
		case <-limit:
			m.mu.Lock()
			defer m.mu.Unlock()
			last := "none"
			if len(list) > 0 {
				last = fmt.Sprintf("%+v", list[len(list)-1].Status)
			}
			m.t.Fatalf("%s: not %s; last report: %s\nevents:\n%s", p.Name, what, last, strings.Join(m.events, "\n"))
		}
	}
}

func newMachine(t testing.TB) *machineUnderTest {
	t.Helper()
	bin, err := filepath.Abs("../bin")
	if err != nil {
		t.Fatal(err)
	}
	run, err := os.MkdirTemp("/run", "troupe-node-")
	if err != nil {
		t.Skipf("no real containers here: %v", err)
	}
	level := slog.LevelWarn
	if testing.Verbose() {
		level = slog.LevelInfo
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level}))
	data := t.TempDir()
	hc := host.Config{DataDir: data, RunDir: run, BinDir: bin, Log: log}
	if err := host.Preflight(hc); err != nil {
		t.Skipf("no real containers here: %v", err)
	}
	netlab.Alone(t)
	ctx := context.Background()
	h, err := host.Start(ctx, hc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Down(ctx, hc); err != nil {
			t.Errorf("down: %v", err)
		}
		if err := removeCgroups(data); err != nil {
			t.Errorf("cgroups left: %v", err)
		}
	})
	nc := network.Config{DataDir: data, BinDir: bin, Bridge: "trpnodetest", PodCIDR: netip.MustParsePrefix("10.213.7.0/24"), Log: log}
	if _, err := network.Setup(ctx, nc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.Remove(ctx, nc); err != nil {
			t.Errorf("remove network: %v", err)
		}
	})
	m := &machineUnderTest{t: t, host: h, bare: cgroupRoot(data) + "/bare", reports: map[types.UID][]link.PodReport{}, changed: make(chan struct{}), configs: map[string]*corev1.ConfigMap{}}
	if m.rt, err = runtime.DialCRI(h.Socket()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.rt.Close() })
	m.importWorker()
	manager, err := volume.NewManager(volume.Config{Dir: filepath.Join(data, "pods"), Objects: m, Tokens: m, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	puller, err := image.NewPuller(image.PullerConfig{Service: m.rt, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	m.cfg = pod.Config{
		Node: "n1", Runtime: m.rt, Control: m, Prober: probe.New(m.rt), Images: images{puller, m.Record}, Volumes: newVolumes(manager),
		Facts: func() pod.Facts {
			return pod.Facts{HostIPs: []string{"192.0.2.1"}, Cluster: link.Cluster{DNS: "10.96.0.10", Domain: "cluster.local"}}
		},
		Cgroups: newCgroups(data), LogRoot: filepath.Join(data, "logs"), MinOOMScore: lowestOOMScore(), Parallel: parallelStarts, Log: log,
	}
	m.start()
	t.Cleanup(func() { m.stop() })
	return m
}

func (m *machineUnderTest) start() {
	m.stage = stage.New(stage.Config{Log: m.cfg.Log})
	m.cfg.Stage = m.stage
	var err error
	if m.pods, err = pod.Start(m.cfg); err != nil {
		m.t.Fatal(err)
	}
}

// stop ends the actors only, as a crash does.
func (m *machineUnderTest) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := m.stage.Shutdown(ctx); err != nil {
		m.t.Error(err)
	}
}

// importWorker builds the image all pods of the tests run.
func (m *machineUnderTest) importWorker() {
	m.t.Helper()
	file := filepath.Join(m.t.TempDir(), "worker")
	build := exec.Command("go", "build", "-trimpath", "-o", file, "./testdata/worker")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		m.t.Fatalf("build worker: %v\n%s", err, out)
	}
	program, err := os.ReadFile(file)
	if err != nil {
		m.t.Fatal(err)
	}
	var archive bytes.Buffer
	recipe := image.Recipe{
		Name:   workerImage,
		Files:  []image.File{{Path: "/worker", Mode: 0o755, Content: program}, {Path: "/dev", Mode: os.ModeDir | 0o755}},
		Config: ocispec.ImageConfig{Entrypoint: []string{"/worker"}},
	}
	if _, err := recipe.Write(&archive); err != nil {
		m.t.Fatal(err)
	}
	if _, err := image.Import(context.Background(), m.host.Client(), &archive, image.ImportOptions{Snapshotter: m.host.Snapshotter()}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machineUnderTest) pod(name string, args []string, edit ...func(*corev1.Pod)) *corev1.Pod {
	grace := int64(10)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: uuid.NewUUID()},
		Spec: corev1.PodSpec{
			NodeName: "n1", RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: &grace, DNSPolicy: corev1.DNSClusterFirst,
			Containers: []corev1.Container{{Name: "main", Image: workerImage, ImagePullPolicy: corev1.PullIfNotPresent, Args: args}},
		},
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func (m *machineUnderTest) run(p *corev1.Pod) { m.pods.Deliver(link.Wanted{Pod: p}) }

// remove deletes a pod and waits until nothing of it is left.
func (m *machineUnderTest) remove(p *corev1.Pod) link.PodReport {
	m.t.Helper()
	gone := p.DeepCopy()
	now := metav1.Now()
	gone.DeletionTimestamp, gone.DeletionGracePeriodSeconds = &now, p.Spec.TerminationGracePeriodSeconds
	m.pods.Deliver(link.Wanted{Pod: gone})
	r := m.await(p, "finished", func(r link.PodReport) bool { return r.Finished })
	boxes, err := m.rt.ListPodSandbox(context.Background(), &cri.PodSandboxFilter{LabelSelector: map[string]string{"io.kubernetes.pod.uid": string(p.UID)}})
	if err != nil || len(boxes) > 0 {
		m.t.Errorf("%s: sandboxes left: %v %v", p.Name, boxes, err)
	}
	for _, pattern := range []string{"/sys/fs/cgroup/*", "/sys/fs/cgroup"} {
		if left, _ := filepath.Glob(pattern + cgroupTop + "/*/*" + string(p.UID)); len(left) > 0 {
			m.t.Errorf("%s: cgroups left: %v", p.Name, left)
		}
	}
	return r
}

func running(r link.PodReport) bool { return r.Status.Phase == corev1.PodRunning }
func ready(r link.PodReport) bool {
	return slices.ContainsFunc(r.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// log returns what the pod's container printed.
func (m *machineUnderTest) log(p *corev1.Pod) string {
	m.t.Helper()
	v, ok := m.pods.Find(p.Namespace, p.Name)
	if !ok || len(v.Runs) == 0 {
		m.t.Fatalf("%s has no containers", p.Name)
	}
	var b []byte
	var err error
	for range 50 { // the runtime copies the output on its own time
		if b, err = os.ReadFile(v.Runs[0].LogPath); err == nil && len(b) > 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return string(b)
}

func TestRealPods(t *testing.T) {
	m := newMachine(t)
	t.Run("Runs", func(t *testing.T) {
		p := m.pod("runs", []string{"serve"}, func(p *corev1.Pod) {
			p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(8080)}}, PeriodSeconds: 1, FailureThreshold: 3}
			p.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/worker", "true"}}}, PeriodSeconds: 1, FailureThreshold: 3}
		})
		m.run(p)
		r := m.await(p, "ready", ready)
		if c := r.Status.ContainerStatuses[0]; !strings.HasPrefix(c.ContainerID, "containerd://") || c.RestartCount != 0 || c.Image != workerImage || !strings.Contains(c.ImageID, "sha256:") {
			t.Errorf("container status = %+v", c)
		}
		if got := m.log(p); !strings.Contains(got, "serving") {
			t.Errorf("log = %q", got)
		}
		if r := m.remove(p); r.Status.Phase != corev1.PodSucceeded {
			t.Errorf("phase after deletion = %s", r.Status.Phase)
		}
	})
	t.Run("SeesItsConfiguration", func(t *testing.T) {
		p := m.pod("config", []string{"cat", "/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/config/key"}, func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "app"}}}}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "config", MountPath: "/config"}}
		})
		m.run(p)
		time.Sleep(300 * time.Millisecond)
		m.mu.Lock()
		m.configs["default/app"] = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "app"}, Data: map[string]string{"key": "hello"}}
		m.mu.Unlock()
		m.pods.Deliver(link.ObjectChanged{Kind: "ConfigMap", Namespace: "default", Name: "app"})
		r := m.await(p, "running", running)
		got := m.log(p)
		for _, want := range []string{"nameserver 10.96.0.10", "search default.svc.cluster.local svc.cluster.local cluster.local", "options ndots:5",
			r.Status.PodIP + "\tconfig", "hello"} {
			if !strings.Contains(got, want) {
				t.Errorf("%q is not in\n%s", want, got)
			}
		}
		m.remove(p)
	})
	t.Run("Crashes", func(t *testing.T) {
		p := m.pod("crashes", []string{"exit", "3", "sorry"})
		m.run(p)
		r := m.await(p, "in back-off", func(r link.PodReport) bool {
			c := r.Status.ContainerStatuses[0]
			return c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff"
		})
		c := r.Status.ContainerStatuses[0]
		if last := c.LastTerminationState.Terminated; c.RestartCount != 1 || last == nil || last.ExitCode != 3 || last.Message != "sorry" || last.Reason != "Error" {
			t.Errorf("status = %+v, last %+v", c, last)
		}
		m.remove(p)
	})
	t.Run("IsKilledAfterItsGrace", func(t *testing.T) {
		grace := int64(1)
		p := m.pod("deaf", []string{"deaf"}, func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = &grace })
		m.run(p)
		m.await(p, "running", running)
		if got := m.log(p); !strings.Contains(got, "deaf") { // only then is it
			t.Fatalf("log = %q", got)
		}
		begin := time.Now()
		r := m.remove(p)
		if d := time.Since(begin); d < time.Second || d > 5*time.Second {
			t.Errorf("took %s", d)
		}
		if c := r.Status.ContainerStatuses[0].State.Terminated; c == nil || c.ExitCode != 137 {
			t.Errorf("state = %+v", r.Status.ContainerStatuses[0].State)
		}
	})
	t.Run("OutlivesTheAgent", func(t *testing.T) {
		kept, dropped := m.pod("kept", []string{"serve"}), m.pod("dropped", []string{"serve"})
		m.run(kept)
		m.run(dropped)
		before := m.await(kept, "running", running)
		m.await(dropped, "running", running)
		m.stop()
		m.mu.Lock()
		m.reports = map[types.UID][]link.PodReport{}
		m.mu.Unlock()
		m.start()
		m.run(kept)
		m.pods.Deliver(link.Synced{Confirmed: true})
		after := m.await(kept, "running again", running)
		if a, b := before.Status.ContainerStatuses[0], after.Status.ContainerStatuses[0]; a.ContainerID != b.ContainerID || b.RestartCount != 0 || before.Status.PodIP != after.Status.PodIP {
			t.Errorf("before %s %s, after %s %s", a.ContainerID, before.Status.PodIP, b.ContainerID, after.Status.PodIP)
		}
		for range 100 {
			boxes, err := m.rt.ListPodSandbox(t.Context(), nil)
			if err == nil && len(boxes) == 1 {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if boxes, _ := m.rt.ListPodSandbox(t.Context(), nil); len(boxes) != 1 {
			t.Errorf("%d sandboxes instead of 1", len(boxes))
		}
		m.remove(kept)
	})
	t.Run("StartsAboutAsFastAsBareCalls", func(t *testing.T) {
		bare, ours := m.measure(t, 5)
		t.Logf("bare CRI calls %s, create to Running %s, ratio %.2f", bare, ours, float64(ours)/float64(bare))
	})
}

// measure returns the median time of the three bare CRI calls and that of a pod from Wanted to the
// report that says Running.
func (m *machineUnderTest) measure(t *testing.T, n int) (bare, ours time.Duration) {
	ctx := context.Background()
	var bares, all []time.Duration
	for i := range n {
		box := &cri.PodSandboxConfig{
			Metadata: &cri.PodSandboxMetadata{Name: fmt.Sprintf("bare-%d", i), Namespace: "default", Uid: fmt.Sprintf("bare-%d", i)},
			Hostname: "bare", LogDirectory: t.TempDir(), Linux: &cri.LinuxPodSandboxConfig{CgroupParent: m.bare},
		}
		begin := time.Now()
		id, err := m.rt.RunPodSandbox(ctx, box, "")
		if err != nil {
			t.Fatal(err)
		}
		c, err := m.rt.CreateContainer(ctx, id, &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: "main"}, Image: &cri.ImageSpec{Image: workerImage}, Args: []string{"serve"}, LogPath: "main.log",
			Linux: &cri.LinuxContainerConfig{Resources: &cri.LinuxContainerResources{OomScoreAdj: 1000}},
		}, box)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.rt.StartContainer(ctx, c); err != nil {
			t.Fatal(err)
		}
		bares = append(bares, time.Since(begin))
		if err := m.rt.StopPodSandbox(ctx, id); err != nil {
			t.Fatal(err)
		}
		if err := m.rt.RemovePodSandbox(ctx, id); err != nil {
			t.Fatal(err)
		}

		p := m.pod(fmt.Sprintf("ours-%d", i), []string{"serve"})
		begin = time.Now()
		m.run(p)
		m.await(p, "running", running)
		all = append(all, time.Since(begin))
		m.remove(p)
	}
	slices.Sort(bares)
	slices.Sort(all)
	return bares[n/2], all[n/2]
}
