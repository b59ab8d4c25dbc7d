package servicecidr

import (
	"slices"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/controller/controllertest"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/messages"
)

func cidr(name string, change ...func(*networkingv1.ServiceCIDR)) *networkingv1.ServiceCIDR {
	c := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.0.0.0/24"}}}
	for _, fn := range change {
		fn(c)
	}
	return c
}

func going(c *networkingv1.ServiceCIDR) {
	now := metav1.Now()
	c.DeletionTimestamp, c.Finalizers = &now, []string{finalizer}
}

func address(ip string) *networkingv1.IPAddress {
	return &networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: ip}}
}

func TestInUse(t *testing.T) {
	t.Parallel()
	wide := cidr("wide", func(c *networkingv1.ServiceCIDR) { c.Spec.CIDRs = []string{"10.0.0.0/16", "fd00::/112"} })
	for name, tc := range map[string]struct {
		others []*networkingv1.ServiceCIDR
		ips    []*networkingv1.IPAddress
		want   bool
	}{
		"no address":                {nil, nil, false},
		"an address":                {nil, []*networkingv1.IPAddress{address("10.0.0.5")}, true},
		"an address elsewhere":      {nil, []*networkingv1.IPAddress{address("10.0.1.5"), address("fd00::1")}, false},
		"covered by another":        {[]*networkingv1.ServiceCIDR{wide}, []*networkingv1.IPAddress{address("10.0.0.5")}, false},
		"covered by one that goes":  {[]*networkingv1.ServiceCIDR{cidr("b", going)}, []*networkingv1.IPAddress{address("10.0.0.5")}, true},
		"a name that is no address": {nil, []*networkingv1.IPAddress{address("x")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cidr("a", going)
			if got := inUse(c, append(tc.others, c), tc.ips); got != tc.want {
				t.Errorf("in use: %t, want %t", got, tc.want)
			}
		})
	}
}

func get(t *testing.T, w *controllertest.World, name string) *networkingv1.ServiceCIDR {
	t.Helper()
	w.Settle()
	return objectstest.Must[*networkingv1.ServiceCIDR](t, w.Store, messages.KeyOf(messages.ServiceCIDRs, "", name))
}

func TestARangeIsHeldAndReady(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		w.Put(cidr("a"))
		c := get(t, w, "a")
		if !slices.Contains(c.Finalizers, finalizer) || !apimeta.IsStatusConditionTrue(c.Status.Conditions, "Ready") {
			t.Errorf("finalizers %v, conditions %v", c.Finalizers, c.Status.Conditions)
		}
	})
}

func TestADeletedRangeWaitsForItsAddresses(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		w.Put(cidr("a", going))
		c := get(t, w, "a")
		cond := apimeta.FindStatusCondition(c.Status.Conditions, "Ready")
		if !slices.Contains(c.Finalizers, finalizer) || cond == nil || cond.Status != metav1.ConditionFalse || cond.Reason != "Terminating" {
			t.Fatalf("while in use: finalizers %v, condition %v", c.Finalizers, cond)
		}
		w.Drop(messages.KeyOf(messages.IPAddresses, "", "10.0.0.5"))
		w.Settle()
		time.Sleep(grace)
		w.Settle()
		if _, ok := w.Store.Get(messages.KeyOf(messages.ServiceCIDRs, "", "a")); ok {
			if c := get(t, w, "a"); slices.Contains(c.Finalizers, finalizer) {
				t.Errorf("afterwards: finalizers %v", c.Finalizers)
			}
		}
	}, address("10.0.0.5"))
}
