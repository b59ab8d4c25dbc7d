package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

const (
	operatorNamespace = "operator"
	gadgetFinalizer   = "operator.example.com/gadget"
	byColour          = ".spec.colour"
)

// gadgetReconciler writes what a gadget is into a ConfigMap.
type gadgetReconciler struct {
	client.Client // reads from the cache
	replica       string
}

func (r *gadgetReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	g := &gadget{}
	if err := r.Get(ctx, req.NamespacedName, g); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if g.DeletionTimestamp != nil {
		if controllerutil.RemoveFinalizer(g, gadgetFinalizer) {
			return ctrl.Result{}, r.Update(ctx, g)
		}
		return ctrl.Result{}, nil
	}
	if controllerutil.AddFinalizer(g, gadgetFinalizer) {
		if err := r.Update(ctx, g); err != nil {
			return ctrl.Result{}, err
		}
	}
	settings := fmt.Sprintf("%s %dx%d", g.Spec.Colour, g.Spec.Width, g.Spec.Height)
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: g.Namespace, Name: g.Name}}
	if _, err := controllerutil.CreateOrUpdate(ctx, r.Client, cm, func() error {
		cm.Data = map[string]string{"settings": settings, "by": r.replica}
		return controllerutil.SetControllerReference(g, cm, r.Scheme())
	}); err != nil {
		return ctrl.Result{}, err
	}
	if g.Status.Settings == settings {
		return ctrl.Result{}, nil
	}
	was := g.DeepCopyObject().(*gadget)
	g.Status.Settings = settings
	return ctrl.Result{}, r.Status().Patch(ctx, g, client.MergeFrom(was))
}

// warned collects the warnings that the server gives.
type warned struct {
	mu  sync.Mutex
	all []string
}

func (w *warned) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, text)
}

func (w *warned) has(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.all, text)
}

