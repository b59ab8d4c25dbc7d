package link_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/actors/stage/stagetest"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/messages/bustest"
	"github.com/troupe-run/troupe/node/link"
)

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
