package serviceaccount

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

const (
	account   = "default"
	configMap = "kube-root-ca.crt"
	caFile    = "ca.crt"

	descriptionAnnotation = "kubernetes.io/description"
	description           = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."
)

// Config of the controller.
type Config struct {
	// CA is the bundle that verifies the API server, in PEM; required.
	CA []byte
}

// accounts is the controller; its keys are those of Namespaces.
type accounts struct {
	controller.Deps
	ca string
}

// Spec returns the controller of namespaces' default account and CA.
func Spec(d controller.Deps, cfg Config) controller.Spec {
	a := &accounts{d, string(cfg.CA)}
	return controller.Spec{
		Name: "serviceaccount",
		Watches: []controller.Watch{
			{Resource: messages.Namespaces},
			{Resource: messages.ServiceAccounts, Keys: namespaceOf(account)},
			{Resource: messages.ConfigMaps, Keys: namespaceOf(configMap)},
		},
		Reconcile: a.reconcile,
	}
}

// namespaceOf returns a mapping of the object of that name to its namespace.
func namespaceOf(name string) func(objects.Change) []messages.Key {
	return func(ch objects.Change) []messages.Key {
		if ch.Key.Name != name {
			return nil
		}
		return []messages.Key{messages.KeyOf(messages.Namespaces, "", ch.Key.Namespace)}
	}
}

func (a *accounts) reconcile(ctx context.Context, key messages.Key) (controller.Result, error) {
	ns, ok := objects.Get[*corev1.Namespace](a.Reader, key)
	if !ok || ns.DeletionTimestamp != nil {
		return controller.Result{}, nil
	}
	if _, ok := a.Reader.Get(messages.KeyOf(messages.ServiceAccounts, ns.Name, account)); !ok {
		err := a.create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: account}})
		if err != nil {
			return controller.Result{}, fmt.Errorf("create service account %s/%s: %w", ns.Name, account, err)
		}
	}
	return controller.Result{}, a.publish(ctx, ns.Name)
}

// publish keeps the ConfigMap as it has to be.
func (a *accounts) publish(ctx context.Context, namespace string) error {
	key := messages.KeyOf(messages.ConfigMaps, namespace, configMap)
	have, ok := objects.Get[*corev1.ConfigMap](a.Reader, key)
	var err error
	switch want := a.data(); {
	case !ok:
		err = a.create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: configMap, Annotations: map[string]string{descriptionAnnotation: description}},
			Data:       want,
		})
	case !maps.Equal(have.Data, want) || len(have.BinaryData) > 0:
		_, err = a.Writer.Mutate(ctx, key, "", func(o objects.Object) (objects.Object, error) {
			cm := o.(*corev1.ConfigMap)
			cm.Data, cm.BinaryData = want, nil
			return cm, nil
		})
		if apierrors.IsNotFound(err) {
			err = nil // its deletion brings the next pass
		}
	}
	if err != nil {
		return fmt.Errorf("publish the CA as %s: %w", key, err)
	}
	return nil
}

func (a *accounts) data() map[string]string { return map[string]string{caFile: a.ca} }

// create stores a new object; it is fine when somebody did, or when the namespace began to go.
func (a *accounts) create(ctx context.Context, obj objects.Object) error {
	_, err := a.Writer.Create(ctx, obj)
	if apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	return err
}
