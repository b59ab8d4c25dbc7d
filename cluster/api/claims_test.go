package api_test

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/cluster/api"
)

func withComponents(cfg *api.Config) {
	cfg.Components = map[string]func() error{"etcd-0": func() error { return nil }, "scheduler": func() error { return errors.New("gone") }}
}

func portService(name string, change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	for _, fn := range change {
		fn(s)
	}
	return s
}

func TestAddressesOfServicesAreOnRecord(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	services, ips := c.client.CoreV1().Services("default"), c.client.NetworkingV1().IPAddresses()
	recorded := func(ip, name string) bool {
		a, err := ips.Get(ctx, ip, metav1.GetOptions{})
		return err == nil && a.Spec.ParentRef.Resource == "services" && a.Spec.ParentRef.Namespace == "default" && a.Spec.ParentRef.Name == name &&
			a.Labels[networkingv1.LabelIPAddressFamily] == "IPv4" && a.Labels[networkingv1.LabelManagedBy] == "ipallocator.k8s.io"
	}
	eventually(t, func() bool { return recorded("10.96.0.1", "kubernetes") })

	if dry, err := services.Create(ctx, portService("dry"), metav1.CreateOptions{DryRun: []string{"All"}}); err != nil {
		t.Fatal(err)
	} else if _, err := ips.Get(ctx, dry.Spec.ClusterIP, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("record of a dry run: %v", err)
	}
	svc, err := services.Create(ctx, portService("a"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ip := svc.Spec.ClusterIP
	if !recorded(ip, "a") {
		t.Errorf("%s is not on record when create returns", ip)
	}
	if err := ips.Delete(ctx, ip, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return recorded(ip, "a") })
	if err := services.Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	// The address is free at once, whether or not its record is gone already.
	if _, err := services.Create(ctx, portService("b", func(s *corev1.Service) { s.Spec.ClusterIP = ip }), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return recorded(ip, "b") })
	if err := services.Delete(ctx, "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		_, err := ips.Get(ctx, ip, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})

	mine := &networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "10.96.0.77"}, Spec: networkingv1.IPAddressSpec{
		ParentRef: &networkingv1.ParentReference{Group: "example.com", Resource: "gateways", Name: "g"}}}
	if _, err := ips.Create(ctx, mine, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = services.Create(ctx, portService("c", func(s *corev1.Service) { s.Spec.ClusterIP = "10.96.0.77" }), metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) {
		t.Errorf("create with somebody else's address: %v, want Invalid", err)
	}
}

func TestServiceCIDRsExtendTheRange(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	cidrs, services := c.client.NetworkingV1().ServiceCIDRs(), c.client.CoreV1().Services("default")
	own, err := cidrs.Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil || own.Spec.CIDRs[0] != "10.96.0.0/16" || !apimeta.IsStatusConditionTrue(own.Status.Conditions, "Ready") {
		t.Fatalf("the cluster's own: %+v, %v", own, err)
	}
	ask := func(name string) error {
		_, err := services.Create(ctx, portService(name, func(s *corev1.Service) { s.Spec.ClusterIP = "10.200.0.5" }), metav1.CreateOptions{})
		return err
	}
	if err := ask("early"); !apierrors.IsInvalid(err) {
		t.Errorf("outside of the range: %v, want Invalid", err)
	}
	more, err := cidrs.Create(ctx, &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "more"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.200.0.0/24"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	apimeta.SetStatusCondition(&more.Status.Conditions, metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Test"})
	if _, err := cidrs.UpdateStatus(ctx, more, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := ask("later"); err != nil {
		t.Errorf("inside of the larger range: %v", err)
	}
	if err := cidrs.Delete(ctx, "kubernetes", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		again, err := cidrs.Get(ctx, "kubernetes", metav1.GetOptions{})
		return err == nil && again.UID != own.UID
	})
}
