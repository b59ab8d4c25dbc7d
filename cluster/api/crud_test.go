package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/troupe-run/troupe/messages"
)

func configMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Data: data}
}

func TestWatchSeesCreateUpdateDelete(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	maps := c.client.CoreV1().ConfigMaps("default")
	w, err := maps.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	made, err := maps.Create(ctx, configMap("a", map[string]string{"k": "1"}), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	made.Data["k"] = "2"
	if _, err := maps.Update(ctx, made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Update(ctx, made, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("update of an old version: %v, want Conflict", err)
	}
	if err := maps.Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		typ   watch.EventType
		value string
	}{{watch.Added, "1"}, {watch.Modified, "2"}, {watch.Deleted, "2"}} {
		ev := <-w.ResultChan()
		cm, ok := ev.Object.(*corev1.ConfigMap)
		if !ok || ev.Type != want.typ || cm.Data["k"] != want.value {
			t.Fatalf("event %s %v, want %s with %s", ev.Type, ev.Object, want.typ, want.value)
		}
	}
}

func TestPatchTypes(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	maps := c.client.CoreV1().ConfigMaps("default")
	if _, err := maps.Create(ctx, configMap("a", map[string]string{"k": "1"}), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, patch := range map[types.PatchType]string{
		types.JSONPatchType:           `[{"op":"add","path":"/data/json","value":"x"}]`,
		types.MergePatchType:          `{"data":{"merge":"x"}}`,
		types.StrategicMergePatchType: `{"data":{"strategic":"x"}}`,
	} {
		if _, err := maps.Patch(ctx, "a", name, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	got, err := maps.Get(ctx, "a", metav1.GetOptions{})
	if err != nil || len(got.Data) != 4 {
		t.Fatalf("after patches: %v, %v, want 4 keys", got.Data, err)
	}
}

func TestServerSideApplyConflictsByOwner(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	maps := c.client.CoreV1().ConfigMaps("default")
	apply := func(value, owner string, force bool) error {
		_, err := maps.Apply(ctx, applycorev1.ConfigMap("a", "default").WithData(map[string]string{"k": value}),
			metav1.ApplyOptions{FieldManager: owner, Force: force})
		return err
	}
	if err := apply("1", "alice", false); err != nil {
		t.Fatal(err)
	}
	if err := apply("2", "bob", false); !apierrors.IsConflict(err) {
		t.Fatalf("apply over another's field: %v, want Conflict", err)
	}
	if err := apply("2", "bob", true); err != nil {
		t.Fatal(err)
	}
	got, _ := maps.Get(ctx, "a", metav1.GetOptions{})
	if got.Data["k"] != "2" || len(got.ManagedFields) != 1 || got.ManagedFields[0].Manager != "bob" {
		t.Errorf("after forced apply: %v owned by %v", got.Data, got.ManagedFields)
	}
}

func TestInvalidObjectNamesTheField(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	_, err := c.client.CoreV1().ConfigMaps("default").Create(ctx, configMap("a", map[string]string{"bad key": ""}), metav1.CreateOptions{})
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Code != http.StatusUnprocessableEntity ||
		status.Status().Details.Causes[0].Field != "data[bad key]" {
		t.Errorf("create with a bad key: %v", err)
	}
}

func TestStrictFieldValidationRefusesUnknownFields(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	body := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"dato":{}}`
	post := func(mode string) error {
		return c.client.CoreV1().RESTClient().Post().Namespace("default").Resource("configmaps").
			Param("fieldValidation", mode).Body([]byte(body)).SetHeader("Content-Type", "application/json").Do(ctx).Error()
	}
	if err := post("Strict"); !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), `unknown field "dato"`) {
		t.Errorf("strict: %v", err)
	}
	if err := post("Warn"); err != nil {
		t.Errorf("warn: %v", err)
	}
}

func TestDryRunStoresNothing(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	made, err := c.client.CoreV1().ConfigMaps("default").Create(ctx, configMap("a", nil), metav1.CreateOptions{DryRun: []string{"All"}})
	if err != nil || made.UID == "" {
		t.Fatalf("dry run: %v, %v", made, err)
	}
	if _, ok := c.store.Get(messages.KeyOf(messages.ConfigMaps, "default", "a")); ok {
		t.Error("the object was stored")
	}
}

func TestListItemsAndTable(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	get := func(accept string, into any) {
		t.Helper()
		raw, err := c.client.CoreV1().RESTClient().Get().Resource("namespaces").SetHeader("Accept", accept).DoRaw(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, into); err != nil {
			t.Fatal(err)
		}
	}
	var list struct{ Items []metav1.TypeMeta }
	get("application/json", &list)
	if len(list.Items) != 4 || list.Items[0].Kind != "" {
		t.Errorf("list items %+v, want 4 that do not repeat their kind", list.Items)
	}
	var table metav1.Table
	get("application/json;as=Table;v=v1;g=meta.k8s.io", &table)
	if len(table.Rows) != 4 || table.ColumnDefinitions[1].Name != "Status" || table.Rows[0].Cells[1] != "Active" {
		t.Errorf("table %+v", table)
	}
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	c := start(t)
	_, lists, err := c.client.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	verbs := make(map[string]string)
	for _, l := range lists {
		for _, r := range l.APIResources {
			verbs[l.GroupVersion+"/"+r.Name] = strings.Join(r.Verbs, ",")
		}
	}
	for path, want := range map[string]string{
		"v1/configmaps":           "create,delete,deletecollection,get,list,patch,update,watch",
		"v1/namespaces":           "create,delete,get,list,patch,update,watch",
		"v1/pods/binding":         "create",
		"v1/pods/exec":            "create,get",
		"v1/pods/log":             "get",
		"apps/v1/deployments":     "create,delete,deletecollection,get,list,patch,update,watch",
		"events.k8s.io/v1/events": "create,delete,deletecollection,get,list,patch,update,watch",
		"authorization.k8s.io/v1/subjectaccessreviews": "create",
	} {
		if verbs[path] != want {
			t.Errorf("%s: verbs %q, want %q", path, verbs[path], want)
		}
	}
}

func TestNamespaceIsTerminatedFirst(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	spaces := c.client.CoreV1().Namespaces()
	if _, err := spaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := spaces.Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	ns, err := spaces.Get(ctx, "a", metav1.GetOptions{})
	if err != nil || ns.Status.Phase != corev1.NamespaceTerminating || ns.DeletionTimestamp == nil {
		t.Fatalf("after delete: %+v, %v", ns, err)
	}
	_, err = c.client.CoreV1().ConfigMaps("a").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{})
	if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		t.Errorf("create in a terminating namespace: %v", err)
	}
	ns.Spec.Finalizers = nil
	if _, err := spaces.Finalize(ctx, ns, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := spaces.Get(ctx, "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after finalize: %v, want NotFound", err)
	}
	if err := spaces.Delete(ctx, "default", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("delete default: %v, want Forbidden", err)
	}
	_, err = c.client.CoreV1().ConfigMaps("none").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("create in no namespace: %v, want NotFound", err)
	}
}

func TestBootPolicyIsGatheredAndMended(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	deadline := time.Now().Add(5 * time.Second)
	for {
		role, err := c.client.RbacV1().ClusterRoles().Get(ctx, "admin", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if holds(role.Rules, "deployments") && holds(role.Rules, "pods/log") && holds(role.Rules, "rolebindings") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("admin does not hold what edit and view do: %v", role.Rules)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func holds(rules []rbacv1.PolicyRule, resource string) bool {
	for _, r := range rules {
		for _, name := range r.Resources {
			if name == resource {
				return true
			}
		}
	}
	return false
}

func TestWatchEndsWithTheServer(t *testing.T) {
	t.Parallel()
	c := start(t)
	w, err := c.client.CoreV1().ConfigMaps("").Watch(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	c.stop()
	for range w.ResultChan() { // until it is closed
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("watch ended after %s", took)
	}
}
