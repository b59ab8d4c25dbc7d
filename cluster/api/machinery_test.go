package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api"
	"github.com/troupe-run/troupe/cluster/api/kinds"
)

// get answers one request as an administrator.
func (c *cluster) get(t *testing.T, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	client, err := rest.HTTPClientFor(c.LoopbackConfig())
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, c.LoopbackConfig().Host+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func TestListsComeInPages(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	if _, err := c.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "pages"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	all := c.client.CoreV1().ConfigMaps("pages")
	var want []string
	for i := range 7 {
		cm := configMap(fmt.Sprintf("m%d", i), nil)
		cm.Namespace, cm.Labels = "pages", map[string]string{"odd": fmt.Sprint(i%2 == 1)}
		if _, err := all.Create(ctx, cm, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		want = append(want, cm.Name)
	}
	var got []string
	opts := metav1.ListOptions{Limit: 3}
	for pages := 1; ; pages++ {
		list, err := all.List(ctx, opts)
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Items) > 3 || pages > 3 {
			t.Fatalf("page %d has %d items", pages, len(list.Items))
		}
		for i := range list.Items {
			got = append(got, list.Items[i].Name)
		}
		if pages == 1 && ptr.Deref(list.RemainingItemCount, 0) != 4 {
			t.Errorf("remaining after the first page: %d, want 4", ptr.Deref(list.RemainingItemCount, 0))
		}
		if opts.Continue = list.Continue; opts.Continue == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages hold %v, want %v", got, want)
	}
	if _, err := all.List(ctx, metav1.ListOptions{Continue: "nonsense"}); !apierrors.IsBadRequest(err) {
		t.Errorf("a bad token: %v, want BadRequest", err)
	}

	if err := all.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "odd=true"}); err != nil {
		t.Fatal(err)
	}
	left, err := all.List(ctx, metav1.ListOptions{LabelSelector: "odd"})
	if err != nil || len(left.Items) != 4 {
		t.Errorf("left by the deletion of some: %d, %v, want 4", len(left.Items), err)
	}
}

func TestPreconditionsOfDeletion(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	all := c.client.CoreV1().ConfigMaps("default")
	made, err := all.Create(ctx, configMap("a", nil), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, pre := range map[string]metav1.Preconditions{
		"uid":             {UID: ptr.To(made.UID + "x")},
		"resourceVersion": {ResourceVersion: ptr.To("1")},
	} {
		if err := all.Delete(ctx, "a", metav1.DeleteOptions{Preconditions: &pre}); !apierrors.IsConflict(err) {
			t.Errorf("another %s: %v, want Conflict", name, err)
		}
	}
	pre := metav1.Preconditions{UID: &made.UID, ResourceVersion: &made.ResourceVersion}
	if err := all.Delete(ctx, "a", metav1.DeleteOptions{Preconditions: &pre, DryRun: []string{"All"}}); err != nil {
		t.Errorf("dry run: %v", err)
	}
	if err := all.Delete(ctx, "a", metav1.DeleteOptions{Preconditions: &pre}); err != nil {
		t.Errorf("the right object: %v", err)
	}
}

func TestGeneratedNames(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	seen := make(map[string]bool)
	for range 3 {
		cm, err := c.client.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "gen-"}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(cm.Name, "gen-") || len(cm.Name) != len("gen-")+5 || seen[cm.Name] {
			t.Errorf("name %q", cm.Name)
		}
		seen[cm.Name] = true
	}
}

