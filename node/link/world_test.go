package link_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/nats-io/nats-server/v2/server/ats"
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
	id     string // of the cluster
	// proxies is the feed of proxies that the control plane asks; nil for none.
	proxies *actor.PID
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, bus: bustest.Start(t), store: objectstest.New(clock.RealClock{}), stage: stagetest.New(t), id: "first"}
	w.startControl(1)
	return w
}

func (w *world) startControl(epoch uint64) {
	w.startControlOn(w.bus, epoch)
}

func (w *world) startControlOn(bus *bustest.Server, epoch uint64) {
	w.t.Helper()
	cfg := nodes.Config{
		Reader: w.store, Writer: w.store, Feed: w.store, Recorder: w.store.Recorder, Tokens: tokens{}, Proxies: w.proxies,
		Conn: bus.Conn(), Region: region, Epoch: epoch, Clock: clock.RealClock{}, Log: slog.New(slog.DiscardHandler),
		Cluster: &nodepb.Cluster{Id: w.id, DnsIp: "10.43.0.10", Domain: "cluster.local", PodCidr: "10.42.0.0/16"},
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
