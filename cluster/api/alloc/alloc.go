package alloc

import (
	"context"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
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

// Allocator implements kind.Allocators.
type Allocator struct {
	cidr  netip.Prefix
	size  uint64              // usable addresses, the first of which has offset 1
	apart map[netip.Addr]bool // set aside, never handed out
	mu    sync.Mutex
	ips   map[netip.Addr]struct{}
	ports map[int32]struct{}
}

// New hands out addresses of the range that no Service of the reader holds, but none of those set
// apart: the first of the range, which belongs to the Service "kubernetes", and the given ones.
func New(cidr netip.Prefix, reader objects.Reader, apart ...netip.Addr) *Allocator {
	a := &Allocator{cidr: cidr.Masked(), ips: make(map[netip.Addr]struct{}), ports: make(map[int32]struct{}), apart: make(map[netip.Addr]bool)}
	for _, addr := range append(apart, a.at(1)) {
		if a.cidr.Contains(addr) {
			a.apart[addr], a.ips[addr] = true, struct{}{}
		}
	}
	bits := cidr.Addr().BitLen() - cidr.Bits()
	// Ranges beyond this are more than anybody uses; the rest of a large IPv6 range is left alone.
	a.size = 1<<min(bits, 20) - 1
	if cidr.Addr().Is4() && a.size > 1 {
		a.size-- // not the broadcast address
	}
	for _, svc := range objects.List[*corev1.Service](reader, messages.Services, "") {
		a.hold(svc)
	}
	return a
}

func (a *Allocator) hold(svc *corev1.Service) {
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
func (a *Allocator) DefaultIPFamily() corev1.IPFamily {
	if a.cidr.Addr().Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// Own returns the address that is set apart for the Service of this name.
func (a *Allocator) Own(namespace, name string) (ip string, ok bool) {
	if namespace != metav1.NamespaceDefault || name != kind.APIService {
		return "", false
	}
	return a.at(1).String(), true
}

// AllocateIP reserves the address asked for, or a free one.
func (a *Allocator) AllocateIP(_ context.Context, family corev1.IPFamily, ip string) (string, error) {
	if family != a.DefaultIPFamily() {
		return "", fmt.Errorf("no %s range is configured: %w", family, kind.ErrRange)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if ip != "" {
		addr, err := netip.ParseAddr(ip)
		if err != nil || !a.usable(addr) {
			return "", fmt.Errorf("the provided IP (%s) is %w. The range of valid IPs is %s", ip, kind.ErrRange, a.cidr)
		}
		if _, taken := a.ips[addr]; taken {
			return "", fmt.Errorf("provided IP is %w", kind.ErrAllocated)
		}
		a.ips[addr] = struct{}{}
		return addr.String(), nil
	}
	static := min(max(a.size/staticIPShare, minStaticIPs), maxStaticIPs)
	if static >= a.size {
		static = 0
	}
	addr, ok := a.free(static+1, a.size)
	if !ok {
		addr, ok = a.free(1, static)
	}
	if !ok {
		return "", fmt.Errorf("allocate cluster IP in %s: %w", a.cidr, kind.ErrFull)
	}
	a.ips[addr] = struct{}{}
	return addr.String(), nil
}

// free finds a free address between two offsets, from a random one on.
func (a *Allocator) free(first, last uint64) (netip.Addr, bool) {
	if last < first {
		return netip.Addr{}, false
	}
	n := last - first + 1
	start := rand.Uint64N(n)
	for i := range n {
		addr := a.at(first + (start+i)%n)
		if _, taken := a.ips[addr]; !taken {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

func (a *Allocator) at(offset uint64) netip.Addr {
	base := new(big.Int).SetBytes(a.cidr.Addr().AsSlice())
	raw := base.Add(base, new(big.Int).SetUint64(offset)).FillBytes(make([]byte, a.cidr.Addr().BitLen()/8))
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}

func (a *Allocator) usable(addr netip.Addr) bool {
	return a.cidr.Contains(addr) && addr != a.cidr.Addr() &&
		(!addr.Is4() || a.cidr.Contains(addr.Next()) || a.size <= 1)
}

// ReleaseIP gives an address back.
func (a *Allocator) ReleaseIP(ip string) {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.apart[addr] {
		delete(a.ips, addr)
	}
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
