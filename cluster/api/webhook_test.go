package api_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	registration "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/testcerts"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// hook is a webhook server of a test.
type hook struct {
	*httptest.Server
	ca    []byte
	calls atomic.Int64
	last  atomic.Pointer[admissionv1.AdmissionRequest]
}

// serveHook answers reviews with what answer says.
func serveHook(t *testing.T, answer func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse) *hook {
	t.Helper()
	h := &hook{}
	h.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h.calls.Add(1)
		h.last.Store(review.Request)
		response := answer(review.Request)
		if response == nil { // never answers
			<-r.Context().Done()
			return
		}
		response.UID = review.Request.UID
		review.Request, review.Response = nil, response
		_ = json.NewEncoder(w).Encode(review)
	}))
	h.StartTLS()
	h.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw})
	t.Cleanup(h.Close)
	return h
}

func allow(patch string) *admissionv1.AdmissionResponse {
	r := &admissionv1.AdmissionResponse{Allowed: true}
	if patch != "" {
		r.Patch, r.PatchType = []byte(patch), ptr.To(admissionv1.PatchTypeJSONPatch)
	}
	return r
}

func onConfigMaps(ops ...registration.OperationType) []registration.RuleWithOperations {
	return []registration.RuleWithOperations{{Operations: ops, Rule: registration.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}}}}
}

func (h *hook) client() registration.WebhookClientConfig {
	return registration.WebhookClientConfig{URL: &h.URL, CABundle: h.ca}
}

// mutates registers a mutating hook; validates a validating one.
func (c *cluster) mutates(t *testing.T, name string, h *hook, change func(*registration.MutatingWebhook)) {
	t.Helper()
	w := registration.MutatingWebhook{Name: name + ".example.com", ClientConfig: h.client(), Rules: onConfigMaps("*"),
		SideEffects: ptr.To(registration.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"}}
	if change != nil {
		change(&w)
	}
	_, err := c.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(t.Context(),
		&registration.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}, Webhooks: []registration.MutatingWebhook{w}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) validates(t *testing.T, name string, client registration.WebhookClientConfig, change func(*registration.ValidatingWebhook)) {
	t.Helper()
	w := registration.ValidatingWebhook{Name: name + ".example.com", ClientConfig: client, Rules: onConfigMaps("*"),
		SideEffects: ptr.To(registration.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"}}
	if change != nil {
		change(&w)
	}
	_, err := c.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(t.Context(),
		&registration.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}, Webhooks: []registration.ValidatingWebhook{w}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) configMap(t *testing.T, name string, labels map[string]string, dry ...string) (*corev1.ConfigMap, error) {
	t.Helper()
	return c.client.CoreV1().ConfigMaps("default").Create(t.Context(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Data: map[string]string{"k": "v"}}, metav1.CreateOptions{DryRun: dry})
}

func TestMutatingWebhooks(t *testing.T) {
	t.Parallel()
	c := start(t)
	first := serveHook(t, func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		var cm corev1.ConfigMap
		if err := json.Unmarshal(r.Object.Raw, &cm); err != nil {
			t.Error(err)
		}
		return allow(fmt.Sprintf(`[{"op":"add","path":"/data/seen","value":"%d"}]`, len(cm.Data)))
	})
	second := serveHook(t, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return allow(`[{"op":"add","path":"/data/second","value":"x"}]`)
	})
	c.mutates(t, "a", first, func(w *registration.MutatingWebhook) {
		w.ReinvocationPolicy = ptr.To(registration.IfNeededReinvocationPolicy)
	})
	c.mutates(t, "b", second, nil)
	cm, err := c.configMap(t, "one", nil)
	if err != nil {
		t.Fatal(err)
	}
	// The first is asked again because the second changed something; by then there is a third key.
	if cm.Data["second"] != "x" || cm.Data["seen"] != "3" || first.calls.Load() != 2 || second.calls.Load() != 1 {
		t.Errorf("data %v after %d and %d calls", cm.Data, first.calls.Load(), second.calls.Load())
	}
	if r := first.last.Load(); r.Kind.Kind != "ConfigMap" || r.Resource.Resource != "configmaps" || r.Namespace != "default" || r.UserInfo.Username == "" || *r.DryRun {
		t.Errorf("request %+v", r)
	}
	if cm, err := c.configMap(t, "dry", nil, metav1.DryRunAll); err != nil || cm.Data["second"] != "x" || !*first.last.Load().DryRun {
		t.Errorf("dry run: %v %v", cm.Data, err)
	}
	// What the control plane writes itself is shown to them too.
	out, err := c.Local("test").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "local"}})
	if err == nil {
		t.Fatal("a patch below a field that is not there was applied:", out)
	}
	out, err = c.Local("test").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "local"}, Data: map[string]string{"k": "v"}})
	if err != nil || out.(*corev1.ConfigMap).Data["second"] != "x" {
		t.Errorf("a local write: %v", err)
	}
}

