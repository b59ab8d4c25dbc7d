package conformance

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// requests counts how informers ask.
type requests struct {
	mu    sync.Mutex
	lists map[string]int // by path: lists, and watches that begin with all that there is
}

func (r *requests) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		q := req.URL.Query()
		if req.Method == http.MethodGet && (q.Get("watch") == "" || q.Get("sendInitialEvents") == "true") {
			r.mu.Lock()
			r.lists[req.URL.Path]++
			r.mu.Unlock()
		}
		return next.RoundTrip(req)
	})
}

func (r *requests) total() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, lists := range r.lists {
		n += lists
	}
	return n
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// history is what handlers were told of config maps of one prefix.
type history struct {
	mu      sync.Mutex
	added   map[string]int
	updated map[string]string // name to the last value
	deleted map[string]int
}

func (h *history) handler() cache.ResourceEventHandlerFuncs {
	note := func(fn func(cm *corev1.ConfigMap)) func(any) {
		return func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			if cm, ok := obj.(*corev1.ConfigMap); ok && strings.HasPrefix(cm.Name, "event-") {
				h.mu.Lock()
				defer h.mu.Unlock()
				fn(cm)
			}
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    note(func(cm *corev1.ConfigMap) { h.added[cm.Name]++ }),
		UpdateFunc: func(_, obj any) { note(func(cm *corev1.ConfigMap) { h.updated[cm.Name] = cm.Data["v"] })(obj) },
		DeleteFunc: note(func(cm *corev1.ConfigMap) { h.deleted[cm.Name]++ }),
	}
}

// TestInformersOverRestarts kills troupe while informers watch and somebody writes. They end up with
// what is stored, are told of nothing twice, and list again no more than once a restart.
func TestInformersOverRestarts(t *testing.T) {
	t.Parallel()
	c, err := start(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.kill() })
	ctx := within(t, 2*time.Minute)
	cfg, err := c.config()
	if err != nil {
		t.Fatal(err)
	}
	asked := &requests{lists: make(map[string]int)}
	watching := *cfg
	watching.Wrap(asked.wrap)
	factory := informers.NewSharedInformerFactory(kubernetes.NewForConfigOrDie(&watching), 0)
	seen := &history{added: make(map[string]int), updated: make(map[string]string), deleted: make(map[string]int)}
	for _, informer := range []cache.SharedIndexInformer{factory.Core().V1().ConfigMaps().Informer(), factory.Core().V1().Pods().Informer(),
		factory.Core().V1().Services().Informer(), factory.Apps().V1().Deployments().Informer(), factory.Core().V1().Secrets().Informer()} {
		if _, err := informer.AddEventHandler(seen.handler()); err != nil {
			t.Fatal(err)
		}
	}
	known := factory.Core().V1().ConfigMaps()
	factory.Start(ctx.Done())
	for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			t.Fatalf("%v is not synced", kind)
		}
	}
	before := asked.total()

	// Every write is tried until it is done; what happened to those that a kill cut off is known then.
	maps := kubernetes.NewForConfigOrDie(cfg).CoreV1().ConfigMaps("default")
	const rounds, each = 3, 40
	for round := range rounds {
		restarted := make(chan error, 1)
		for i := range each {
			name := fmt.Sprintf("event-%d-%02d", round, i)
			if i == each/2 {
				go func() {
					if err := c.kill(); err != nil {
						restarted <- err
						return
					}
					next, err := start(c.dir, c.addr)
					if err == nil {
						c = next
					}
					restarted <- err
				}()
			}
			until(ctx, t, "create", func(ctx context.Context) error {
				_, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
				if apierrors.IsAlreadyExists(err) {
					return nil
				}
				return err
			})
			until(ctx, t, "update", func(ctx context.Context) error {
				_, err := maps.Update(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"v": name}}, metav1.UpdateOptions{})
				return err
			})
			if i%2 == 0 {
				until(ctx, t, "delete", func(ctx context.Context) error {
					err := maps.Delete(ctx, name, metav1.DeleteOptions{})
					if apierrors.IsNotFound(err) {
						return nil
					}
					return err
				})
			}
		}
		if err := <-restarted; err != nil {
			t.Fatal(err)
		}
		until(ctx, t, "the informer knows what the server does", func(ctx context.Context) error {
			stored, err := maps.List(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			cached, err := known.Lister().ConfigMaps("default").List(labels.Everything())
			if err != nil || len(cached) != len(stored.Items) {
				return fmt.Errorf("%d of %d, %v", len(cached), len(stored.Items), err)
			}
			for i := range stored.Items {
				cm, err := known.Lister().ConfigMaps("default").Get(stored.Items[i].Name)
				if err != nil || cm.ResourceVersion != stored.Items[i].ResourceVersion {
					return fmt.Errorf("%s: %v", stored.Items[i].Name, err)
				}
			}
			return nil
		})
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	for round := range rounds {
		for i := range each {
			name := fmt.Sprintf("event-%d-%02d", round, i)
			// What came and went while nobody could be told may be untold; the rest may not.
			if stays := i%2 == 1; stays && (seen.added[name] != 1 || seen.deleted[name] != 0) || !stays && seen.added[name] != seen.deleted[name] {
				t.Errorf("%s was added %d times and deleted %d times", name, seen.added[name], seen.deleted[name])
			}
		}
	}
	for name, n := range seen.added {
		if n != 1 {
			t.Errorf("%s was added %d times", name, n)
		}
	}
	for name, n := range seen.deleted {
		if n != 1 {
			t.Errorf("%s was deleted %d times", name, n)
		}
	}
	again := asked.total() - before
	t.Logf("informers listed %d times, and %d times again after %d kills", before, again, rounds)
	if again > 5*rounds {
		t.Errorf("5 informers listed %d times again after %d kills", again, rounds)
	}
}