func TestWarningsReachTheClient(t *testing.T) {
	t.Parallel()
	c := start(t)
	for name, tc := range map[string]struct{ method, path, body, want string }{
		"deprecated kind": {"GET", "/api/v1/componentstatuses", "", "v1 ComponentStatus is deprecated in v1.19+"},
		"endpoints":       {"POST", "/api/v1/namespaces/default/endpoints", `{"metadata":{"name":"e"}}`, "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"},
		"unknown field":   {"POST", "/api/v1/namespaces/default/configmaps?fieldValidation=Warn", `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"w"},"dato":{}}`, `unknown field \"dato\"`},
		"double field":    {"POST", "/api/v1/namespaces/default/configmaps?fieldValidation=Warn", `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"v","name":"v"}}`, `duplicate field \"metadata.name\"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp, body := c.get(t, tc.method, tc.path, tc.body, "Content-Type", "application/json")
			warnings := strings.Join(resp.Header.Values("Warning"), "\n")
			if resp.StatusCode >= 300 || !strings.Contains(warnings, tc.want) || !strings.HasPrefix(warnings, "299 - ") {
				t.Errorf("%s, warnings %q, want %q\n%s", resp.Status, warnings, tc.want, body)
			}
		})
	}
}

// TestBothDiscoveriesAgree compares the documents that older and newer clients read, and both with the kinds.
func TestBothDiscoveriesAgree(t *testing.T) {
	t.Parallel()
	c := start(t)
	type fact struct{ kind, scope, verbs, short, categories, singular string }
	join := func(list []string) string {
		list = slices.Clone(list)
		slices.Sort(list)
		return strings.Join(list, ",")
	}
	legacy, aggregated := make(map[string]fact), make(map[string]fact)
	read := func(path string, into any, header ...string) {
		t.Helper()
		if _, body := c.get(t, "GET", path, "", header...); json.Unmarshal([]byte(body), into) != nil {
			t.Fatalf("%s: %s", path, body)
		}
	}
	var groups metav1.APIGroupList
	read("/apis", &groups)
	paths := []string{"/api/v1"}
	for _, g := range groups.Groups {
		for _, v := range g.Versions {
			paths = append(paths, "/apis/"+v.GroupVersion)
		}
	}
	for _, path := range paths {
		var l metav1.APIResourceList
		read(path, &l)
		for _, r := range l.APIResources {
			scope := "Cluster"
			if r.Namespaced {
				scope = "Namespaced"
			}
			legacy[l.GroupVersion+"/"+r.Name] = fact{r.Kind, scope, join(r.Verbs), join(r.ShortNames), join(r.Categories), r.SingularName}
		}
	}
	for _, path := range []string{"/api", "/apis"} {
		var doc apidiscoveryv2.APIGroupDiscoveryList
		read(path, &doc, "Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
		for _, g := range doc.Items {
			for _, v := range g.Versions {
				gv := strings.TrimPrefix(g.Name+"/"+v.Version, "/")
				for _, r := range v.Resources {
					aggregated[gv+"/"+r.Resource] = fact{r.ResponseKind.Kind, string(r.Scope), join(r.Verbs), join(r.ShortNames), join(r.Categories), r.SingularResource}
					for _, s := range r.Subresources {
						f := fact{scope: string(r.Scope), verbs: join(s.Verbs)}
						if s.ResponseKind != nil {
							f.kind = s.ResponseKind.Kind
						}
						aggregated[gv+"/"+r.Resource+"/"+s.Subresource] = f
					}
				}
			}
		}
	}
	for path, l := range legacy {
		if a := aggregated[path]; l != a {
			t.Errorf("%s: older discovery says %+v, newer %+v", path, l, a)
		}
	}
	if len(legacy) != len(aggregated) {
		t.Errorf("older discovery has %d resources, newer %d", len(legacy), len(aggregated))
	}
	for _, k := range kinds.All() {
		f, ok := aggregated[k.GVK.GroupVersion().String()+"/"+k.Resource]
		if !ok || f.kind != k.GVK.Kind || f.singular != k.Singular || k.Answer == nil && (f.short != join(k.ShortNames) || f.categories != join(k.Categories)) {
			t.Errorf("%s is discovered as %+v", k.GVK, f)
		}
	}
}

func TestHealthByName(t *testing.T) {
	t.Parallel()
	broken := make(map[string]error)
	c := start(t, func(cfg *api.Config) {
		cfg.Checks = map[string]func() error{"state": func() error { return broken["state"] }, "nats": func() error { return nil }}
	})
	for _, path := range []string{"/healthz", "/livez", "/readyz"} {
		if resp, body := c.get(t, "GET", path, ""); resp.StatusCode != http.StatusOK || body != "ok" {
			t.Errorf("%s: %s %q", path, resp.Status, body)
		}
		resp, body := c.get(t, "GET", path+"?verbose", "")
		for _, want := range []string{"[+]ping ok", "[+]state ok", "[+]nats ok", path[1:] + " check passed"} {
			if resp.StatusCode != http.StatusOK || !strings.Contains(body, want) {
				t.Errorf("%s?verbose: %s, no %q in\n%s", path, resp.Status, want, body)
			}
		}
		if resp, body := c.get(t, "GET", path+"/state", ""); resp.StatusCode != http.StatusOK || body != "ok" {
			t.Errorf("%s/state: %s %q", path, resp.Status, body)
		}
	}
	broken["state"] = fmt.Errorf("disk is gone")
	for _, path := range []string{"/healthz", "/livez", "/readyz"} {
		resp, body := c.get(t, "GET", path, "")
		if resp.StatusCode != http.StatusInternalServerError || !strings.Contains(body, "[-]state failed") {
			t.Errorf("%s with a fault: %s %q", path, resp.Status, body)
		}
		if resp, body := c.get(t, "GET", path+"?exclude=state", ""); resp.StatusCode != http.StatusOK {
			t.Errorf("%s without the fault: %s %q", path, resp.Status, body)
		}
	}
}

func TestVersionAndMetrics(t *testing.T) {
	t.Parallel()
	c := start(t)
	v, err := c.client.Discovery().ServerVersion()
	if err != nil || v.Major != "1" || v.Minor != "36" || !strings.HasPrefix(v.GitVersion, "v1.36.") {
		t.Errorf("version %+v, %v", v, err)
	}
	if _, err := c.client.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	resp, body := c.get(t, "GET", "/metrics", "")
	for _, want := range []string{
		"# TYPE apiserver_request_total counter", `apiserver_request_total{`, "# TYPE apiserver_request_duration_seconds histogram",
		"go_goroutines",
	} {
		if resp.StatusCode != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("/metrics: %s, no %q", resp.Status, want)
		}
	}
	paths := struct{ Paths []string }{}
	_, body = c.get(t, "GET", "/", "", "Accept", "application/json")
	if err := json.Unmarshal([]byte(body), &paths); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"/api/v1", "/apis/apps/v1", "/healthz/ping", "/metrics", "/openapi/v3", "/version"} {
		if !slices.Contains(paths.Paths, want) {
			t.Errorf("/ does not name %s: %v", want, paths.Paths)
		}
	}
}
