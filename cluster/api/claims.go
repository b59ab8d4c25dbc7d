package api

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/api/alloc"
	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/core"
	"github.com/troupe-run/troupe/messages"
)

const (
	// claimManager marks the IPAddresses that are ours to write, with the name that Kubernetes'
	// own allocator uses.
	claimManager = "ipallocator.k8s.io"
	// claimPause lies between two looks at all addresses, and is how old a record must be before
	// that takes it for a left-over: another server may be about to write its Service.
	claimPause = time.Minute
	// claimWriters is how many records are mended side by side.
	claimWriters = 16
)

// claims keeps the addresses of Services on record as IPAddress objects. A Service's record is
// written before the Service, which is what makes an address unique; everything else is mended
// afterwards, by looking at what is there.
type claims struct {
	reader objects.Reader
	feed   objects.Feed
	writer objects.Writer
	alloc  *alloc.Allocator
	clock  clock.WithTicker
	log    *slog.Logger

	mu    sync.Mutex
	dirty map[netip.Addr]bool // to look at; true when a Service has surely given it up
	wake  chan struct{}
}

func addressKey(addr netip.Addr) messages.Key {
	return messages.KeyOf(messages.IPAddresses, "", addr.String())
}

// holder is the Service that has an address.
func (c *claims) holder(addr netip.Addr) *corev1.Service {
	for _, svc := range objects.Index[*corev1.Service](c.reader, messages.Services, core.IndexClusterIP, addr.String()) {
		return svc
	}
	return nil
}

// ours says that a record is one of a Service, written by an allocator.
func ours(ip *networkingv1.IPAddress) bool {
	ref := ip.Spec.ParentRef
	return ip.Labels[networkingv1.LabelManagedBy] == claimManager && ref != nil && ref.Group == "" && ref.Resource == "services"
}

// Held says that an address is on record, for somebody who still has it.
func (c *claims) Held(addr netip.Addr) bool {
	ip, ok := objects.Get[*networkingv1.IPAddress](c.reader, addressKey(addr))
	return ok && (!ours(ip) || c.holder(addr) != nil || !c.old(ip))
}

func (c *claims) old(ip *networkingv1.IPAddress) bool {
	c.mu.Lock()
	given := c.dirty[netip.MustParseAddr(ip.Name)]
	c.mu.Unlock()
	return given || c.clock.Since(ip.CreationTimestamp.Time) > claimPause
}

// Claim writes the record of an address.
func (c *claims) Claim(ctx context.Context, addr netip.Addr, holder networkingv1.ParentReference) error {
	_, err := c.writer.Create(ctx, record(addr, holder))
	if apierrors.IsAlreadyExists(err) && !c.Held(addr) {
		// What the last holder left behind.
		if err = c.forget(ctx, addr); err == nil {
			_, err = c.writer.Create(ctx, record(addr, holder))
		}
	}
	switch {
	case apierrors.IsAlreadyExists(err):
		return fmt.Errorf("provided IP is %w", kind.ErrAllocated)
	case err != nil:
		return fmt.Errorf("record %s: %w", addr, err)
	}
	return nil
}

func record(addr netip.Addr, holder networkingv1.ParentReference) *networkingv1.IPAddress {
	family := corev1.IPv4Protocol
	if addr.Is6() {
		family = corev1.IPv6Protocol
	}
	return &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: addr.String(), Labels: map[string]string{
			networkingv1.LabelIPAddressFamily: string(family), networkingv1.LabelManagedBy: claimManager,
		}},
		Spec: networkingv1.IPAddressSpec{ParentRef: &holder},
	}
}

// Release has the record of an address deleted.
func (c *claims) Release(addr netip.Addr) { c.look(addr, true) }

func (c *claims) look(addr netip.Addr, given bool) {
	c.mu.Lock()
	c.dirty[addr] = c.dirty[addr] || given
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default: // one look sees all that happened until then
	}
}

// changed notes the addresses that a change concerns.
func (c *claims) changed(ch objects.Change) {
	if ch.Key.Resource == messages.IPAddresses {
		if addr, err := netip.ParseAddr(ch.Key.Name); err == nil {
			c.look(addr, false)
		}
		return
	}
	for _, side := range []struct {
		obj   objects.Object
		given bool
	}{{ch.Old, true}, {ch.New, false}} {
		svc, ok := side.obj.(*corev1.Service)
		if !ok {
			continue
		}
		for _, ip := range svc.Spec.ClusterIPs {
			if addr, err := netip.ParseAddr(ip); err == nil {
				c.look(addr, side.given)
			}
		}
	}
}

// run keeps the records in step with the Services until ctx ends.
func (c *claims) run(ctx context.Context) {
	stop := c.feed.Follow([]messages.Resource{messages.Services, messages.IPAddresses}, c.changed)
	defer stop()
	all := c.clock.NewTicker(claimPause)
	defer all.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-all.C():
			for _, ip := range objects.List[*networkingv1.IPAddress](c.reader, messages.IPAddresses, "") {
				if addr, err := netip.ParseAddr(ip.Name); err == nil && c.holder(addr) == nil {
					c.look(addr, false)
				}
			}
		case <-c.wake:
		}
		c.settleAll(ctx)
	}
}

func (c *claims) settleAll(ctx context.Context) {
	c.mu.Lock()
	dirty := slices.Collect(maps.Keys(c.dirty))
	c.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(claimWriters)
	for _, addr := range dirty {
		if !c.differs(addr) {
			c.clean(addr)
			continue
		}
		g.Go(func() error {
			if err := c.settle(ctx, addr); err != nil && ctx.Err() == nil {
				c.log.Debug("the record of an address is not mended yet", "addr", addr.String(), "err", err)
				return nil // the next look at all addresses tries again
			}
			c.clean(addr)
			return nil
		})
	}
	_ = g.Wait() // nothing above fails
}

func (c *claims) clean(addr netip.Addr) {
	c.mu.Lock()
	delete(c.dirty, addr)
	c.mu.Unlock()
}

// differs says that an address and its record do not agree.
func (c *claims) differs(addr netip.Addr) bool {
	svc := c.holder(addr)
	ip, ok := objects.Get[*networkingv1.IPAddress](c.reader, addressKey(addr))
	switch {
	case svc == nil:
		return ok && ours(ip) && c.old(ip) && !c.alloc.Holds(addr)
	case !ok:
		return true
	}
	return ours(ip) && *ip.Spec.ParentRef != core.ServiceReference(svc)
}

func (c *claims) settle(ctx context.Context, addr netip.Addr) error {
	svc := c.holder(addr)
	if _, ok := c.reader.Get(addressKey(addr)); ok {
		if err := c.forget(ctx, addr); err != nil {
			return err
		}
	}
	if svc == nil {
		return nil
	}
	_, err := c.writer.Create(ctx, record(addr, core.ServiceReference(svc)))
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// forget deletes the record of an address.
func (c *claims) forget(ctx context.Context, addr netip.Addr) error {
	err := c.writer.Delete(ctx, addressKey(addr), metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

var _ alloc.Claims = (*claims)(nil)
