package api_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// behind serves h with TLS, as the Service of this name in the namespace default. Its endpoints are
// written past the rules, which do not allow addresses of this host.
func (c *cluster) behind(t testing.TB, name string, h http.Handler) {
	t.Helper()
	crt, err := c.auth.Serving(name, []string{name + ".default.svc"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{crt}, ClientAuth: tls.RequestClientCert}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	port := corev1.ServicePort{Name: "https", Port: 443, Protocol: corev1.ProtocolTCP}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{port}}}
	if _, err := c.client.CoreV1().Services("default").Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(srv.Listener.Addr().String())
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{at.Addr().String()}}},
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("https"), Port: ptr.To(int32(at.Port())), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	data, err := c.store.Encode(messages.EndpointSlices, slice)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.store.Commit(t.Context(), state.Op{Key: messages.KeyOf(messages.EndpointSlices, "default", name), Object: slice, Data: data}); err != nil {
		t.Fatal(err)
	}
}

// converts answers for a webhook that renames spec.size, of v1, to spec.length, of v2.
func converts(t testing.TB, calls *atomic.Int64, broken *atomic.Bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		var review apiextensionsv1.ConversionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			t.Error(err)
		}
		out := &apiextensionsv1.ConversionResponse{UID: review.Request.UID, Result: metav1.Status{Status: metav1.StatusSuccess}}
		if broken.Load() {
			out.Result = metav1.Status{Status: metav1.StatusFailure, Message: "no conversion today"}
		}
		for _, in := range review.Request.Objects {
			var obj map[string]any
			if err := json.Unmarshal(in.Raw, &obj); err != nil {
				t.Error(err)
			}
			spec := obj["spec"].(map[string]any)
			from, to := "size", "length"
			if strings.HasSuffix(review.Request.DesiredAPIVersion, "/v1") {
				from, to = to, from
			}
			spec[to] = spec[from]
			delete(spec, from)
			if to == "size" {
				delete(spec, "unit")
			}
			obj["apiVersion"] = review.Request.DesiredAPIVersion
			out.ConvertedObjects = append(out.ConvertedObjects, runtime.RawExtension{Object: &unstructured.Unstructured{Object: obj}})
		}
		review.Request, review.Response = nil, out
		_ = json.NewEncoder(w).Encode(review)
	})
}

