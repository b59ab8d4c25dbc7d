package serviceaccount

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// SecretConfig of the controller of tokens in Secrets.
type SecretConfig struct {
	// CA is the bundle that verifies the API server, in PEM; required.
	CA []byte
	// Issue makes the token of an account that is kept in the named Secret; required.
	Issue func(sa *corev1.ServiceAccount, secret string) (string, error)
}

// secrets is the controller; its keys are those of Secrets.
type secrets struct {
	controller.Deps
	cfg SecretConfig
}

// SecretSpec returns the controller that fills Secrets of type kubernetes.io/service-account-token,
// and removes them when their account is gone.
func SecretSpec(d controller.Deps, cfg SecretConfig) controller.Spec {
	s := &secrets{d, cfg}
	return controller.Spec{
		Name: "tokens",
		Watches: []controller.Watch{
			{Resource: messages.Secrets, Keys: func(ch objects.Change) []messages.Key {
				if holdsToken(ch.Old) || holdsToken(ch.New) {
					return []messages.Key{ch.Key}
				}
				return nil
			}},
			{Resource: messages.ServiceAccounts, Keys: s.of},
		},
		Reconcile: s.reconcile,
	}
}

func holdsToken(o objects.Object) bool {
	s, ok := o.(*corev1.Secret)
	return ok && s.Type == corev1.SecretTypeServiceAccountToken
}

// of returns the Secrets of an account that came or went.
func (s *secrets) of(ch objects.Change) (keys []messages.Key) {
	if ch.Old != nil && ch.New != nil && ch.Old.GetUID() == ch.New.GetUID() {
		return nil
	}
	for _, secret := range objects.List[*corev1.Secret](s.Reader, messages.Secrets, ch.Key.Namespace) {
		if holdsToken(secret) && secret.Annotations[corev1.ServiceAccountNameKey] == ch.Key.Name {
			keys = append(keys, messages.KeyOf(messages.Secrets, secret.Namespace, secret.Name))
		}
	}
	return keys
}

func (s *secrets) reconcile(ctx context.Context, key messages.Key) (controller.Result, error) {
	secret, ok := objects.Get[*corev1.Secret](s.Reader, key)
	if !ok {
		return controller.Result{}, s.forget(ctx, key)
	}
	name := secret.Annotations[corev1.ServiceAccountNameKey]
	if !holdsToken(secret) || name == "" || secret.DeletionTimestamp != nil {
		return controller.Result{}, nil
	}
	sa, ok := objects.Get[*corev1.ServiceAccount](s.Reader, messages.KeyOf(messages.ServiceAccounts, key.Namespace, name))
	var err error
	if uid := secret.Annotations[corev1.ServiceAccountUIDKey]; !ok || uid != "" && uid != string(sa.UID) {
		err = s.Writer.Delete(ctx, key, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: ptr.To(secret.UID)}})
	} else {
		err = s.fill(ctx, key, secret, sa)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return controller.Result{}, fmt.Errorf("fill %s: %w", key, err)
	}
	return controller.Result{}, nil
}

// fill puts into a Secret what it lacks.
func (s *secrets) fill(ctx context.Context, key messages.Key, secret *corev1.Secret, sa *corev1.ServiceAccount) error {
	if filled(secret, sa, s.cfg.CA) {
		return nil
	}
	token, err := s.cfg.Issue(sa, secret.Name)
	if err != nil {
		return err
	}
	_, err = s.Writer.Mutate(ctx, key, "", func(o objects.Object) (objects.Object, error) {
		now := o.(*corev1.Secret)
		if now.UID != secret.UID || filled(now, sa, s.cfg.CA) {
			return now, nil
		}
		if now.Data == nil {
			now.Data = make(map[string][]byte)
		}
		now.Annotations[corev1.ServiceAccountUIDKey] = string(sa.UID)
		now.Data[corev1.ServiceAccountRootCAKey] = s.cfg.CA
		now.Data[corev1.ServiceAccountNamespaceKey] = []byte(now.Namespace)
		if len(now.Data[corev1.ServiceAccountTokenKey]) == 0 {
			now.Data[corev1.ServiceAccountTokenKey] = []byte(token)
		}
		return now, nil
	})
	return err
}

func filled(secret *corev1.Secret, sa *corev1.ServiceAccount, ca []byte) bool {
	return secret.Annotations[corev1.ServiceAccountUIDKey] == string(sa.UID) &&
		bytes.Equal(secret.Data[corev1.ServiceAccountRootCAKey], ca) &&
		string(secret.Data[corev1.ServiceAccountNamespaceKey]) == secret.Namespace &&
		len(secret.Data[corev1.ServiceAccountTokenKey]) > 0
}

// forget removes a Secret that is gone from the lists of accounts.
func (s *secrets) forget(ctx context.Context, key messages.Key) error {
	named := func(ref corev1.ObjectReference) bool { return ref.Name == key.Name }
	for _, sa := range objects.List[*corev1.ServiceAccount](s.Reader, messages.ServiceAccounts, key.Namespace) {
		if !slices.ContainsFunc(sa.Secrets, named) {
			continue
		}
		at := messages.KeyOf(messages.ServiceAccounts, sa.Namespace, sa.Name)
		_, err := s.Writer.Mutate(ctx, at, "", func(o objects.Object) (objects.Object, error) {
			now := o.(*corev1.ServiceAccount)
			now.Secrets = slices.DeleteFunc(now.Secrets, named)
			return now, nil
		})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("take %s off %s: %w", key, at, err)
		}
	}
	return nil
}
