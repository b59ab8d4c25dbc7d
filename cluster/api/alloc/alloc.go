package alloc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/messages"
)

// The range of node ports, as Kubernetes has it by default.
const (
	FirstNodePort = 30000
	LastNodePort  = 32767
)

// staticPorts and the like are kept for users who ask for a value by name: automatic choice takes
// from the rest of the range while it lasts.
const (
	staticPorts   = 86
	minStaticIPs  = 16
	maxStaticIPs  = 256
	staticIPShare = 16
)

// Claims keeps on record who holds an address, so that everybody can see it and no two servers hand
// the same one out.
type Claims interface {
	// Claim records a holder. The error wraps kind.ErrAllocated when there is another one.
	Claim(ctx context.Context, addr netip.Addr, holder networkingv1.ParentReference) error
	// Held says that an address has a holder on record, one that still exists.
	Held(addr netip.Addr) bool
	// Release strikes the holder from the record, soon.
	Release(addr netip.Addr)
}

// Allocator implements kind.Allocators.
type Allocator struct {
	*taken
	claims Claims // nil means that nothing is recorded
	dry    bool
}

// taken is what an allocator knows to be in use, for all of its views.
type taken struct {
	base   span
	reader objects.Reader
	apart  map[netip.Addr]bool // set aside, never handed out
	mu     sync.Mutex
	ips    map[netip.Addr]struct{}
	ports  map[int32]struct{}
}

// New hands out addresses of the range, and of the ServiceCIDRs of the reader once there are any,
// that no Service of the reader holds, but none of those set apart: the first of the range, which
// belongs to the Service "kubernetes", and the given ones.
func New(cidr netip.Prefix, reader objects.Reader, apart ...netip.Addr) *Allocator {
	t := &taken{base: spanOf(cidr), reader: reader, ips: make(map[netip.Addr]struct{}), ports: make(map[int32]struct{}), apart: make(map[netip.Addr]bool)}
	for _, addr := range append(apart, t.base.at(1)) {
		if t.base.Contains(addr) {
			t.apart[addr], t.ips[addr] = true, struct{}{}
		}
	}
	for _, svc := range objects.List[*corev1.Service](reader, messages.Services, "") {
		t.hold(svc)
	}
	return &Allocator{taken: t}
}

// Record keeps allocations on record from now on. To be called before the first one.
func (a *Allocator) Record(c Claims) { a.claims = c }

// DryRun is a view that reserves in memory only, until it is released.
func (a *Allocator) DryRun() *Allocator {
	return &Allocator{taken: a.taken, claims: a.claims, dry: true}
}

// Holds says that this process has handed an address out, or is about to.
func (a *Allocator) Holds(addr netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.ips[addr]
	return ok
}

// Changed takes in that a Service was written by another control plane, which has its own Allocator.
// What is on record is that one's business.
func (a *Allocator) Changed(old, now *corev1.Service) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old != nil {
		for _, ip := range old.Spec.ClusterIPs {
			if addr, err := netip.ParseAddr(ip); err == nil && !a.apart[addr] {
				delete(a.ips, addr)
			}
		}
		for _, p := range old.Spec.Ports {
			delete(a.ports, p.NodePort)
		}
	}
	if now != nil {
		a.hold(now)
	}
}

func (a *taken) hold(svc *corev1.Service) {
	for _, ip := range svc.Spec.ClusterIPs {
		if addr, err := netip.ParseAddr(ip); err == nil {
			a.ips[addr] = struct{}{}
		}
	}
	for _, p := range svc.Spec.Ports {
		if p.NodePort != 0 {
			a.ports[p.NodePort] = struct{}{}
		}
	}
	if p := svc.Spec.HealthCheckNodePort; p != 0 {
		a.ports[p] = struct{}{}
	}
}

// DefaultIPFamily is the family of the range.
func (a *Allocator) DefaultIPFamily() corev1.IPFamily { return a.base.family() }

// Own returns the address that is set apart for the Service of this name.
func (a *Allocator) Own(namespace, name string) (ip string, ok bool) {
	if namespace != metav1.NamespaceDefault || name != kind.APIService {
		return "", false
	}
	return a.base.at(1).String(), true
}

