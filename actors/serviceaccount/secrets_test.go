package serviceaccount

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/actors/controller/controllertest"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/messages"
)

func robot(uid types.UID) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "robot", UID: uid},
		Secrets: []corev1.ObjectReference{{Name: "key"}, {Name: "other"}}}
}

func tokenSecret(name string) *corev1.Secret {
	return &corev1.Secret{Type: corev1.SecretTypeServiceAccountToken, ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name,
		Annotations: map[string]string{corev1.ServiceAccountNameKey: "robot"}}}
}

var secretKey = messages.KeyOf(messages.Secrets, "team", "key")

func startSecrets(w *controllertest.World) {
	w.Start(SecretSpec(w.Deps(), SecretConfig{CA: []byte("PEM"), Issue: func(sa *corev1.ServiceAccount, secret string) (string, error) {
		return string(sa.UID) + "/" + secret, nil
	}}))
}

func TestSecretsAreFilledAndDieWithTheirAccount(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		startSecrets(w)
		plain := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "plain"}}
		w.Put(tokenSecret("key"), plain)
		w.Settle()
		s := objectstest.Must[*corev1.Secret](t, w.Store, secretKey)
		if string(s.Data["token"]) != "1/key" || string(s.Data["ca.crt"]) != "PEM" || string(s.Data["namespace"]) != "team" ||
			s.Annotations[corev1.ServiceAccountUIDKey] != "1" {
			t.Errorf("secret %+v", s)
		}
		w.Drop(messages.KeyOf(messages.ServiceAccounts, "team", "robot"))
		w.Put(robot("2"))
		w.Settle()
		if _, ok := w.Get(secretKey); ok {
			t.Error("the secret of an account that was is still there")
		}
		sa := objectstest.Must[*corev1.ServiceAccount](t, w.Store, messages.KeyOf(messages.ServiceAccounts, "team", "robot"))
		if len(sa.Secrets) != 1 || sa.Secrets[0].Name != "other" {
			t.Errorf("the account still names the secret: %v", sa.Secrets)
		}
		objectstest.Must[*corev1.Secret](t, w.Store, messages.KeyOf(messages.Secrets, "team", "plain"))
	}, team(), robot("1"))
}

func TestASecretOfNobodyGoes(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		startSecrets(w)
		w.Settle()
		if _, ok := w.Get(secretKey); ok {
			t.Error("it is still there")
		}
	}, team(), tokenSecret("key"))
}
