package testkit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"

	"github.com/troupe-run/troupe/testkit"
)

func TestConflictsAreRefused(t *testing.T) {
	t.Parallel()
	c := testkit.Start(t)
	ctx, maps := t.Context(), c.Client().CoreV1().ConfigMaps("default")
	old, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cm"}, Data: map[string]string{"n": "0"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cm"}}, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("second create: %v", err)
	}
	newer := old.DeepCopy()
	newer.Data["n"] = "1"
	if newer, err = maps.Update(ctx, newer, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Update(ctx, old, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("update of an old version: %v", err)
	}
	if err := maps.Delete(ctx, "cm", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &old.ResourceVersion}}); !apierrors.IsConflict(err) {
		t.Errorf("delete of an old version: %v", err)
	}
	if err := maps.Delete(ctx, "cm", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: new(types.UID)}}); !apierrors.IsConflict(err) {
		t.Errorf("delete of another one: %v", err)
	}
	// An update that changes nothing is no write.
	same, err := maps.Update(ctx, newer, metav1.UpdateOptions{})
	if err != nil || same.ResourceVersion != newer.ResourceVersion {
		t.Errorf("an equal update moved %s to %s: %v", newer.ResourceVersion, same.ResourceVersion, err)
	}
	// Many writers that retry on conflict lose no write.
	const writers, each = 8, 10
	done := make(chan error, writers)
	for range writers {
		go func() {
			for range each {
				if err := retry.RetryOnConflict(retry.DefaultBackoff, func() error { return increment(ctx, c.Client()) }); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	lost := 0
	for range writers {
		if err := <-done; apierrors.IsConflict(err) {
			lost++ // gave up, which is not a lost write
		} else if err != nil {
			t.Error(err)
		}
	}
	if got, err := maps.Get(ctx, "cm", metav1.GetOptions{}); err != nil || lost == 0 && got.Data["n"] != fmt.Sprint(1+writers*each) {
		t.Errorf("counted to %s, %v", got.Data["n"], err)
	}
}

func increment(ctx context.Context, client kubernetes.Interface) error {
	maps := client.CoreV1().ConfigMaps("default")
	cm, err := maps.Get(ctx, "cm", metav1.GetOptions{})
	if err != nil {
		return err
	}
	var n int
	if _, err := fmt.Sscan(cm.Data["n"], &n); err != nil {
		return err
	}
	cm.Data["n"] = fmt.Sprint(n + 1)
	_, err = maps.Update(ctx, cm, metav1.UpdateOptions{})
	return err
}

func TestDryRunChangesNothing(t *testing.T) {
	t.Parallel()
	c := testkit.Start(t)
	ctx, maps, dry := t.Context(), c.Client().CoreV1().ConfigMaps("default"), []string{metav1.DryRunAll}
	made, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cm"}}, metav1.CreateOptions{DryRun: dry})
	if err != nil || made.UID == "" || c.Get("ConfigMap cm") != nil {
		t.Errorf("dry create: %v, %v", made, err)
	}
	c.Apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: cm}, data: {a: one}}")
	got, err := maps.Patch(ctx, "cm", types.MergePatchType, []byte(`{"data":{"a":"two"}}`), metav1.PatchOptions{DryRun: dry})
	if err != nil || got.Data["a"] != "two" {
		t.Errorf("dry patch: %v, %v", got, err)
	}
	if err := maps.Delete(ctx, "cm", metav1.DeleteOptions{DryRun: dry}); err != nil {
		t.Error(err)
	}
	if cm := testkit.As[corev1.ConfigMap](c.Get("ConfigMap cm")); cm.Data["a"] != "one" {
		t.Errorf("a dry run changed %v", cm.Data)
	}
	// A service's addresses are not used up by a dry run either.
	for range 3 {
		_, err := c.Client().CoreV1().Services("default").Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"},
			Spec: corev1.ServiceSpec{ClusterIP: "10.96.5.5", Ports: []corev1.ServicePort{{Port: 80}}}}, metav1.CreateOptions{DryRun: dry})
		if err != nil {
			t.Error(err)
		}
	}
}

// warnings collects the Warning headers of a client's answers.
type warnings struct{ texts []string }

func (w *warnings) HandleWarningHeader(_ int, _ string, text string) { w.texts = append(w.texts, text) }

func TestFieldValidation(t *testing.T) {
	t.Parallel()
	c := testkit.Start(t)
	w := &warnings{}
	cfg := c.Config()
	cfg.WarningHandler = w
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	post := func(validation string) error {
		w.texts = nil
		return client.CoreV1().RESTClient().Post().Namespace("default").Resource("pods").Param("fieldValidation", validation).Param("dryRun", "All").
			SetHeader("Content-Type", "application/json").
			Body([]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i","imagee":"j","image":"k"}]}}`)).
			Do(t.Context()).Error()
	}
	err = post("Strict")
	if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), `unknown field "spec.containers[0].imagee"`) || !strings.Contains(err.Error(), `duplicate field "spec.containers[0].image"`) {
		t.Errorf("strict: %v", err)
	}
	if err := post("Warn"); err != nil || !slices.Contains(w.texts, `unknown field "spec.containers[0].imagee"`) {
		t.Errorf("warn: %v, warnings %q", err, w.texts)
	}
	if err := post("Ignore"); err != nil || len(w.texts) != 0 {
		t.Errorf("ignore: %v, warnings %q", err, w.texts)
	}
	_, err = client.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "Bad_Name"}, Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "c"}}}}, metav1.CreateOptions{})
	var status *apierrors.StatusError
	if !apierrors.IsInvalid(err) {
		t.Fatalf("an invalid pod: %v", err)
	}
	if !errors.As(err, &status) {
		t.Fatal(err)
	}
	var fields []string
	for _, cause := range status.ErrStatus.Details.Causes {
		fields = append(fields, cause.Field)
	}
	for _, want := range []string{"metadata.name", "spec.containers[0].image"} {
		if !slices.Contains(fields, want) {
			t.Errorf("causes %v miss %s", fields, want)
		}
	}
}

