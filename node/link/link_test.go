package link_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/nats-io/nats.go"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/nodes"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/actors/stage/stagetest"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/messages/bustest"
	"github.com/troupe-run/troupe/node/link"
	"github.com/troupe-run/troupe/proto/nodepb"
)

func TestMain(m *testing.M) {
	ats.Register() // else a goroutine of the server waits outside the bubbles and stops their clocks
	defer ats.Unregister()
	m.Run()
}

const region = "local"

// world is a control plane without an API: a store in memory and the keeper of all nodes.
type world struct {
	t      testing.TB
	bus    *bustest.Server
	store  *objectstest.Store
	stage  *stage.System
	keeper *actor.PID
	epoch  uint64
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, bus: bustest.Start(t), store: objectstest.New(clock.RealClock{}), stage: stagetest.New(t)}
	w.startControl(1)
	return w
}

func (w *world) startControl(epoch uint64) {
	w.startControlOn(w.bus, epoch)
}

func (w *world) startControlOn(bus *bustest.Server, epoch uint64) {
	w.t.Helper()
	cfg := nodes.Config{
		Reader: w.store, Writer: w.store, Feed: w.store, Recorder: w.store.Recorder, Tokens: tokens{},
		Conn: bus.Conn(), Region: region, Epoch: epoch, Clock: clock.RealClock{}, Log: slog.New(slog.DiscardHandler),
		Cluster: &nodepb.Cluster{DnsIp: "10.43.0.10", Domain: "cluster.local", PodCidr: "10.42.0.0/16"},
	}
	if err := cfg.Check(); err != nil {
		w.t.Fatal(err)
	}
	pid, err := w.stage.Spawn(nodes.Props(cfg), fmt.Sprintf("nodes-%d-%d", epoch, rand.Uint32()))
	if err != nil {
		w.t.Fatal(err)
	}
	w.keeper, w.epoch = pid, epoch
}

func (w *world) stopControl() {
	w.t.Helper()
	if err := w.stage.Stop(w.t.Context(), w.keeper); err != nil {
		w.t.Fatal(err)
	}
}

type tokens struct{}

func (tokens) Token(_ context.Context, ns, sa string, r *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	if sa == "nobody" {
		return nil, errors.New("no such account")
	}
	r.Status.Token = ns + "/" + sa + "/" + r.Spec.BoundObjectRef.Name + "/" + strings.Join(r.Spec.Audiences, "+")
	r.Status.ExpirationTimestamp = metav1.Unix(2_000_000_000, 0)
	return r, nil
}

// agent is one node: its link, and what the link told it.
type agent struct {
	*link.Link
	name string

	mu   sync.Mutex
	got  []link.Message
	pods map[types.UID]*corev1.Pod
}

func (a *agent) deliver(m link.Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.got = append(a.got, m)
	switch m := m.(type) {
	case link.Wanted:
		a.pods[m.Pod.UID] = m.Pod
	case link.Unwanted:
		delete(a.pods, m.UID)
	}
}

// has returns the pods that are wanted, in the order of their UIDs.
func (a *agent) has() []*corev1.Pod {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.SortedFunc(maps.Values(a.pods), func(x, y *corev1.Pod) int { return strings.Compare(string(x.UID), string(y.UID)) })
}

// take returns what was delivered since the last call, in words.
func (a *agent) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for _, m := range a.got {
		switch m := m.(type) {
		case link.Wanted:
			s := "wanted " + m.Pod.Namespace + "/" + m.Pod.Name
			if m.Pod.DeletionTimestamp != nil {
				s += " deleting"
			}
			if m.Pod.Status.Phase != "" {
				s += " " + string(m.Pod.Status.Phase)
			}
			out = append(out, s)
		case link.Unwanted:
			out = append(out, "unwanted "+string(m.UID))
		case link.ObjectChanged:
			out = append(out, "object "+m.Kind+" "+m.Namespace+"/"+m.Name)
		case link.Synced:
			out = append(out, fmt.Sprintf("synced %t", m.Confirmed))
		case link.Registered:
			out = append(out, "registered "+m.Node.Spec.PodCIDR+" "+m.Cluster.DNS)
		}
	}
	a.got = nil
	return out
}

