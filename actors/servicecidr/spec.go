package servicecidr

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

const (
	// finalizer holds a range while addresses of it are in use.
	finalizer = "networking.k8s.io/service-cidr-finalizer"
	// grace is how long a deleted range stays at least: an address may just be handed out of it.
	grace = 10 * time.Second
)

// ranges is the controller; its keys are those of ServiceCIDRs.
type ranges struct {
	controller.Deps
}

// Spec returns the controller of ServiceCIDRs.
func Spec(d controller.Deps) controller.Spec {
	r := &ranges{d}
	return controller.Spec{
		Name: "servicecidr",
		Watches: []controller.Watch{
			{Resource: messages.ServiceCIDRs, Keys: r.overlapping},
			{Resource: messages.IPAddresses, Keys: r.containing},
		},
		Reconcile: r.reconcile,
	}
}

func keyOf(c *networkingv1.ServiceCIDR) messages.Key {
	return messages.KeyOf(messages.ServiceCIDRs, "", c.Name)
}

// overlapping returns the range that changed, and those whose addresses it may cover.
func (r *ranges) overlapping(ch objects.Change) []messages.Key {
	keys := []messages.Key{ch.Key}
	changed, ok := ch.New.(*networkingv1.ServiceCIDR)
	if !ok {
		return keys
	}
	for _, other := range objects.List[*networkingv1.ServiceCIDR](r.Reader, messages.ServiceCIDRs, "") {
		if other.DeletionTimestamp != nil && other.Name != changed.Name && overlap(changed, other) {
			keys = append(keys, keyOf(other))
		}
	}
	return keys
}

// containing returns the ranges that wait for an address to go.
func (r *ranges) containing(ch objects.Change) []messages.Key {
	addr, err := netip.ParseAddr(ch.Key.Name)
	if err != nil || ch.New != nil {
		return nil
	}
	var keys []messages.Key
	for _, c := range objects.List[*networkingv1.ServiceCIDR](r.Reader, messages.ServiceCIDRs, "") {
		if c.DeletionTimestamp != nil && contains(c, addr) {
			keys = append(keys, keyOf(c))
		}
	}
	return keys
}

func (r *ranges) reconcile(ctx context.Context, key messages.Key) (controller.Result, error) {
	c, ok := objects.Get[*networkingv1.ServiceCIDR](r.Reader, key)
	if !ok {
		return controller.Result{}, nil
	}
	if c.DeletionTimestamp == nil {
		return controller.Result{}, r.serve(ctx, c)
	}
	if !slices.Contains(c.Finalizers, finalizer) {
		return controller.Result{}, nil
	}
	if inUse(c, objects.List[*networkingv1.ServiceCIDR](r.Reader, messages.ServiceCIDRs, ""), objects.List[*networkingv1.IPAddress](r.Reader, messages.IPAddresses, "")) {
		return controller.Result{}, r.condition(ctx, c, metav1.Condition{
			Status: metav1.ConditionFalse, Reason: networkingv1.ServiceCIDRReasonTerminating,
			Message: "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
		})
	}
	if left := grace - r.Clock.Since(c.DeletionTimestamp.Time); left > 0 {
		return controller.Result{After: left}, nil
	}
	return controller.Result{}, r.mutate(ctx, c, "", func(c *networkingv1.ServiceCIDR) {
		c.Finalizers = slices.DeleteFunc(c.Finalizers, func(name string) bool { return name == finalizer })
	})
}

// serve holds a range that is in service and marks it ready.
func (r *ranges) serve(ctx context.Context, c *networkingv1.ServiceCIDR) error {
	if !slices.Contains(c.Finalizers, finalizer) {
		err := r.mutate(ctx, c, "", func(c *networkingv1.ServiceCIDR) {
			if c.DeletionTimestamp == nil && !slices.Contains(c.Finalizers, finalizer) {
				c.Finalizers = append(c.Finalizers, finalizer)
			}
		})
		if err != nil {
			return err
		}
	}
	if apimeta.IsStatusConditionTrue(c.Status.Conditions, networkingv1.ServiceCIDRConditionReady) {
		return nil
	}
	return r.condition(ctx, c, metav1.Condition{Status: metav1.ConditionTrue, Message: "Kubernetes Service CIDR is ready"})
}

// condition sets whether a range is ready, unless it says so already.
func (r *ranges) condition(ctx context.Context, c *networkingv1.ServiceCIDR, ready metav1.Condition) error {
	ready.Type = networkingv1.ServiceCIDRConditionReady
	ready.LastTransitionTime = metav1.NewTime(r.Clock.Now())
	if have := apimeta.FindStatusCondition(c.Status.Conditions, ready.Type); have != nil &&
		have.Status == ready.Status && have.Reason == ready.Reason && have.Message == ready.Message {
		return nil
	}
	return r.mutate(ctx, c, "status", func(c *networkingv1.ServiceCIDR) { apimeta.SetStatusCondition(&c.Status.Conditions, ready) })
}

func (r *ranges) mutate(ctx context.Context, c *networkingv1.ServiceCIDR, sub string, fn func(*networkingv1.ServiceCIDR)) error {
	_, err := r.Writer.Mutate(ctx, keyOf(c), sub, func(o objects.Object) (objects.Object, error) {
		fn(o.(*networkingv1.ServiceCIDR))
		return o, nil
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("update %s: %w", keyOf(c), err)
	}
	return nil
}