// AllocateIP reserves the address asked for, or a free one, for the holder.
func (a *Allocator) AllocateIP(ctx context.Context, holder networkingv1.ParentReference, family corev1.IPFamily, ip string) (string, error) {
	spans := a.spans(family)
	if len(spans) == 0 {
		return "", fmt.Errorf("no %s range is configured: %w", family, kind.ErrRange)
	}
	if ip != "" {
		addr, err := netip.ParseAddr(ip)
		if err != nil || !slices.ContainsFunc(spans, func(s span) bool { return s.usable(addr) }) {
			return "", fmt.Errorf("the provided IP (%s) is %w. The range of valid IPs is %s", ip, kind.ErrRange, rangeNames(spans))
		}
		if !a.reserve(addr) {
			return "", fmt.Errorf("provided IP is %w", kind.ErrAllocated)
		}
		return addr.String(), a.claim(ctx, addr, holder)
	}
	for {
		addr, ok := a.reserveFree(spans)
		if !ok {
			return "", fmt.Errorf("allocate cluster IP in %s: %w", rangeNames(spans), kind.ErrFull)
		}
		err := a.claim(ctx, addr, holder)
		if errors.Is(err, kind.ErrAllocated) {
			continue // by another server, whose record has come in by now
		}
		return addr.String(), err
	}
}

// claim records the holder of a reserved address, and gives that back if it cannot.
func (a *Allocator) claim(ctx context.Context, addr netip.Addr, holder networkingv1.ParentReference) error {
	if a.claims == nil || a.dry {
		return nil
	}
	err := a.claims.Claim(ctx, addr, holder)
	if err != nil {
		a.drop(addr)
	}
	return err
}

// reserve takes an address unless it is taken.
func (a *Allocator) reserve(addr netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.isTaken(addr) {
		return false
	}
	a.ips[addr] = struct{}{}
	return true
}

// isTaken wants the lock.
func (a *Allocator) isTaken(addr netip.Addr) bool {
	if _, ok := a.ips[addr]; ok {
		return true
	}
	return a.claims != nil && a.claims.Held(addr)
}

// reserveFree takes a free address of the first range that has one.
func (a *Allocator) reserveFree(spans []span) (netip.Addr, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range spans {
		static := min(max(s.size/staticIPShare, minStaticIPs), maxStaticIPs)
		if static >= s.size {
			static = 0
		}
		addr, ok := a.free(s, static+1, s.size)
		if !ok {
			addr, ok = a.free(s, 1, static)
		}
		if ok {
			a.ips[addr] = struct{}{}
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// free finds a free address between two offsets, from a random one on.
func (a *Allocator) free(s span, first, last uint64) (netip.Addr, bool) {
	if last < first {
		return netip.Addr{}, false
	}
	n := last - first + 1
	start := rand.Uint64N(n)
	for i := range n {
		addr := s.at(first + (start+i)%n)
		if !a.isTaken(addr) {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// ReleaseIP gives an address back.
func (a *Allocator) ReleaseIP(ip string) {
	addr, err := netip.ParseAddr(ip)
	if err != nil || !a.drop(addr) {
		return
	}
	if a.claims != nil && !a.dry {
		a.claims.Release(addr)
	}
}

// drop frees an address, unless it is set apart.
func (a *Allocator) drop(addr netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.apart[addr] {
		return false
	}
	delete(a.ips, addr)
	return true
}

// AllocateNodePort reserves the port asked for, or a free one.
func (a *Allocator) AllocateNodePort(_ context.Context, port int32) (int32, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if port != 0 {
		if port < FirstNodePort || port > LastNodePort {
			return 0, fmt.Errorf("provided port is %w. The range of valid ports is %d-%d", kind.ErrRange, FirstNodePort, LastNodePort)
		}
		if _, taken := a.ports[port]; taken {
			return 0, fmt.Errorf("provided port is %w", kind.ErrAllocated)
		}
		a.ports[port] = struct{}{}
		return port, nil
	}
	for _, r := range [][2]int32{{FirstNodePort + staticPorts, LastNodePort}, {FirstNodePort, FirstNodePort + staticPorts - 1}} {
		n := r[1] - r[0] + 1
		start := rand.Int32N(n)
		for i := range n {
			p := r[0] + (start+i)%n
			if _, taken := a.ports[p]; !taken {
				a.ports[p] = struct{}{}
				return p, nil
			}
		}
	}
	return 0, fmt.Errorf("allocate node port in %d-%d: %w", FirstNodePort, LastNodePort, kind.ErrFull)
}

// ReleaseNodePort gives a port back.
func (a *Allocator) ReleaseNodePort(port int32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.ports, port)
}

var _ kind.Allocators = (*Allocator)(nil)