func (w *world) agent(name string, change ...func(*link.Config)) *agent {
	w.t.Helper()
	a := &agent{name: name, pods: make(map[types.UID]*corev1.Pod)}
	cfg := link.Config{Region: region, Node: nodeObject(name), Stage: w.stage, Deliver: a.deliver}
	for _, f := range change {
		f(&cfg)
	}
	if cfg.Conn == nil && cfg.Hub == nil {
		cfg.Conn = w.bus.Conn()
	}
	l, err := link.Start(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	a.Link = l
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = l.Close(ctx)
	})
	return a
}

func nodeObject(name string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"zone": "a"}},
		Status: corev1.NodeStatus{
			NodeInfo:   corev1.NodeSystemInfo{OperatingSystem: "linux", Architecture: "amd64"},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

func pod(name, node string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name)},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "web", Image: "web"}}},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func withConfig(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].EnvFrom = append(p.Spec.Containers[0].EnvFrom,
			corev1.EnvFromSource{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}},
			corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}})
	}
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string]string{"k": value}}
}

func secret(name, value string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string][]byte{"k": []byte(value)}}
}

func podKey(name string) messages.Key { return messages.KeyOf(messages.Pods, "default", name) }

func (w *world) pod(name string) *corev1.Pod {
	p, _ := objects.Get[*corev1.Pod](w.store, podKey(name))
	return p
}

func (w *world) ready(name string) string {
	n, ok := objects.Get[*corev1.Node](w.store, messages.KeyOf(messages.Nodes, "", name))
	if !ok {
		return "no node"
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return string(c.Status)
		}
	}
	return "none"
}

// settle lets everything happen that takes up to d.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func expect(t testing.TB, a *agent, want ...string) {
	t.Helper()
	if got := a.take(); !slices.Equal(got, want) {
		t.Errorf("node %s was told\n  %s\nwant\n  %s", a.name, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func running() corev1.PodStatus {
	return corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.42.0.5"}
}

func TestNodeRegisters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("n1")
		b := w.agent("n2")
		settle(100 * time.Millisecond)
		got := append(a.take(), b.take()...)
		slices.Sort(got)
		want := []string{"registered 10.42.0.0/24 10.43.0.10", "registered 10.42.1.0/24 10.43.0.10", "synced true", "synced true"}
		if !slices.Equal(got, want) {
			t.Errorf("nodes were told %q, want %q", got, want)
		}
		n, _ := objects.Get[*corev1.Node](w.store, messages.KeyOf(messages.Nodes, "", "n1"))
		for k, v := range map[string]string{corev1.LabelHostname: "n1", corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64", "zone": "a"} {
			if n.Labels[k] != v {
				t.Errorf("label %s = %q, want %q", k, n.Labels[k], v)
			}
		}
		if len(n.Spec.Taints) != 1 || n.Spec.Taints[0].Key != corev1.TaintNodeNotReady {
			t.Errorf("taints = %v", n.Spec.Taints)
		}
		if w.ready("n1") != "True" {
			t.Errorf("ready = %s", w.ready("n1"))
		}
		w.store.Writes()
		settle(time.Hour)
		if writes := w.store.Writes(); len(writes) > 0 {
			t.Errorf("an idle hour wrote %v", writes)
		}
	})
}

func TestWantedSetFollowsTheState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("n1")
		other := w.agent("n2")
		settle(time.Second)
		a.take()
		other.take()

		w.store.Put(configMap("cfg", "1"), pod("a", "n1", withConfig("cfg")), pod("b", ""))
		settle(time.Second)
		expect(t, a, "object ConfigMap default/cfg", "wanted default/a")
		if cm, ok := a.ConfigMap("default", "cfg"); !ok || cm.Data["k"] != "1" {
			t.Errorf("ConfigMap() = %v, %t", cm, ok)
		}

		w.store.Put(secret("cfg", "s")) // appears after the pod that asks for it
		settle(time.Second)
		expect(t, a, "object Secret default/cfg")
		if s, ok := a.Secret("default", "cfg"); !ok || string(s.Data["k"]) != "s" {
			t.Errorf("Secret() = %v, %t", s, ok)
		}

		w.store.Put(configMap("cfg", "2"), configMap("unrelated", "x"))
		settle(time.Second)
		expect(t, a, "object ConfigMap default/cfg")

		labelled := w.pod("a").DeepCopy()
		labelled.Labels = map[string]string{"x": "y"}
		w.store.Put(labelled)
		settle(time.Second)
		expect(t, a, "wanted default/a")

		// The same name, another pod.
		w.store.Drop(podKey("a"))
		again := pod("a", "n1")
		again.UID = "uid-a2"
		w.store.Put(again)
		settle(time.Second)
		got := a.take()
		slices.Sort(got)
		want := []string{"object ConfigMap default/cfg", "object Secret default/cfg", "unwanted uid-a", "wanted default/a"}
		if !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		if _, ok := a.ConfigMap("default", "cfg"); ok {
			t.Error("a ConfigMap nobody refers to is still there")
		}
		w.store.Drop(podKey("a"))
		settle(time.Second)
		expect(t, a, "unwanted uid-a2")
		expect(t, other)
	})
}