func TestServerSideApplyConflicts(t *testing.T) {
	t.Parallel()
	c := testkit.Start(t)
	ctx, maps := t.Context(), c.Client().CoreV1().ConfigMaps("default")
	cm := func(kv ...string) *corev1apply.ConfigMapApplyConfiguration {
		data := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			data[kv[i]] = kv[i+1]
		}
		return corev1apply.ConfigMap("cm", "default").WithData(data)
	}
	if _, err := maps.Apply(ctx, cm("a", "1", "b", "1"), metav1.ApplyOptions{FieldManager: "one"}); err != nil {
		t.Fatal(err)
	}
	_, err := maps.Apply(ctx, cm("a", "2"), metav1.ApplyOptions{FieldManager: "two"})
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "one": .data.a`) {
		t.Errorf("taking another's field: %v", err)
	}
	if _, err := maps.Apply(ctx, cm("a", "1"), metav1.ApplyOptions{FieldManager: "two"}); err != nil {
		t.Errorf("agreeing on a field: %v", err)
	}
	got, err := maps.Apply(ctx, cm("a", "2"), metav1.ApplyOptions{FieldManager: "two", Force: true})
	if err != nil || got.Data["a"] != "2" {
		t.Errorf("by force: %v, %v", got, err)
	}
	// Who no longer names a field gives it up; nobody else has it, so it goes.
	if got, err = maps.Apply(ctx, cm("c", "1"), metav1.ApplyOptions{FieldManager: "one"}); err != nil || got.Data["b"] != "" || got.Data["a"] != "2" || got.Data["c"] != "1" {
		t.Errorf("giving up a field: %v, %v", got.Data, err)
	}
}

func TestWatchesResumeAndTooOldOnesAreGone(t *testing.T) {
	testkit.Virtual(t, func(t *testing.T, c *testkit.Cluster) {
		ctx := t.Context()
		c.Apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: before}}")
		seen := c.Get("ConfigMap before").GetResourceVersion()
		c.Apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: between}}")
		c.Delete("ConfigMap between")
		last, err := c.Client().CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		events := func(rv string) (kinds []string, status error) {
			w, err := c.Client().CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{ResourceVersion: rv, FieldSelector: "metadata.name!=kube-root-ca.crt"})
			if err != nil {
				return nil, err
			}
			defer w.Stop()
			for {
				select {
				case ev, open := <-w.ResultChan():
					if !open {
						return kinds, status
					}
					if ev.Type == watch.Error {
						return kinds, apierrors.FromObject(ev.Object)
					}
					o, ok := ev.Object.(metav1.Object)
					if !ok {
						return kinds, fmt.Errorf("event %v", ev)
					}
					kinds = append(kinds, fmt.Sprint(ev.Type, " ", o.GetName()))
				case <-time.After(time.Second):
					return kinds, nil
				}
			}
		}
		if got, err := events(seen); err != nil || !slices.Equal(got, []string{"ADDED between", "DELETED between"}) {
			t.Errorf("resumed with %v, %v", got, err)
		}
		c.Restart()
		c.Apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: after}}")
		// What was missed during the restart is told, or the client is told to list anew; nothing is skipped.
		got, err := events(last.ResourceVersion)
		if err != nil && !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) || err == nil && !slices.Equal(got, []string{"ADDED after"}) {
			t.Errorf("after the restart: %v, %v", got, err)
		}
		if got, err := events(seen); !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) && !slices.Equal(got, []string{"ADDED between", "DELETED between", "ADDED after"}) {
			t.Errorf("from before the restart: %v, %v", got, err)
		}
		if got, err := events("1"); !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
			t.Errorf("from the beginning of time: %v, %v", got, err)
		}
	}, testkit.DataDir(t.TempDir()))
}

func TestTokensOfServiceAccountsAuthenticate(t *testing.T) {
	t.Parallel()
	c := testkit.Start(t)
	c.Apply(`
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: reader, namespace: default}]
`)
	client := as(t, c, "reader")
	if _, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("list pods as a viewer: %v", err)
	}
	if _, err := client.CoreV1().Pods("kube-system").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("list pods elsewhere: %v", err)
	}
	if _, err := client.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("list secrets as a viewer: %v", err)
	}
	c.Delete("ServiceAccount reader")
	c.WaitFor("ServiceAccount reader", testkit.Gone)
	if _, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("with a token of an account that is gone: %v", err)
	}
}

// as is a client that has nothing but a token of a service account in the namespace default.
func as(t *testing.T, c *testkit.Cluster, account string) kubernetes.Interface {
	t.Helper()
	tr := tokenRequest(t, c, account)
	cfg := rest.AnonymousClientConfig(c.Config())
	cfg.BearerToken = tr
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func tokenRequest(t *testing.T, c *testkit.Cluster, account string) string {
	t.Helper()
	tr, err := c.Client().CoreV1().ServiceAccounts("default").CreateToken(t.Context(), account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return tr.Status.Token
}
