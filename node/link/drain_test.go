package link_test

import (
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/proxyfeed"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/proto/proxypb"
)

// drain is a world with a feed of proxies and one node with the pod "a".
type drain struct {
	*world
	*agent
}

// inDrain runs a test in a bubble; proxies live on the given nodes.
func inDrain(t *testing.T, fn func(t *testing.T, d *drain), proxies ...string) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stopControl()
		pid, err := w.stage.Spawn(proxyfeed.Props(proxyfeed.Config{Conn: w.bus.Conn(), Region: region, Reader: w.store, Feed: w.store,
			Log: slog.New(slog.DiscardHandler)}), "proxyfeed")
		if err != nil {
			t.Fatal(err)
		}
		w.proxies = pid
		w.startControl(2)
		d := &drain{w, w.agent("n1")}
		w.store.Put(pod("a", "n1"))
		settle(time.Second)
		d.slice(false, "a")
		for _, p := range proxies {
			d.applied(p)
		}
		settle(time.Second)
		d.take()
		fn(t, d)
	})
}

// slice writes what a service has; with leaving the pods are about to end.
func (d *drain) slice(leaving bool, pods ...string) {
	s := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4,
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}}}
	for _, p := range pods {
		ready := !leaving
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{"10.42.0.5"},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready, Terminating: &leaving},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: p, UID: d.pod(p).UID}})
	}
	d.store.Put(s)
}

// applied reports that a proxy serves the slice as it is now.
func (d *drain) applied(node string) {
	s, _ := objects.Get[*discoveryv1.EndpointSlice](d.store, messages.KeyOf(messages.EndpointSlices, "default", "web-1"))
	rev, _ := strconv.ParseUint(s.ResourceVersion, 10, 64)
	data, err := proto.Marshal(&proxypb.Applied{Revision: rev})
	if err == nil {
		err = d.bus.Conn().Publish(messages.NodeUp(region, node, "applied"), data)
	}
	if err != nil {
		d.world.t.Fatal(err)
	}
}

func (d *drain) delete(name string, grace int64) {
	p := d.pod(name).DeepCopy()
	at := metav1.NewTime(time.Now().Add(time.Duration(grace) * time.Second))
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &at, &grace
	d.store.Put(p)
}

// told waits for the node to hear of the end of a pod, for a minute at most, and returns how long
// that took and the grace it was given.
func (d *drain) told(name string) (after time.Duration, grace int64) {
	begin := time.Now()
	for time.Since(begin) < time.Minute {
		settle(10 * time.Millisecond)
		for _, p := range d.has() {
			if p.Name == name && p.DeletionTimestamp != nil {
				return time.Since(begin).Truncate(50 * time.Millisecond), *p.DeletionGracePeriodSeconds
			}
		}
	}
	return -1, 0
}

func (d *drain) wantTold(after time.Duration, grace int64) {
	d.world.t.Helper()
	if got, g := d.told("a"); got != after || g != grace {
		d.world.t.Errorf("told after %v with a grace of %d s, want %v and %d s", got, g, after, grace)
	}
}

func TestPodEndsWhenTheLastProxyHasLetItGo(t *testing.T) {
	inDrain(t, func(t *testing.T, d *drain) {
		d.delete("a", 30)
		settle(300 * time.Millisecond)
		d.slice(true, "a")
		settle(300 * time.Millisecond)
		d.applied("n1")
		settle(900 * time.Millisecond)
		expect(t, d.agent)
		d.applied("n2")
		d.wantTold(0, 29) // of 30 s, one has passed
		settle(time.Minute)
		expect(t, d.agent, "wanted default/a deleting")
	}, "n1", "n2")
}

func TestPodEndsThoughAProxyIsSilent(t *testing.T) {
	inDrain(t, func(t *testing.T, d *drain) {
		d.delete("a", 30)
		d.slice(true, "a")
		d.applied("n1")
		d.wantTold(5*time.Second, 25)
		settle(time.Minute)
		expect(t, d.agent, "wanted default/a deleting")
	}, "n1", "n2")
}

func TestAtLeastHalfOfTheGraceIsThePods(t *testing.T) {
	inDrain(t, func(t *testing.T, d *drain) {
		d.delete("a", 3)
		d.wantTold(1500*time.Millisecond, 2)
	}, "n1")
	inDrain(t, func(t *testing.T, d *drain) {
		d.delete("a", 30)
		settle(time.Second)
		d.delete("a", 2) // somebody is in a hurry
		d.wantTold(time.Second, 1)
	}, "n1")
}

func TestNobodyWaitsWithoutNeed(t *testing.T) {
	inDrain(t, func(t *testing.T, d *drain) { // there is no proxy
		d.delete("a", 30)
		d.wantTold(0, 30)
	})
	inDrain(t, func(t *testing.T, d *drain) { // there is no service
		d.store.Put(pod("b", "n1"))
		settle(time.Second)
		d.delete("b", 30)
		if after, grace := d.told("b"); after != 0 || grace != 30 {
			t.Errorf("told after %v, with %d s", after, grace)
		}
	}, "n1")
	inDrain(t, func(t *testing.T, d *drain) { // it got no connections any more
		d.slice(true, "a")
		settle(time.Second)
		d.applied("n1")
		settle(10 * time.Second)
		d.delete("a", 30)
		d.wantTold(0, 30)
	}, "n1")
	inDrain(t, func(t *testing.T, d *drain) { // its service went
		d.delete("a", 30)
		d.store.Drop(messages.KeyOf(messages.EndpointSlices, "default", "web-1"))
		d.store.Put(configMap("later", "x"))
		settle(time.Second)
		d.slice(false) // as a later change that the proxy reports
		settle(time.Second)
		d.applied("n1")
		d.wantTold(0, 28)
	}, "n1")
}

// TestEndIsNeverTakenBack lets conversations begin anew while a pod drains and after it was told.
func TestEndIsNeverTakenBack(t *testing.T) {
	inDrain(t, func(t *testing.T, d *drain) {
		d.delete("a", 30)
		settle(time.Second)
		if err := d.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.agent = d.world.agent("n1")
		settle(time.Second)
		got := d.take()
		if !slices.Contains(got, "wanted default/a") {
			t.Errorf("a draining pod came back as %q", got)
		}
		d.slice(true, "a")
		d.applied("n1")
		d.wantTold(0, 28)

		if err := d.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.agent = d.world.agent("n1")
		settle(time.Second)
		if got := d.take(); !slices.Contains(got, "wanted default/a deleting") {
			t.Errorf("a pod that ends came back as %q", got)
		}
		d.slice(false, "a") // even though
		d.stopControl()
		d.startControl(3)
		settle(2 * time.Second)
		labelled := d.pod("a").DeepCopy()
		labelled.Labels = map[string]string{"x": "y"}
		d.store.Put(labelled)
		settle(time.Second)
		if err := d.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.agent = d.world.agent("n1")
		settle(time.Second)
		if len(d.has()) != 1 {
			t.Errorf("node has %d pods", len(d.has()))
		}
		for _, p := range d.has() {
			if p.DeletionTimestamp == nil {
				t.Errorf("the end of %s was taken back", p.Name)
			}
		}
	}, "n1")
}
