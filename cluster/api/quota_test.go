package api_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/resourcequota"
	"github.com/troupe-run/troupe/cluster/api"
	"github.com/troupe-run/troupe/messages"
)

// withBooks lets the test count as the controller of quotas would.
func withBooks(cfg *api.Config) { cfg.Books = resourcequota.NewBooks(cfg.Store, clock.RealClock{}) }

// limit makes a quota and counts what there is, as its controller would.
func (c *cluster) limit(t *testing.T, name, resourceName, amount string) messages.Key {
	t.Helper()
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ResourceQuotaSpec{
		Hard: corev1.ResourceList{corev1.ResourceName(resourceName): resource.MustParse(amount)}}}
	if _, err := c.client.CoreV1().ResourceQuotas("default").Create(t.Context(), q, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	key := messages.KeyOf(resourcequota.Quotas, "default", name)
	if err := c.cfg.Books.Recalculate(t.Context(), c.Local("counter"), key); err != nil {
		t.Fatal(err)
	}
	return key
}

// TestQuotasHoldUnderConcurrency lets many clients create at once, half of them under names that
// are taken: no more is stored than there is room for, and what failed is not counted.
func TestQuotasHoldUnderConcurrency(t *testing.T) {
	t.Parallel()
	t.Run("config maps", func(t *testing.T) {
		t.Parallel()
		c := start(t, withBooks)
		maps := c.client.CoreV1().ConfigMaps("default")
		c.rush(t, []string{"count/configmaps", "configmaps"}, func(m metav1.ObjectMeta) error {
			_, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: m}, metav1.CreateOptions{})
			return err
		}, func() int { return len(must(maps.List(t.Context(), metav1.ListOptions{})).Items) })
	})
	client := func(t *testing.T) (*cluster, dynamic.ResourceInterface) {
		t.Parallel()
		c := start(t, withBooks)
		c.define(t, widgets)
		return c, c.dynamic(t).Resource(widgetsResource).Namespace("default")
	}
	counts := []string{"count/widgets.example.com", "count/widgets.example.com"}
	t.Run("custom resources", func(t *testing.T) {
		c, r := client(t)
		c.rush(t, counts, func(m metav1.ObjectMeta) error {
			w := widget(m.Name, map[string]any{"size": int64(1)})
			w.SetGenerateName(m.GenerateName)
			_, err := r.Create(t.Context(), w, metav1.CreateOptions{})
			return err
		}, func() int { return len(must(r.List(t.Context(), metav1.ListOptions{})).Items) })
	})
	t.Run("custom resources that are applied", func(t *testing.T) {
		c, r := client(t)
		n := atomic.Int64{}
		c.rush(t, counts, func(m metav1.ObjectMeta) error {
			if m.Name == "" {
				m.Name = fmt.Sprint(m.GenerateName, n.Add(1))
			}
			got, err := r.Apply(t.Context(), m.Name, widget(m.Name, map[string]any{"size": n.Add(1)%9 + 1}), metav1.ApplyOptions{FieldManager: "m", Force: true})
			if err == nil && got.GetGeneration() > 1 {
				return apierrors.NewAlreadyExists(corev1.Resource("widgets"), m.Name)
			}
			return err
		}, func() int { return len(must(r.List(t.Context(), metav1.ListOptions{})).Items) })
	})
	t.Run("custom resources without HTTP", func(t *testing.T) {
		c, r := client(t)
		w := c.Local("test")
		c.rush(t, counts, func(m metav1.ObjectMeta) error {
			obj := widget(m.Name, map[string]any{"size": int64(1), "limit": int64(1)})
			obj.SetNamespace("default")
			obj.SetGenerateName(m.GenerateName)
			_, err := w.Create(t.Context(), obj)
			return err
		}, func() int { return len(must(r.List(t.Context(), metav1.ListOptions{})).Items) })
	})
}

// rush creates much of one kind at once. The first of the limits has less room than the second.
func (c *cluster) rush(t *testing.T, counts []string, create func(metav1.ObjectMeta) error, list func() int) {
	t.Helper()
	const room, clients = 12, 60
	c.limit(t, "few", counts[0], fmt.Sprint(room))
	c.limit(t, "fewer", counts[1], fmt.Sprint(room+1))
	exceeded := fmt.Sprintf("exceeded quota: few, requested: %s=1, used: %s=", counts[0], counts[0])
	var wg sync.WaitGroup
	var stored, refused, taken atomic.Int64
	for i := range clients {
		wg.Go(func() {
			err := create(metav1.ObjectMeta{Name: fmt.Sprintf("cm-%d", i/2)})
			switch {
			case err == nil:
				stored.Add(1)
			case apierrors.IsAlreadyExists(err):
				taken.Add(1)
			case apierrors.IsForbidden(err) && strings.Contains(err.Error(), exceeded):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := int64(list()); n != stored.Load() || n > room {
		t.Errorf("%d stored, %d acknowledged, room for %d (%d taken, %d refused)", n, stored.Load(), room, taken.Load(), refused.Load())
	}
	for _, name := range []string{"few", "fewer"} {
		q, err := c.client.CoreV1().ResourceQuotas("default").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for res, used := range q.Status.Used {
			if used.Value() != stored.Load() {
				t.Errorf("quota %s: %d of %s used, %d stored", name, used.Value(), res, stored.Load())
			}
		}
	}
	// What was left is there for whoever comes next.
	for i := stored.Load(); i < room; i++ {
		if err := create(metav1.ObjectMeta{GenerateName: "late-"}); err != nil {
			t.Error(err)
		}
	}
}

func TestALocalWriteIsChargedToo(t *testing.T) {
	t.Parallel()
	c, ctx := start(t, withBooks), t.Context()
	c.defaultAccount(t)
	key := c.limit(t, "one", "pods", "1")
	w := c.Local("test")
	if _, err := w.Create(ctx, pod("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Create(ctx, pod("a")); !apierrors.IsForbidden(err) {
		t.Errorf("a second pod: %v", err)
	}
	q, _ := c.store.Get(key)
	if used := q.(*corev1.ResourceQuota).Status.Used[corev1.ResourcePods]; used.Value() != 1 {
		t.Errorf("used %s", used.String())
	}
}

func TestPodSecurityWarnsOfWorkloads(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	var heard warnings
	cfg := c.LoopbackConfig()
	cfg.WarningHandler = &heard
	client := kubernetes.NewForConfigOrDie(cfg)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "strict", Labels: map[string]string{
		"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"}}}
	if _, err := client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: pod("x").Spec}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: template.Labels}, Template: template}}
	if _, err := client.AppsV1().Deployments("strict").Create(ctx, d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(heard.String(), `would violate PodSecurity "restricted:latest"`) {
		t.Errorf("warnings: %s", heard.String())
	}
	if _, err := client.CoreV1().ServiceAccounts("strict").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p := pod("p")
	p.Namespace, p.Spec.HostNetwork = "strict", true
	if _, err := client.CoreV1().Pods("strict").Create(ctx, p, metav1.CreateOptions{}); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `violates PodSecurity "baseline:latest": host namespaces`) {
		t.Errorf("a pod of the host: %v", err)
	}
	ns.Labels["pod-security.kubernetes.io/enforce"] = "loose"
	if _, err := client.CoreV1().Namespaces().Update(ctx, ns, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a level that is none: %v", err)
	}
}

// warnings collects what the server warned of.
type warnings struct {
	mu   sync.Mutex
	text []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text)
}

func (w *warnings) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.text, "\n")
}

var _ rest.WarningHandler = (*warnings)(nil)
