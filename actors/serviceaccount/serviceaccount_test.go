package serviceaccount

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/controller/controllertest"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/messages"
)

func team() *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}}
}

var (
	accountKey = messages.KeyOf(messages.ServiceAccounts, "team", "default")
	caKey      = messages.KeyOf(messages.ConfigMaps, "team", "kube-root-ca.crt")
)

func start(w *controllertest.World) { w.Start(Spec(w.Deps(), Config{CA: []byte("PEM")})) }

func check(t *testing.T, w *controllertest.World) {
	t.Helper()
	w.Settle()
	objectstest.Must[*corev1.ServiceAccount](t, w.Store, accountKey)
	cm := objectstest.Must[*corev1.ConfigMap](t, w.Store, caKey)
	if len(cm.Data) != 1 || cm.Data["ca.crt"] != "PEM" {
		t.Errorf("data %v", cm.Data)
	}
}

func TestEveryNamespaceGetsItsAccountAndCA(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		start(w)
		w.Put(team())
		check(t, w)
	})
}

func TestBothAreRepaired(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		start(w)
		w.Drop(accountKey)
		cm := objectstest.Must[*corev1.ConfigMap](t, w.Store, caKey)
		cm.Data = map[string]string{"ca.crt": "other", "more": "x"}
		w.Put(cm)
		check(t, w)
		w.Drop(caKey)
		check(t, w)
	}, team())
}

func TestANamespaceThatGoesGetsNothing(t *testing.T) {
	t.Parallel()
	leaving := team()
	now := metav1.Now()
	leaving.DeletionTimestamp = &now
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		start(w)
		if got := w.Writes(); len(got) != 0 {
			t.Errorf("writes %v", got)
		}
	}, leaving)
}
