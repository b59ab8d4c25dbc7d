package feed_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/actors/proxyfeed"
	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/actors/stage/stagetest"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/messages/bustest"
	"github.com/troupe-run/troupe/proto/proxypb"
	"github.com/troupe-run/troupe/proxy/feed"
)

func TestMain(m *testing.M) {
	ats.Register() // else a goroutine of the server waits outside the bubbles and stops their clocks
	defer ats.Unregister()
	m.Run()
}

const region = "local"

// world is a control plane's feed over a store in memory.
type world struct {
	t     testing.TB
	bus   *bustest.Server
	store *objectstest.Store
	stage *stage.System
	pid   *actor.PID
	lives int
}

// run runs a test in a bubble.
func run(t *testing.T, fn func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, bus: bustest.Start(t), store: objectstest.New(clock.RealClock{}), stage: stagetest.New(t)}
		w.store.Serve(messages.Services, messages.EndpointSlices, messages.Namespaces)
		w.startControl()
		fn(t, w)
	})
}

func (w *world) startControl() {
	w.t.Helper()
	w.lives++
	pid, err := w.stage.Spawn(proxyfeed.Props(proxyfeed.Config{Conn: w.bus.Conn(), Region: region, Reader: w.store, Feed: w.store,
		Log: slog.New(slog.DiscardHandler)}), fmt.Sprintf("proxyfeed-%d", w.lives))
	if err != nil {
		w.t.Fatal(err)
	}
	w.pid = pid
}

func (w *world) stopControl() {
	w.t.Helper()
	if err := w.stage.Stop(w.t.Context(), w.pid); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) control() proxyfeed.Feed { return proxyfeed.At(w.stage, w.pid) }

// proxy is one node's feed, and what consumers would know from its updates.
type proxy struct {
	mu      sync.Mutex
	state   feed.Update
	updates int
	resets  int
	pid     *actor.PID
	conn    *nats.Conn
}

func (w *world) proxy(node string) *proxy {
	w.t.Helper()
	p := &proxy{conn: w.bus.Conn()}
	pid, err := w.stage.Spawn(feed.Props(feed.Config{Conn: p.conn, Region: region, Node: node, Deliver: p.take,
		Log: slog.New(slog.DiscardHandler)}), "feed-"+node)
	if err != nil {
		w.t.Fatal(err)
	}
	p.pid = pid
	return p
}

func (p *proxy) take(u feed.Update) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.updates++
	if u.Reset {
		p.resets++
		p.state = feed.Update{Reset: true}
	}
	p.state.Add(u)
}

// applied reports what the proxy knows as served by its kernel.
func (p *proxy) applied(t testing.TB, node string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	data, err := proto.Marshal(&proxypb.Applied{Source: p.state.Source, Revision: p.state.Revision})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.conn.Publish(messages.NodeUp(region, node, "applied"), data); err != nil {
		t.Fatal(err)
	}
}

// knows spells the proxy's state: "ns/name -> ready endpoints", sorted, and the namespaces.
func (p *proxy) knows() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for name, s := range p.state.Services {
		line := name.String() + " ->"
		for _, e := range s.Endpoints {
			line += " " + e.Addr.String()
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return append(out, slices.Sorted(maps.Keys(p.state.Namespaces))...)
}

func (p *proxy) counts() (updates, resets int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.updates, p.resets
}

// settle lets windows close and everybody come to rest.
func settle() {
	time.Sleep(time.Second)
	synctest.Wait()
}

func service(name string) *corev1.Service {
	return &corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.20", Ports: []corev1.ServicePort{{Port: 80}}}}
}

func slice(name, of string, addrs ...string) *discoveryv1.EndpointSlice {
	port := int32(8080)
	s := &discoveryv1.EndpointSlice{TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: of}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: &port}}}
	for _, a := range addrs {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return s
}