func TestPodStatusIsWrittenOnceAndDoesNotComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.Put(pod("a", "n1", func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}}
			p.Status.QOSClass = corev1.PodQOSBurstable
		}), pod("b", "n2"))
		a := w.agent("n1")
		settle(time.Second)
		a.take()
		w.store.Writes()
		for range 3 {
			a.ReportPod(link.PodReport{UID: "uid-a", Namespace: "default", Name: "a", Status: running()})
		}
		settle(time.Minute)
		st := w.pod("a").Status
		if st.Phase != corev1.PodRunning || st.PodIP == "" || len(st.Conditions) != 1 || st.QOSClass != corev1.PodQOSBurstable {
			t.Errorf("status = %+v", st)
		}
		if writes := w.store.Writes(); len(writes) != 1 {
			t.Errorf("writes = %v, want one", writes)
		}
		expect(t, a)

		// Not this node's pod, and another pod of the same name: no write, and both have to go.
		a.ReportPod(link.PodReport{UID: "uid-b", Namespace: "default", Name: "b", Status: running()})
		a.ReportPod(link.PodReport{UID: "uid-old", Namespace: "default", Name: "a", Status: running()})
		settle(time.Minute)
		got := a.take()
		slices.Sort(got)
		if want := []string{"unwanted uid-b", "unwanted uid-old"}; !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		if writes := w.store.Writes(); len(writes) != 0 {
			t.Errorf("writes = %v, want none", writes)
		}
	})
}

func TestFinishedPodGoesWhenItIsMarked(t *testing.T) {
	for _, early := range []bool{false, true} {
		t.Run(fmt.Sprintf("finished first %t", early), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.store.Put(pod("a", "n1"))
				a := w.agent("n1")
				settle(time.Second)
				a.take()
				report := link.PodReport{UID: "uid-a", Namespace: "default", Name: "a", Finished: true,
					Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}
				if early {
					a.ReportPod(report)
					settle(time.Second)
					if w.pod("a") == nil {
						t.Fatal("pod deleted though nobody asked for it")
					}
					expect(t, a, "wanted default/a Succeeded")
				}
				if err := w.store.Delete(t.Context(), podKey("a"), metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
				settle(time.Second)
				if !early {
					expect(t, a, "wanted default/a deleting")
					a.ReportPod(report)
					settle(time.Second)
				}
				expect(t, a, "unwanted uid-a")
				if p := w.pod("a"); p != nil {
					t.Errorf("pod still there: %v %v", p.DeletionTimestamp, p.Status.Phase)
				}
			})
		})
	}
}

func TestSilentNodeIsUnknownAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.Put(pod("a", "n1"))
		nc := w.bus.Conn()
		hub, err := link.NewHub(nc, region)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { hub.Close() })
		a := w.agent("n1", func(c *link.Config) { c.Hub = hub })
		settle(5 * time.Second)
		a.ReportPod(link.PodReport{UID: "uid-a", Namespace: "default", Name: "a", Status: running()})
		settle(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := a.Close(ctx); err != nil {
			t.Fatal(err)
		}
		settle(3 * time.Second)
		if got := w.ready("n1"); got != "Unknown" {
			t.Errorf("after 3 s of silence ready = %s", got)
		}
		// Somebody wrote a status meanwhile.
		p := w.pod("a").DeepCopy()
		p.Status.Phase = corev1.PodUnknown
		w.store.Put(p)

		b := w.agent("n1", func(c *link.Config) { c.Hub = hub })
		settle(time.Second)
		if got := w.ready("n1"); got != "True" {
			t.Errorf("back again, ready = %s", got)
		}
		expect(t, b, "registered 10.42.0.0/24 10.43.0.10", "wanted default/a Unknown", "synced true")
		b.ReportPod(link.PodReport{UID: "uid-a", Namespace: "default", Name: "a", Status: running()})
		settle(time.Second)
		if got := w.pod("a").Status.Phase; got != corev1.PodRunning {
			t.Errorf("phase = %s", got)
		}
	})
}

func TestControlPlaneRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.Put(configMap("cfg", "1"), pod("a", "n1", withConfig("cfg")), pod("b", "n1"))
		a := w.agent("n1")
		settle(time.Second)
		a.ReportPod(link.PodReport{UID: "uid-a", Namespace: "default", Name: "a", Status: running()})
		settle(time.Second)
		a.take()
		w.stopControl()
		w.store.Drop(podKey("b"))
		w.store.Put(pod("c", "n1"))
		// A report that nobody hears, and a change while nobody tells.
		st := running()
		st.PodIP = "10.42.0.6"
		a.ReportPod(link.PodReport{UID: "uid-a", Namespace: "default", Name: "a", Status: st})
		settle(20 * time.Second)
		expect(t, a)

		w.startControl(2)
		settle(2 * time.Second)
		expect(t, a, "registered 10.42.0.0/24 10.43.0.10", "unwanted uid-b", "wanted default/c", "synced true")
		if got := w.pod("a").Status.PodIP; got != "10.42.0.6" {
			t.Errorf("pod IP = %s", got)
		}
		if got := w.ready("n1"); got != "True" {
			t.Errorf("ready = %s", got)
		}

		// The deposed one comes back from the dead.
		stale := w.bus.Conn()
		w.startControlOn(w.bus, 1)
		_ = stale
		w.store.Put(pod("d", "n1"))
		settle(5 * time.Second)
		got := a.take()
		if !slices.Contains(got, "wanted default/d") {
			t.Errorf("told %q", got)
		}
		w.stopControl()
	})
}

func TestLowerEpochIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stopControl()
		w.startControl(7)
		a := w.agent("n1")
		settle(time.Second)
		a.take()
		w.stopControl()
		w.startControl(6)
		w.store.Put(pod("a", "n1"))
		settle(10 * time.Second)
		expect(t, a)
		w.stopControl()
		w.startControl(8)
		settle(2 * time.Second)
		expect(t, a, "registered 10.42.0.0/24 10.43.0.10", "wanted default/a", "synced true")
	})
}

func TestCheckpointStartsPodsWhileCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		onDisk := func(c *link.Config) { c.DataDir = dir }
		w := newWorld(t)
		w.store.Put(secret("cfg", "very-secret-word"), pod("a", "n1", withConfig("cfg")), pod("done", "n1"))
		a := w.agent("n1", onDisk)
		settle(time.Second)
		a.ReportPod(link.PodReport{UID: "uid-done", Namespace: "default", Name: "done", Status: corev1.PodStatus{Phase: corev1.PodSucceeded}})
		settle(time.Second)
		w.stopControl()
		if err := a.Close(t.Context()); err != nil {
			t.Fatal(err)
		}

		b := w.agent("n1", onDisk)
		settle(10 * time.Second)
		got := b.take()
		slices.Sort(got[2:4])
		want := []string{"registered 10.42.0.0/24 10.43.0.10", "object Secret default/cfg", "wanted default/a", "wanted default/done Succeeded", "synced false"}
		if !slices.Equal(got, want) {
			t.Errorf("cut off, told %q, want %q", got, want)
		}
		if s, ok := b.Secret("default", "cfg"); !ok || string(s.Data["k"]) != "very-secret-word" {
			t.Errorf("Secret() = %v, %t", s, ok)
		}
		w.startControl(2)
		settle(2 * time.Second)
		expect(t, b, "registered 10.42.0.0/24 10.43.0.10", "synced true") // nothing else: the digest was right

		files, err := filepath.Glob(filepath.Join(dir, "link", "*"))
		if err != nil || len(files) != 2 {
			t.Errorf("files = %v, %v", files, err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil || bytes.Contains(data, []byte("very-secret-word")) {
				t.Errorf("%s: %v, or it holds the secret in clear", f, err)
			}
			if info, _ := os.Stat(f); info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", f, info.Mode())
			}
		}
	})
}