func TestCustomResourcesAreConverted(t *testing.T) {
	t.Parallel()
	c := start(t)
	ctx := t.Context()
	var calls atomic.Int64
	var broken atomic.Bool
	c.behind(t, "converter", converts(t, &calls, &broken))
	crd := definition(t, widgets)
	v1 := &crd.Spec.Versions[0]
	v1.Schema.OpenAPIV3Schema.Properties["spec"] = apiextensionsv1.JSONSchemaProps{Type: "object",
		Properties: map[string]apiextensionsv1.JSONSchemaProps{"size": {Type: "integer"}}}
	v1.SelectableFields, v1.AdditionalPrinterColumns = nil, nil
	v2 := *v1.DeepCopy()
	v2.Name, v2.Storage = "v2", false
	v2.Schema.OpenAPIV3Schema.Properties["spec"] = apiextensionsv1.JSONSchemaProps{Type: "object",
		Properties: map[string]apiextensionsv1.JSONSchemaProps{"length": {Type: "integer"}, "unit": {Type: "string", Default: &apiextensionsv1.JSON{Raw: []byte(`"mm"`)}}}}
	crd.Spec.Versions = append(crd.Spec.Versions, v2)
	crd.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{Strategy: apiextensionsv1.WebhookConverter, Webhook: &apiextensionsv1.WebhookConversion{
		ConversionReviewVersions: []string{"v1"},
		ClientConfig: &apiextensionsv1.WebhookClientConfig{CABundle: c.auth.CAPEM(),
			Service: &apiextensionsv1.ServiceReference{Namespace: "default", Name: "converter"}},
	}}
	manifest, err := json.Marshal(crd)
	if err != nil {
		t.Fatal(err)
	}
	c.define(t, strings.Replace(string(manifest), `,"status":{"conditions":null,"acceptedNames":{"plural":"","kind":""},"storedVersions":null}`, "", 1))
	older := c.dynamic(t).Resource(widgetsResource).Namespace("default")
	newer := c.dynamic(t).Resource(widgetsResource.GroupResource().WithVersion("v2")).Namespace("default")
	for i := range 3 {
		if _, err := older.Create(ctx, widget(fmt.Sprint("w", i), map[string]any{"size": int64(i)}), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("%d calls for the version that is stored", n)
	}
	got, err := newer.Get(ctx, "w1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// As in Kubernetes, what is read gets the defaults of the version that is stored.
	if diff := cmp.Diff(map[string]any{"length": int64(1)}, got.Object["spec"]); diff != "" || got.GetAPIVersion() != "example.com/v2" {
		t.Errorf("%s %s", got.GetAPIVersion(), diff)
	}
	for range 2 {
		if list, err := newer.List(ctx, metav1.ListOptions{}); err != nil || len(list.Items) != 3 || list.Items[2].GetAPIVersion() != "example.com/v2" {
			t.Errorf("%v %v", list, err)
		}
	}
	if n := calls.Load(); n != 3 {
		t.Errorf("%d calls for three objects", n)
	}
	w, err := newer.Watch(ctx, metav1.ListOptions{ResourceVersion: got.GetResourceVersion()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	got.Object["spec"].(map[string]any)["length"] = int64(7)
	if _, err = newer.Update(ctx, got, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	for e := range w.ResultChan() {
		o := e.Object.(*unstructured.Unstructured)
		if o.GetName() != "w1" { // made after the revision that w1 has
			continue
		}
		if n, _, _ := unstructured.NestedInt64(o.Object, "spec", "length"); n != 7 {
			t.Errorf("watched %v", o)
		}
		break
	}
	stored, _ := c.store.Get(messages.KeyOf(messages.Resource{Group: "example.com", Resource: "widgets"}, "default", "w1"))
	if n, _, _ := unstructured.NestedInt64(stored.(*unstructured.Unstructured).Object, "spec", "size"); n != 7 || stored.GetObjectKind().GroupVersionKind().Version != "v1" {
		t.Errorf("stored as %v", stored)
	}
	broken.Store(true)
	if _, err := older.Create(ctx, widget("late", map[string]any{"size": int64(1)}), metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := newer.Get(ctx, "late", metav1.GetOptions{}); err == nil || !strings.Contains(err.Error(), "no conversion today") {
		t.Errorf("a broken converter: %v", err)
	}
}

func TestRemoteAPIsAreProxied(t *testing.T) {
	t.Parallel()
	c := start(t)
	ctx := t.Context()
	cm, err := c.client.CoreV1().ConfigMaps("kube-system").Get(ctx, "extension-apiserver-authentication", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	front := x509.NewCertPool()
	if !front.AppendCertsFromPEM([]byte(cm.Data["requestheader-client-ca-file"])) || cm.Data["requestheader-allowed-names"] != `["front-proxy-client"]` {
		t.Errorf("%v", cm.Data)
	}
	const things = `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"remote.example.org/v1","resources":[{"name":"things","singularName":"thing","namespaced":false,"kind":"Thing","verbs":["get","list"]}]}`
	c.behind(t, "remote", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		vouched := false
		if len(r.TLS.PeerCertificates) > 0 {
			crt := r.TLS.PeerCertificates[0]
			_, err := crt.Verify(x509.VerifyOptions{Roots: front, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
			vouched = err == nil && crt.Subject.CommonName == "front-proxy-client"
		}
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/apis/remote.example.org/v1":
			_, _ = io.WriteString(w, things)
		case "/openapi/v3":
			_, _ = io.WriteString(w, `{"paths":{"apis/remote.example.org/v1":{"serverRelativeURL":"/openapi/v3/apis/remote.example.org/v1?hash=1"}}}`)
		case "/openapi/v2":
			_, _ = io.WriteString(w, `{"swagger":"2.0","info":{"title":"r","version":"1"},"paths":{"/apis/remote.example.org/v1/things":{"get":{"description":"all the things","responses":{"200":{"description":"OK"}}}}},"definitions":{}}`)
		case "/openapi/v3/apis/remote.example.org/v1":
			_, _ = io.WriteString(w, `{"openapi":"3.0.0","info":{"title":"remote things"}}`)
		case "/apis/remote.example.org/v1/things":
			fmt.Fprintf(w, `{"user":%q,"group":%q,"vouched":%t,"limit":%q}`, r.Header.Get("X-Remote-User"), r.Header.Get("X-Remote-Group"), vouched, r.URL.Query().Get("limit"))
		default:
			http.NotFound(w, r)
		}
	}))
	client, err := aggregator.NewForConfig(c.LoopbackConfig())
	if err != nil {
		t.Fatal(err)
	}
	services := client.ApiregistrationV1().APIServices()
	svc := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: "v1.remote.example.org"}, Spec: apiregistrationv1.APIServiceSpec{
		Group: "remote.example.org", Version: "v1", GroupPriorityMinimum: 17900, VersionPriority: 1,
		Service: &apiregistrationv1.ServiceReference{Namespace: "default", Name: "remote"}, CABundle: c.auth.CAPEM()}}
	if _, err := services.Create(ctx, svc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	available := func() string {
		svc, err := services.Get(ctx, svc.Name, metav1.GetOptions{})
		if err != nil || len(svc.Status.Conditions) == 0 {
			return ""
		}
		return fmt.Sprint(svc.Status.Conditions[0].Status, " ", svc.Status.Conditions[0].Reason)
	}
	eventually(t, func() bool { return available() == "True Passed" })
	code, body := c.raw(t, "GET", "/apis/remote.example.org/v1/things?limit=3", "", "", "")
	var answer struct {
		User, Group, Limit string
		Vouched            bool
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || code != http.StatusOK {
		t.Fatal(code, body, err)
	}
	if answer.User != "system:apiserver" || answer.Group != "system:masters" && answer.Group != "system:authenticated" || !answer.Vouched || answer.Limit != "3" {
		t.Errorf("passed on as %+v", answer)
	}
	eventually(t, func() bool { // in both forms of discovery
		groups, resources, failed, err := c.client.DiscoveryClient.GroupsAndMaybeResources()
		if err != nil || len(failed) > 0 {
			return false
		}
		at := func(name string) int {
			for i, g := range groups.Groups {
				if g.Name == name {
					return i
				}
			}
			return -1
		}
		for gv, list := range resources {
			if gv.Group == "remote.example.org" && len(list.APIResources) == 1 {
				return at("remote.example.org") >= 0 && at("remote.example.org") < at("apps")
			}
		}
		return false
	})
	_, body = c.raw(t, "GET", "/apis", "", "application/json", "")
	if remote, apps := strings.Index(body, "remote.example.org"), strings.Index(body, `"apps"`); remote < 0 || remote > apps {
		t.Errorf("the older form of discovery has it not before apps: %s", body)
	}
	eventually(t, func() bool {
		_, root := c.raw(t, "GET", "/openapi/v3", "", "", "")
		_, doc := c.raw(t, "GET", "/openapi/v3/apis/remote.example.org/v1", "", "", "")
		_, older := c.raw(t, "GET", "/openapi/v2", "", "", "")
		return strings.Contains(root, "apis/remote.example.org/v1") && strings.Contains(root, "apis/apps/v1") && strings.Contains(doc, "remote things") &&
			strings.Contains(older, "all the things") && strings.Contains(older, "/apis/apps/v1/deployments")
	})

	if err := c.client.DiscoveryV1().EndpointSlices("default").Delete(ctx, "remote", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return strings.HasPrefix(available(), "False ") })
	if code, _ := c.raw(t, "GET", "/apis/remote.example.org/v1/things", "", "", ""); code != http.StatusServiceUnavailable {
		t.Errorf("without endpoints: %d", code)
	}
	if err := services.Delete(ctx, svc.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if code, _ := c.raw(t, "GET", "/apis/remote.example.org/v1/things", "", "", ""); code != http.StatusNotFound {
		t.Errorf("after its deletion: %d", code)
	}
}

func TestBuiltInVersionsHaveAPIServices(t *testing.T) {
	t.Parallel()
	c := start(t)
	client, err := aggregator.NewForConfig(c.LoopbackConfig())
	if err != nil {
		t.Fatal(err)
	}
	list, err := client.ApiregistrationV1().APIServices().List(t.Context(), metav1.ListOptions{LabelSelector: "kube-aggregator.kubernetes.io/automanaged=onstart"})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, svc := range list.Items {
		found[svc.Name] = true
		if svc.Status.Conditions[0].Reason != "Local" || svc.Status.Conditions[0].Status != apiregistrationv1.ConditionTrue {
			t.Errorf("%s: %+v", svc.Name, svc.Status)
		}
	}
	for _, name := range []string{"v1.", "v1.apps", "v1.apiextensions.k8s.io", "v1.rbac.authorization.k8s.io"} {
		if !found[name] {
			t.Errorf("%s is missing", name)
		}
	}
	if found["v1.apiregistration.k8s.io"] {
		t.Error("APIServices have one themselves")
	}
	groups, err := c.client.Discovery().ServerGroups()
	if err != nil || groups.Groups[0].Name != "" || groups.Groups[1].Name != "apiregistration.k8s.io" || groups.Groups[2].Name != "apps" {
		t.Errorf("%v %v", groups, err)
	}
}
