package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/util/cert"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/conversion"
)

// replica is one process of the operator: a manager that runs until it is stopped.
type replica struct {
	ctrl.Manager
	stop func()
}

// newReplica starts a replica; with hooks it serves the webhooks there, else none.
func newReplica(t *testing.T, scheme *runtime.Scheme, name string, hooks webhook.Server) *replica {
	t.Helper()
	cfg, err := shared.config()
	if err != nil {
		t.Fatal(err)
	}
	cfg.UserAgent = "operator-" + name
	m, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme: scheme, Metrics: server.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		WebhookServer: hooks, LeaderElection: true, LeaderElectionID: "gadgets", LeaderElectionNamespace: operatorNamespace,
		LeaderElectionReleaseOnCancel: true, LeaseDuration: ptr.To(4 * time.Second), RenewDeadline: ptr.To(3 * time.Second), RetryPeriod: ptr.To(200 * time.Millisecond),
	})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		m.GetFieldIndexer().IndexField(t.Context(), &gadget{}, byColour, func(o client.Object) []string { return []string{o.(*gadget).Spec.Colour} }),
		ctrl.NewControllerManagedBy(m).For(&gadget{}).Owns(&corev1.ConfigMap{}).Complete(&gadgetReconciler{m.GetClient(), name}))
	if hooks != nil {
		err = errors.Join(err, ctrl.NewWebhookManagedBy(m, &gadget{}).WithDefaulter(gadgetRules{}).WithValidator(gadgetRules{}).
			WithConverter(conversion.NewHubSpokeConverter(&gadget{}, conversion.NewSpokeConverter(&oldGadget{}, gadgetToOld, gadgetFromOld))).Complete())
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Start(ctx) }()
	r := &replica{Manager: m, stop: sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("replica %s: %v", name, err)
		}
	})}
	t.Cleanup(r.stop)
	return r
}

// newHooks makes a server of webhooks with a certificate of its own, and says how it is reached.
func newHooks(t *testing.T) (webhook.Server, admissionv1.WebhookClientConfig) {
	t.Helper()
	certPEM, keyPEM, err := cert.GenerateSelfSignedCertKey("127.0.0.1", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(dir+"/tls.crt", certPEM, 0o600), os.WriteFile(dir+"/tls.key", keyPEM, 0o600)); err != nil {
		t.Fatal(err)
	}
	// The library wants to know the port before it listens.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return webhook.NewServer(webhook.Options{Host: "127.0.0.1", Port: n, CertDir: dir}),
		admissionv1.WebhookClientConfig{URL: ptr.To("https://127.0.0.1:" + port), CABundle: certPEM}
}

// decodeAll reads the objects of a manifest.
func decodeAll(t *testing.T, path string, into ...client.Object) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), 4096)
	for _, obj := range into {
		if err := d.Decode(obj); err != nil {
			t.Fatal(err)
		}
	}
}

// installOperator creates what an operator's manifests do, with webhooks at a place.
func installOperator(ctx context.Context, t *testing.T, c client.Client, at admissionv1.WebhookClientConfig) {
	t.Helper()
	there := func(path string) admissionv1.WebhookClientConfig {
		return admissionv1.WebhookClientConfig{URL: ptr.To(*at.URL + path), CABundle: at.CABundle}
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	decodeAll(t, "testdata/operator/crd.yaml", crd)
	convert := there("/convert")
	crd.Spec.Conversion.Webhook.ClientConfig = &apiextensionsv1.WebhookClientConfig{URL: convert.URL, CABundle: convert.CABundle}
	mutating, validating := &admissionv1.MutatingWebhookConfiguration{}, &admissionv1.ValidatingWebhookConfiguration{}
	decodeAll(t, "testdata/operator/webhooks.yaml", mutating, validating)
	mutating.Webhooks[0].ClientConfig = there(*mutating.Webhooks[0].ClientConfig.URL)
	validating.Webhooks[0].ClientConfig = there(*validating.Webhooks[0].ClientConfig.URL)
	for _, obj := range []client.Object{&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: operatorNamespace}}, crd, mutating, validating} {
		if err := c.Create(ctx, obj); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { // others use the cluster, too
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		for _, obj := range []client.Object{mutating, validating, crd} {
			if err := c.Delete(ctx, obj); err != nil {
				t.Errorf("remove the operator: %v", err)
			}
		}
	})
	until(ctx, t, "the definition is established", func(ctx context.Context) error {
		if err := c.Get(ctx, client.ObjectKeyFromObject(crd), crd); err != nil {
			return err
		}
		for _, cond := range crd.Status.Conditions {
			if cond.Type == apiextensionsv1.Established && cond.Status == apiextensionsv1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("%+v", crd.Status.Conditions)
	})
}
