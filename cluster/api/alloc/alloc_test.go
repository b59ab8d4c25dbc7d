package alloc_test

import (
	"errors"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/api/alloc"
	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/messages"
)

// services is a reader that knows Services only.
type services []objects.Object

func (services) Get(messages.Key) (objects.Object, bool)                        { return nil, false }
func (s services) List(messages.Resource, string) []objects.Object              { return s }
func (services) Index(messages.Resource, string, string) (out []objects.Object) { return out }
func (services) Resources() []messages.Resource                                 { return nil }

func TestSmallRangeIsHandedOutWholeAndOnce(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cidr   string
		family corev1.IPFamily
		want   int
	}{
		"IPv4 without network and broadcast": {"10.0.0.0/28", corev1.IPv4Protocol, 13},
		"IPv6 without the network":           {"fd00::/124", corev1.IPv6Protocol, 14},
	} {
		t.Run(name, func(t *testing.T) {
			prefix := netip.MustParsePrefix(tc.cidr)
			a := alloc.New(prefix, services{})
			seen := make(map[string]bool)
			for {
				ip, err := a.AllocateIP(t.Context(), networkingv1.ParentReference{}, tc.family, "")
				if errors.Is(err, kind.ErrFull) {
					break
				}
				if err != nil || seen[ip] || !prefix.Contains(netip.MustParseAddr(ip)) {
					t.Fatalf("allocate: %q, %v after %d", ip, err, len(seen))
				}
				seen[ip] = true
			}
			if len(seen) != tc.want || seen[prefix.Addr().String()] {
				t.Errorf("handed out %d: %v, want %d", len(seen), seen, tc.want)
			}
		})
	}
}

func TestWhatServicesHoldIsTaken(t *testing.T) {
	t.Parallel()
	a := alloc.New(netip.MustParsePrefix("10.0.0.0/24"), services{&corev1.Service{Spec: corev1.ServiceSpec{
		ClusterIPs: []string{"10.0.0.9"}, Ports: []corev1.ServicePort{{NodePort: 30001}}, HealthCheckNodePort: 30002,
	}}})
	for ip, want := range map[string]error{
		"10.0.0.9": kind.ErrAllocated, "10.0.0.10": nil, "10.0.0.0": kind.ErrRange, "10.0.0.255": kind.ErrRange, "10.0.1.1": kind.ErrRange,
	} {
		if _, err := a.AllocateIP(t.Context(), networkingv1.ParentReference{}, corev1.IPv4Protocol, ip); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", ip, err, want)
		}
	}
	for port, want := range map[int32]error{
		30001: kind.ErrAllocated, 30002: kind.ErrAllocated, 30003: nil, 29999: kind.ErrRange, 32768: kind.ErrRange,
	} {
		if _, err := a.AllocateNodePort(t.Context(), port); !errors.Is(err, want) {
			t.Errorf("%d: %v, want %v", port, err, want)
		}
	}
	a.ReleaseIP("10.0.0.9")
	if _, err := a.AllocateIP(t.Context(), networkingv1.ParentReference{}, corev1.IPv4Protocol, "10.0.0.9"); err != nil {
		t.Errorf("released address: %v", err)
	}
	if _, err := a.AllocateIP(t.Context(), networkingv1.ParentReference{}, corev1.IPv6Protocol, ""); !errors.Is(err, kind.ErrRange) {
		t.Errorf("other family: %v, want ErrRange", err)
	}
}

func TestWhatIsSetApartIsNotHandedOut(t *testing.T) {
	t.Parallel()
	outside := netip.MustParseAddr("10.0.1.10")
	a := alloc.New(netip.MustParsePrefix("10.0.0.0/28"), services{}, netip.MustParseAddr("10.0.0.10"), outside, netip.Addr{})
	for _, ip := range []string{"10.0.0.1", "10.0.0.10"} {
		for range 2 {
			if _, err := a.AllocateIP(t.Context(), networkingv1.ParentReference{}, corev1.IPv4Protocol, ip); !errors.Is(err, kind.ErrAllocated) {
				t.Errorf("%s: %v, want ErrAllocated", ip, err)
			}
			a.ReleaseIP(ip)
		}
	}
	if _, err := a.AllocateIP(t.Context(), networkingv1.ParentReference{}, corev1.IPv4Protocol, outside.String()); !errors.Is(err, kind.ErrRange) {
		t.Errorf("%s: %v, want ErrRange", outside, err)
	}
	if ip, ok := a.Own("default", "kubernetes"); ip != "10.0.0.1" || !ok {
		t.Errorf("the API's Service has %q, %t", ip, ok)
	}
	if ip, ok := a.Own("other", "kubernetes"); ok {
		t.Errorf("a Service of the same name elsewhere has %s", ip)
	}
}
