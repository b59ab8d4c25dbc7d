package bootstraptoken

import (
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cluster-bootstrap/token/jws"

	"github.com/troupe-run/troupe/actors/controller/controllertest"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/messages"
)

func token(id string, change map[string]string) *corev1.Secret {
	s := &corev1.Secret{Type: "bootstrap.kubernetes.io/token",
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-" + id},
		Data:       map[string][]byte{"token-id": []byte(id), "token-secret": []byte("0123456789abcdef"), "usage-bootstrap-signing": []byte("true")}}
	for k, v := range change {
		s.Data[k] = []byte(v)
	}
	return s
}

func TestTokensSignAndEnd(t *testing.T) {
	t.Parallel()
	info := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-public", Name: "cluster-info"},
		Data: map[string]string{"kubeconfig": "where and whom", "jws-kubeconfig-gone00": "x", "note": "mine"}}
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		signed := func() (*corev1.ConfigMap, []string) {
			w.Settle()
			cm := objectstest.Must[*corev1.ConfigMap](t, w.Store, clusterInfo)
			return cm, slices.Sorted(maps.Keys(cm.Data))
		}
		w.Start(Spec(w.Deps()))
		w.Put(token("abcdef", map[string]string{"expiration": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}),
			token("joiner", map[string]string{"usage-bootstrap-signing": "false"}), token("broken", map[string]string{"expiration": "tomorrow"}))
		cm, keys := signed()
		if !slices.Equal(keys, []string{"jws-kubeconfig-abcdef", "kubeconfig", "note"}) {
			t.Errorf("keys %v", keys)
		}
		if !jws.DetachedTokenIsValid(cm.Data["jws-kubeconfig-abcdef"], "where and whom", "abcdef", "0123456789abcdef") {
			t.Errorf("signature %q", cm.Data["jws-kubeconfig-abcdef"])
		}
		if _, ok := w.Get(messages.KeyOf(messages.Secrets, "kube-system", "bootstrap-token-broken")); ok {
			t.Error("a token with an end that cannot be read is still there")
		}
		cm.Data["kubeconfig"] = "moved"
		w.Put(cm)
		if cm, _ := signed(); !jws.DetachedTokenIsValid(cm.Data["jws-kubeconfig-abcdef"], "moved", "abcdef", "0123456789abcdef") {
			t.Error("a change is not signed")
		}
		time.Sleep(time.Hour)
		if _, keys := signed(); !slices.Equal(keys, []string{"kubeconfig", "note"}) {
			t.Errorf("keys %v after the token's end", keys)
		}
		objectstest.Must[*corev1.Secret](t, w.Store, messages.KeyOf(messages.Secrets, "kube-system", "bootstrap-token-joiner"))
	}, info)
}