func TestDamagedCheckpointIsNoReasonNotToRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "link"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "link", "checkpoint"), []byte("troupe checkpoint 1\nrubbish that is long enough to hold a nonce and a tag"), 0o600); err != nil {
			t.Fatal(err)
		}
		w := newWorld(t)
		w.store.Put(pod("a", "n1"))
		a := w.agent("n1", func(c *link.Config) { c.DataDir = dir })
		settle(time.Second)
		expect(t, a, "registered 10.42.0.0/24 10.43.0.10", "wanted default/a", "synced true")
	})
}

func TestTokensOnlyForPodsOfTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		account := func(name string) func(*corev1.Pod) {
			return func(p *corev1.Pod) { p.Spec.ServiceAccountName = name }
		}
		w.store.Put(pod("a", "n1", account("app")), pod("b", "n2", account("app")), pod("c", "n1", account("nobody")))
		begin := time.Now()
		a := w.agent("n1") // not welcomed yet when it asks
		got, err := a.Token(t.Context(), link.TokenRequest{Pod: w.pod("a"), Audiences: []string{"vault"}})
		if err != nil || got.Value != "default/app/a/vault" || got.Expires.Unix() != 2_000_000_000 {
			t.Errorf("Token() = %v, %v", got, err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("the first token took %v", took)
		}
		for _, name := range []string{"b", "c"} {
			if got, err := a.Token(t.Context(), link.TokenRequest{Pod: w.pod(name)}); err == nil {
				t.Errorf("Token() for %s = %v", name, got)
			}
		}
		w.stopControl()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := a.Token(ctx, link.TokenRequest{Pod: w.pod("a")}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Token() without a control plane: %v", err)
		}
	})
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.Put(pod("a", "n1"), pod("b", "n2"))
		a := w.agent("n1")
		settle(time.Second)
		a.Record(link.Event{Pod: w.pod("a"), Type: "Normal", Reason: "Started", Message: "web"})
		a.Record(link.Event{Pod: w.pod("b"), Type: "Normal", Reason: "Started", Message: "not its own"})
		a.Record(link.Event{Type: "Warning", Reason: "DiskPressure", Message: "full"})
		settle(time.Second)
		want := []string{"pods/default/a Normal Started: web", "nodes/n1 Warning DiskPressure: full"}
		if got := w.store.Recorder.Events(); !slices.Equal(got, want) {
			t.Errorf("events = %q, want %q", got, want)
		}
	})
}

func TestDeletedNodeRegistersAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("n1")
		settle(time.Second)
		a.take()
		w.store.Drop(messages.KeyOf(messages.Nodes, "", "n1"))
		settle(5 * time.Second)
		expect(t, a, "registered 10.42.1.0/24 10.43.0.10", "synced true")
		if got := w.ready("n1"); got != "True" {
			t.Errorf("ready = %s", got)
		}
		if err := a.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.store.Drop(messages.KeyOf(messages.Nodes, "", "n1"))
		settle(time.Minute)
		if got := w.ready("n1"); got != "no node" {
			t.Errorf("a node deleted after its end came back: %s", got)
		}
	})
}

// TestBadWireConverges lets the bus lose, double and reorder a third of all messages between two
// servers, changes the state all the while, and then demands that both halves agree.
func TestBadWireConverges(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { badWire(t, seed) })
		})
	}
}