func namespace(name string) *corev1.Namespace {
	return &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func want(t *testing.T, p *proxy, lines ...string) {
	t.Helper()
	if diff := cmp.Diff(lines, p.knows()); diff != "" {
		t.Errorf("the proxy knows (-want +got):\n%s", diff)
	}
}

func TestProxyFollowsTheState(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.store.Put(namespace("default"), service("web"), slice("web-1", "web", "10.0.0.1"))
		p := w.proxy("node-1")
		settle()
		want(t, p, "default/web -> 10.0.0.1", "default")

		w.store.Put(slice("web-2", "web", "10.0.0.3", "10.0.0.2"), service("db"))
		settle()
		want(t, p, "default/db ->", "default/web -> 10.0.0.1 10.0.0.2 10.0.0.3", "default")

		w.store.Put(slice("web-1", "db", "10.0.0.9")) // a slice may change its service
		settle()
		want(t, p, "default/db -> 10.0.0.9", "default/web -> 10.0.0.2 10.0.0.3", "default")

		w.store.Drop(objectstest.KeyOf(service("db")))
		w.store.Drop(objectstest.KeyOf(slice("web-2", "")))
		w.store.Drop(objectstest.KeyOf(namespace("default")))
		settle()
		want(t, p, "default/web ->")
		if _, resets := p.counts(); resets != 1 {
			t.Errorf("%d snapshots, want the first only", resets)
		}
	})
}

func TestBurstBecomesFewDeltas(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		p := w.proxy("node-1")
		settle()
		before, _ := p.counts()
		for i := range 100 {
			w.store.Put(service(fmt.Sprintf("s-%d", i)))
		}
		settle()
		if after, _ := p.counts(); after-before > 5 {
			t.Errorf("100 changes came in %d updates", after-before)
		}
		if got := len(p.knows()); got != 100 {
			t.Errorf("the proxy knows %d services", got)
		}
	})
}

func TestInvisibleChangesAreNotSent(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.store.Put(service("web"))
		p := w.proxy("node-1")
		settle()
		before, _ := p.counts()
		s := service("web")
		s.Annotations = map[string]string{"note": "only people read this"}
		w.store.Put(s)
		settle()
		if after, _ := p.counts(); after != before {
			t.Error("an annotation was sent to proxies")
		}
	})
}

func TestProxyFindsGaps(t *testing.T) {
	for name, then := range map[string]func(w *world){
		"by the next delta":    func(w *world) { w.store.Put(service("later")) },
		"by the sign of life":  func(*world) { time.Sleep(6 * time.Second) },
		"by silence afterward": func(*world) { time.Sleep(20 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, w *world) {
				w.store.Put(service("web"))
				lossy := w.relay("edge")
				p := &proxy{conn: w.bus.Conn()}
				if _, err := w.stage.Spawn(feed.Props(feed.Config{Conn: p.conn, Region: "edge", Node: "node-1", Deliver: p.take,
					Log: slog.New(slog.DiscardHandler)}), "feed-edge"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Second) // a request that the relay passed on too early is repeated after five
				settle()
				lossy.Store(true)
				w.store.Put(service("lost"))
				settle()
				want(t, p, "default/web ->")
				lossy.Store(name == "by silence afterward")
				then(w)
				settle()
				if known := p.knows(); !slices.Contains(known, "default/lost ->") {
					t.Errorf("the proxy knows %v", known)
				}
			})
		})
	}
}

// relay connects proxies of another region to the control plane; while lossy is true it drops
// what the control plane broadcasts.
func (w *world) relay(to string) (lossy *atomic.Bool) {
	w.t.Helper()
	lossy = &atomic.Bool{}
	conn := w.bus.Conn()
	pass := func(from, to string, drop func() bool) {
		if _, err := conn.Subscribe(from, func(m *nats.Msg) {
			if !drop() {
				_ = conn.PublishMsg(&nats.Msg{Subject: to, Reply: m.Reply, Data: m.Data})
			}
		}); err != nil {
			w.t.Fatal(err)
		}
	}
	pass(messages.ProxyDeltas(region), messages.ProxyDeltas(to), lossy.Load)
	pass(messages.ProxySnapshot(to), messages.ProxySnapshot(region), func() bool { return false })
	return lossy
}

