package api_test

import (
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/cluster/api"
)

func TestAddressesOfTheClusterAreNobodyElses(t *testing.T) {
	t.Parallel()
	c, ctx := start(t, func(cfg *api.Config) { cfg.DNS = netip.MustParseAddr("10.96.0.10") }), t.Context()
	services := c.client.CoreV1().Services("default")
	ask := func(name, ip string) error {
		_, err := services.Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Port: 80}}}}, metav1.CreateOptions{})
		return err
	}
	refused := func(ip string) {
		t.Helper()
		want := `spec.clusterIPs: Invalid value: ["` + ip + `"]: failed to allocate IP ` + ip + `: provided IP is already allocated`
		if err := ask("mine", ip); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("create with %s: %v, want %s", ip, err, want)
		}
	}
	refused("10.96.0.1")
	refused("10.96.0.10")
	if err := ask("mine", "10.96.0.11"); err != nil {
		t.Errorf("create beside them: %v", err)
	}
}