func badWire(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	w := &world{t: t, bus: bustest.Start(t), store: objectstest.New(clock.RealClock{}), stage: stagetest.New(t)}
	far := bustest.Start(t)
	wire := relay(t, w.bus.Conn(), far.Conn(), rand.New(rand.NewPCG(seed, 2)))
	w.startControl(1)
	agents := []*agent{
		w.agent("n0", func(c *link.Config) { c.Conn = far.Conn() }),
		w.agent("n1", func(c *link.Config) { c.Conn = far.Conn() }),
	}
	for i := range 300 {
		name, node := fmt.Sprint("p", rnd.IntN(30)), fmt.Sprint("n", rnd.IntN(2))
		cfg := fmt.Sprint("c", rnd.IntN(4))
		switch p := w.pod(name); {
		case p == nil:
			p = pod(name, node, withConfig(cfg))
			p.UID = types.UID(fmt.Sprint("uid-", name, "-", i))
			w.store.Put(p)
		case rnd.IntN(3) == 0:
			w.store.Drop(podKey(name))
		default:
			p = p.DeepCopy()
			p.Labels = map[string]string{"i": fmt.Sprint(i)}
			w.store.Put(p)
		}
		w.store.Put(configMap(cfg, fmt.Sprint(i)))
		for _, a := range agents {
			for _, p := range a.has() {
				if rnd.IntN(4) == 0 {
					st := running()
					st.PodIP = fmt.Sprint("10.0.0.", i)
					a.ReportPod(link.PodReport{UID: p.UID, Namespace: p.Namespace, Name: p.Name, Status: st})
				}
			}
		}
		if i == 150 {
			w.stopControl()
			w.startControl(2)
		}
		time.Sleep(time.Duration(rnd.IntN(200)) * time.Millisecond)
	}
	reported := make(map[types.UID]string)
	for _, a := range agents {
		for _, p := range a.has() {
			st := running()
			st.PodIP = "192.0.2." + fmt.Sprint(len(reported))
			reported[p.UID] = st.PodIP
			a.ReportPod(link.PodReport{UID: p.UID, Namespace: p.Namespace, Name: p.Name, Status: st})
			synctest.Wait() // each in a message of its own
		}
	}
	settle(10 * time.Second) // still bad
	wire.good()
	settle(2 * time.Minute)
	for _, a := range agents {
		var want, got []string
		for _, p := range objects.Index[*corev1.Pod](w.store, messages.Pods, objects.IndexNode, a.name) {
			want = append(want, fmt.Sprint(p.UID, p.Labels))
			if ip, ok := reported[p.UID]; ok && p.Status.PodIP != ip {
				t.Errorf("%s: stored IP %s, reported %s", p.UID, p.Status.PodIP, ip)
			}
			for _, ref := range p.Spec.Containers[0].EnvFrom[:1] {
				cm, _ := objects.Get[*corev1.ConfigMap](w.store, messages.KeyOf(messages.ConfigMaps, "default", ref.ConfigMapRef.Name))
				if have, ok := a.ConfigMap("default", ref.ConfigMapRef.Name); !ok || have.Data["k"] != cm.Data["k"] {
					t.Errorf("%s has %v of %s, want %v", a.name, have, cm.Name, cm.Data)
				}
			}
		}
		for _, p := range a.has() {
			got = append(got, fmt.Sprint(p.UID, p.Labels))
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s has\n  %v\nwant\n  %v", a.name, got, want)
		}
		if w.ready(a.name) != "True" {
			t.Errorf("%s ready = %s", a.name, w.ready(a.name))
		}
	}
}

// badRelay carries messages between two servers, badly until told otherwise.
type badRelay struct {
	mu   sync.Mutex
	rnd  *rand.Rand
	bad  bool
	held map[string]*nats.Msg // by direction
}

func relay(t testing.TB, control, far *nats.Conn, rnd *rand.Rand) *badRelay {
	r := &badRelay{rnd: rnd, bad: true, held: make(map[string]*nats.Msg)}
	pipe := func(from, to *nats.Conn, subject string) {
		if _, err := from.Subscribe(subject, func(m *nats.Msg) { r.carry(to, subject, m) }); err != nil {
			t.Fatal(err)
		}
	}
	pipe(control, far, "troupe.*.node.*.down")
	pipe(far, control, messages.NodeUpAll(region))
	return r
}

func (r *badRelay) carry(to *nats.Conn, direction string, m *nats.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	send := func(m *nats.Msg) { _ = to.Publish(m.Subject, m.Data) }
	if held := r.held[direction]; held != nil {
		delete(r.held, direction)
		defer send(held) // after the one that came later
	}
	if r.bad {
		switch r.rnd.IntN(9) {
		case 0:
			return
		case 1:
			send(m)
		case 2:
			r.held[direction] = m
			return
		}
	}
	send(m)
}

func (r *badRelay) good() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bad = false
}