func TestProxyFollowsANewLeader(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.store.Put(service("old"), service("kept"))
		p := w.proxy("node-1")
		settle()
		w.stopControl()
		w.store.Drop(objectstest.KeyOf(service("old")))
		w.store.Put(service("new"))
		time.Sleep(time.Hour)
		want(t, p, "default/kept ->", "default/old ->") // silence takes nothing back
		w.startControl()
		settle()
		want(t, p, "default/kept ->", "default/new ->")
	})
}

func TestProxyThatStartsFirstWaits(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.stopControl()
		p := w.proxy("node-1")
		time.Sleep(time.Minute)
		if updates, _ := p.counts(); updates != 0 {
			t.Error("an update without a control plane")
		}
		w.store.Put(service("web"))
		w.startControl()
		settle()
		want(t, p, "default/web ->")
	})
}

func TestLargeSetsComeInParts(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		const n = 3000
		for i := range n {
			s := slice(fmt.Sprintf("s-%d-x", i), fmt.Sprintf("s-%d", i))
			for j := range 20 {
				s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.%d.%d.%d", i/250, i%250, j)}})
			}
			w.store.Put(service(fmt.Sprintf("s-%d", i)), s)
		}
		early := w.proxy("early") // sees part of it as deltas
		settle()
		late := w.proxy("late")
		settle()
		for name, p := range map[string]*proxy{"early": early, "late": late} {
			known := p.knows()
			if len(known) != n || strings.Count(known[0], " ") != 21 {
				t.Errorf("%s knows %d services, the first one: %q", name, len(known), known[0])
			}
		}
	})
}

func TestResendDeliversEverything(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.store.Put(service("web"))
		p := w.proxy("node-1")
		settle()
		w.stage.Send(p.pid, feed.Resend{})
		settle()
		if _, resets := p.counts(); resets != 2 {
			t.Errorf("%d resets, want 2", resets)
		}
	})
}

func TestWaitApplied(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		wait := func(rev uint64) chan error {
			done := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				done <- w.control().WaitApplied(ctx, rev)
			}()
			synctest.Wait()
			return done
		}
		pending := func(done chan error) bool { return len(done) == 0 }
		put := func(s *discoveryv1.EndpointSlice) (rev uint64) {
			w.store.Put(s)
			settle()
			now := objectstest.Must[*discoveryv1.EndpointSlice](t, w.store, objectstest.KeyOf(s))
			if _, err := fmt.Sscan(now.ResourceVersion, &rev); err != nil {
				t.Fatal(err)
			}
			return rev
		}
		w.store.Put(service("web"))
		rev := put(slice("web-1", "web", "10.0.0.1"))
		if err := <-wait(rev); err != nil {
			t.Errorf("without proxies: %v", err)
		}

		one, two := w.proxy("node-1"), w.proxy("node-2")
		settle()
		one.applied(t, "node-1")
		two.applied(t, "node-2")
		settle()
		if err := <-wait(rev); err != nil {
			t.Errorf("after both reported: %v", err)
		}

		rev = put(slice("web-1", "web", "10.0.0.2"))
		one.applied(t, "node-1")
		done := wait(rev)
		if !pending(done) {
			t.Error("did not wait for the second node")
		}
		two.applied(t, "node-2")
		if err := <-done; err != nil {
			t.Errorf("after the second node reported: %v", err)
		}

		// A revision that proxies cannot see needs nothing of them.
		s := slice("web-1", "web", "10.0.0.2")
		s.Annotations = map[string]string{"note": "x"}
		if err := <-wait(put(s)); err != nil {
			t.Errorf("invisible change: %v", err)
		}

		// A node that is dead does not hold up others for ever.
		rev = put(slice("web-1", "web", "10.0.0.3"))
		one.applied(t, "node-1")
		if err := <-wait(rev); err == nil {
			t.Error("did not wait for a node that was alive a moment ago")
		}
		time.Sleep(80 * time.Second)
		one.applied(t, "node-1")
		settle()
		if err := <-wait(rev); err != nil {
			t.Errorf("a dead node still holds up: %v", err)
		}
		got, err := w.control().Applied(t.Context())
		if diff := cmp.Diff(map[string]uint64{"node-1": rev}, got); err != nil || diff != "" {
			t.Errorf("%v, nodes (-want +got):\n%s", err, diff)
		}
	})
}