// TestOperator runs an operator on controller-runtime, of two replicas: a resource of two versions
// with a conversion webhook, webhooks of admission, leader election, a cache with an index, owned
// objects, status and finalizers.
func TestOperator(t *testing.T) {
	t.Parallel()
	ctrl.SetLogger(logr.Discard())
	ctx := within(t, 2*time.Minute)
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), apiextensionsv1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	addGadgets(scheme)
	cfg, err := shared.config()
	if err != nil {
		t.Fatal(err)
	}
	warnings := &warned{}
	cfg.WarningHandler = warnings
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	hooks, at := newHooks(t)
	installOperator(ctx, t, c, at)

	first := newReplica(t, scheme, "first", nil)
	await(ctx, t, "the first replica leads", first.Elected())
	second := newReplica(t, scheme, "second", hooks)
	until(ctx, t, "the webhooks are asked", func(ctx context.Context) error {
		g := newOldGadget("probe", "1x2", "")
		if err := c.Create(ctx, g, client.DryRunAll); err != nil {
			return err
		}
		if err := c.Create(ctx, newOldGadget("probe", "20x20", ""), client.DryRunAll); err == nil || g.Spec.Colour != "blue" {
			return fmt.Errorf("colour %q, %v", g.Spec.Colour, err)
		}
		return nil
	})

	old := newOldGadget("one", "3x3", "")
	if err := c.Create(ctx, old); err != nil || old.Spec.Colour != "blue" {
		t.Fatalf("a gadget of the old version: %+v, %v", old.Spec, err)
	}
	if !warnings.has("squares are dull") {
		t.Errorf("the webhook's warning is not passed on: %q", warnings.all)
	}
	one := &gadget{}
	settled(ctx, t, c, "one", "blue 3x3", "first")
	if err := c.Get(ctx, key("one"), one); err != nil || one.Spec != (gadgetSpec{3, 3, "blue"}) || one.Generation != 1 || one.Status.Settings != "blue 3x3" {
		t.Errorf("the same gadget in the stored version: %+v, %v", one, err)
	}
	if err := c.Create(ctx, newOldGadget("large", "11x11", "")); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "a gadget of 11x11 is too large") {
		t.Errorf("a gadget that is too large: %v", err)
	}
	if err := c.Create(ctx, newOldGadget("vague", "large", "")); err == nil || !strings.Contains(err.Error(), "is not WIDTHxHEIGHT") {
		t.Errorf("a gadget that cannot be converted: %v", err)
	}
	if err := change(ctx, c, "one", func(g *gadget) { g.Spec.Colour = "red" }); err == nil || !strings.Contains(err.Error(), "colour is immutable") {
		t.Errorf("another colour: %v", err)
	}
	if err := change(ctx, c, "one", func(g *gadget) { g.Spec.Width, g.Labels = 4, map[string]string{"keep": "true"} }); err != nil {
		t.Fatal(err)
	}
	settled(ctx, t, c, "one", "blue 4x3", "first")

	// What the operator owns comes back.
	if err := c.Delete(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: "one"}}); err != nil {
		t.Fatal(err)
	}
	settled(ctx, t, c, "one", "blue 4x3", "first")

	// The other replica has the same in its cache, and takes over.
	if err := c.Create(ctx, &gadget{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: "two"}, Spec: gadgetSpec{1, 2, "red"}}); err != nil {
		t.Fatal(err)
	}
	settled(ctx, t, c, "two", "red 1x2", "first")
	until(ctx, t, "the cache has an index", func(ctx context.Context) error {
		list := &gadgetList{}
		err := second.GetClient().List(ctx, list, client.InNamespace(operatorNamespace), client.MatchingFields{byColour: "red"})
		if err == nil && (len(list.Items) != 1 || list.Items[0].Name != "two") {
			err = fmt.Errorf("%d gadgets", len(list.Items))
		}
		return err
	})
	holder := leader(ctx, t, c)
	first.stop()
	await(ctx, t, "the second replica leads", second.Elected())
	if now := leader(ctx, t, c); now == holder {
		t.Errorf("the lease is still held by %s", now)
	}
	if err := change(ctx, c, "two", func(g *gadget) { g.Spec.Height = 9 }); err != nil {
		t.Fatal(err)
	}
	settled(ctx, t, c, "two", "red 1x9", "second")

	// The end: what a webhook holds, what a finalizer holds, what goes with its owner.
	if err := c.Delete(ctx, one); err == nil || !strings.Contains(err.Error(), "gadget one is to be kept") {
		t.Errorf("delete a gadget that is to be kept: %v", err)
	}
	if err := change(ctx, c, "one", func(g *gadget) { g.Labels = nil }); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteAllOf(ctx, &gadget{}, client.InNamespace(operatorNamespace)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "two"} {
		for _, obj := range []client.Object{&gadget{}, &corev1.ConfigMap{}} {
			until(ctx, t, fmt.Sprintf("%T %s is gone", obj, name), func(ctx context.Context) error {
				if err := c.Get(ctx, key(name), obj); !apierrors.IsNotFound(err) {
					return fmt.Errorf("it is there (%v)", err)
				}
				return nil
			})
		}
	}
}

func key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: operatorNamespace, Name: name}
}

func newOldGadget(name, size, colour string) *oldGadget {
	return &oldGadget{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: name}, Spec: oldGadgetSpec{size, colour}}
}

func await(ctx context.Context, t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-ctx.Done():
		t.Fatalf("%s: %v", what, ctx.Err())
	}
}

// change writes a gadget anew until nobody else did meanwhile.
func change(ctx context.Context, c client.Client, name string, fn func(*gadget)) error {
	for {
		g := &gadget{}
		if err := c.Get(ctx, key(name), g); err != nil {
			return err
		}
		fn(g)
		if err := c.Update(ctx, g); !apierrors.IsConflict(err) {
			return err
		}
	}
}

// settled waits until a replica has written a gadget's settings down, in both places.
func settled(ctx context.Context, t *testing.T, c client.Client, name, settings, by string) {
	t.Helper()
	until(ctx, t, name+" is "+settings, func(ctx context.Context) error {
		g, cm := &gadget{}, &corev1.ConfigMap{}
		if err := errors.Join(c.Get(ctx, key(name), g), c.Get(ctx, key(name), cm)); err != nil {
			return err
		}
		if g.Status.Settings != settings || cm.Data["settings"] != settings || cm.Data["by"] != by || !metav1.IsControlledBy(cm, g) {
			return fmt.Errorf("%+v, %v", g.Status, cm.Data)
		}
		return nil
	})
}

func leader(ctx context.Context, t *testing.T, c client.Client) string {
	t.Helper()
	lease := &coordinationv1.Lease{}
	if err := c.Get(ctx, key("gadgets"), lease); err != nil {
		t.Fatal(err)
	}
	return ptr.Deref(lease.Spec.HolderIdentity, "")
}

var _ rest.WarningHandler = (*warned)(nil)