func TestValidatingWebhooks(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	deny := serveHook(t, func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Allowed: false, Warnings: []string{"careful"}, Result: &metav1.Status{Message: "not " + r.Name, Code: http.StatusTeapot}}
	})
	silent := serveHook(t, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse { return nil })
	dead := serveHook(t, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse { return allow("") })
	dead.Close()
	only := func(value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"to": value}}
	}
	c.validates(t, "deny", deny.client(), func(w *registration.ValidatingWebhook) {
		w.ObjectSelector = only("deny")
		w.MatchConditions = []registration.MatchCondition{{Name: "not-spared", Expression: "!has(object.metadata.labels.spared)"}}
	})
	c.validates(t, "silent", silent.client(), func(w *registration.ValidatingWebhook) {
		w.ObjectSelector, w.TimeoutSeconds = only("silent"), ptr.To[int32](1)
	})
	c.validates(t, "dead", dead.client(), func(w *registration.ValidatingWebhook) { w.ObjectSelector = only("dead") })
	c.validates(t, "ignored", dead.client(), func(w *registration.ValidatingWebhook) {
		w.ObjectSelector, w.FailurePolicy = only("ignored"), ptr.To(registration.Ignore)
	})
	c.validates(t, "elsewhere", deny.client(), func(w *registration.ValidatingWebhook) {
		w.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"no": "such"}}
	})
	for name, tc := range map[string]struct {
		labels map[string]string
		err    string
		code   int32
	}{
		"nobody asks":  {nil, "", 0},
		"denied":       {map[string]string{"to": "deny"}, `admission webhook "deny.example.com" denied the request: not denied`, http.StatusTeapot},
		"spared":       {map[string]string{"to": "deny", "spared": ""}, "", 0},
		"no answer":    {map[string]string{"to": "silent"}, `failed calling webhook "silent.example.com"`, http.StatusInternalServerError},
		"not there":    {map[string]string{"to": "dead"}, `failed calling webhook "dead.example.com": failed to call webhook: Post`, http.StatusInternalServerError},
		"may be wrong": {map[string]string{"to": "ignored"}, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.configMap(t, strings.ReplaceAll(name, " ", "-"), tc.labels)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Fatalf("error %v, want %q", err, tc.err)
			}
			if status, ok := err.(apierrors.APIStatus); ok && status.Status().Code != tc.code { //nolint:errorlint // as it comes
				t.Errorf("code %d, want %d", status.Status().Code, tc.code)
			}
		})
	}
	if _, err := c.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "other"}}, metav1.CreateOptions{}); err != nil {
		t.Errorf("an object that no rule is about: %v", err)
	}
	// Whoever holds everything up can always be taken away.
	if err := c.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(ctx, "deny", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { _, err := c.configMap(t, "free", map[string]string{"to": "deny"}); return err == nil })
}

// TestWebhooksBehindServices has the server find the endpoint and speak to it by the Service's name.
func TestWebhooksBehindServices(t *testing.T) {
	t.Parallel()
	c := start(t)
	pair, err := tls.X509KeyPair(testcerts.ServerCert, testcerts.ServerKey)
	if err != nil {
		t.Fatal(err)
	}
	asked := serveHook(t, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: "found you"}}
	})
	asked.TLS.Certificates = []tls.Certificate{pair}
	at := netip.MustParseAddrPort(asked.Listener.Addr().String())
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "webhook-test"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "https", Port: 8443}}}}
	if _, err := c.client.CoreV1().Services("default").Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	client := registration.WebhookClientConfig{CABundle: testcerts.CACert,
		Service: &registration.ServiceReference{Namespace: "default", Name: "webhook-test", Path: ptr.To("/check"), Port: ptr.To[int32](8443)}}
	c.validates(t, "service", client, nil)
	if _, err := c.configMap(t, "a", nil); err == nil || !strings.Contains(err.Error(), `no endpoints available for service "webhook-test"`) {
		t.Errorf("without endpoints: %v", err)
	}
	// The API takes no slice with a loopback address; the test has no other.
	c.putPast(t, messages.KeyOf(messages.EndpointSlices, "default", "webhook-test-1"), &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "webhook-test-1", Labels: map[string]string{discoveryv1.LabelServiceName: "webhook-test"}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{at.Addr().String()}}},
		Ports: []discoveryv1.EndpointPort{{Name: ptr.To("https"), Port: ptr.To(int32(at.Port())), Protocol: ptr.To(corev1.ProtocolTCP)}},
	})
	if _, err := c.configMap(t, "a", nil); err == nil || !strings.Contains(err.Error(), "found you") {
		t.Errorf("with an endpoint: %v", err)
	}
}

// putPast writes an object past the API.
func (c *cluster) putPast(t *testing.T, key messages.Key, obj objects.Object) {
	t.Helper()
	data, err := c.store.Encode(key.Resource, obj)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.store.Commit(context.WithoutCancel(t.Context()), state.Op{Key: key, Object: obj, Data: data}); err != nil {
		t.Fatal(err)
	}
}
