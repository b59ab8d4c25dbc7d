package proxy

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/troupe-run/troupe/proxy/netlab"
	"github.com/troupe-run/troupe/proxy/rules"
)

// idle is a backend that is always content.
type idle struct{ rules.Backend }

func (idle) Verify(context.Context) error { return nil }

func TestVerifyMendsTheInterface(t *testing.T) {
	netlab.Need(t)
	addrs := []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:96::a")}
	l := linked{idle{}, "troupe-dns", addrs}
	t.Cleanup(func() {
		if err := removeLink("troupe-dns"); err != nil {
			t.Error(err)
		}
	})
	for name, harm := range map[string]string{
		"new":                "ip link show lo",
		"right":              "ip link show lo",
		"interface deleted":  "ip link del troupe-dns",
		"interface down":     "ip link set troupe-dns down",
		"address deleted":    "ip addr flush dev troupe-dns",
		"address of earlier": "ip addr add 10.43.0.10/32 dev troupe-dns",
	} {
		t.Run(name, func(t *testing.T) {
			if err := ensureLink(l.name, l.addrs); err != nil {
				t.Fatal(err)
			}
			netlab.Run(t, harm)
			if err := l.Verify(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := netlab.Output(t, "ip", "addr", "show", "dev", "troupe-dns")
			for _, want := range []string{"10.96.0.10/32", "fd00:96::a/128 scope global nodad", ",UP"} {
				if !strings.Contains(got, want) {
					t.Errorf("%s is missing in %s", want, got)
				}
			}
			if strings.Contains(got, "10.43.0.10") {
				t.Errorf("state: %s", got)
			}
		})
	}
}
