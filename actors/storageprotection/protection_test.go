package storageprotection

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/controller/controllertest"
	"github.com/troupe-run/troupe/messages"
)

func meta(namespace, name, finalizer string) metav1.ObjectMeta {
	now := metav1.Now()
	return metav1.ObjectMeta{Namespace: namespace, Name: name, Finalizers: []string{finalizer}, DeletionTimestamp: &now}
}

func claim() *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{ObjectMeta: meta("ns", "da-ta", ClaimFinalizer)}
}

func user(node string, change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: corev1.PodSpec{NodeName: node, Volumes: []corev1.Volume{{
		Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "da-ta"}}}}}}
	if change != nil {
		change(p)
	}
	return p
}

func TestAClaimStaysWhileAPodHasIt(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		gone bool
	}{
		"running":            {user("n", nil), false},
		"ended":              {user("n", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), false},
		"without a node":     {user("", nil), true},
		"another claim":      {user("n", func(p *corev1.Pod) { p.Spec.Volumes[0].PersistentVolumeClaim.ClaimName = "x" }), true},
		"made for it":        {user("n", func(p *corev1.Pod) { p.Name, p.Spec.Volumes[0] = "da", ephemeral() }), false},
		"made for it, ended": {user("n", func(p *corev1.Pod) { p.Name, p.Spec.Volumes[0], p.Status.Phase = "da", ephemeral(), corev1.PodFailed }), true},
		"made for another":   {user("n", func(p *corev1.Pod) { p.Spec.Volumes[0] = ephemeral() }), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
				w.Start(Spec(w.Deps()))
				w.Settle()
				_, exists := w.Get(messages.KeyOf(claims, "ns", "da-ta"))
				if exists == tc.gone {
					t.Errorf("the claim exists: %v", exists)
				}
				w.Drop(messages.KeyOf(messages.Pods, "ns", tc.pod.Name))
				w.Settle()
				if _, exists := w.Get(messages.KeyOf(claims, "ns", "da-ta")); exists {
					t.Error("the claim outlives its last pod")
				}
			}, claim(), tc.pod)
		})
	}
}

func ephemeral() corev1.Volume {
	return corev1.Volume{Name: "ta", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}}
}

func TestAVolumeStaysWhileItIsBound(t *testing.T) {
	t.Parallel()
	v := &corev1.PersistentVolume{ObjectMeta: meta("", "pv", VolumeFinalizer), Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeBound}}
	key := messages.KeyOf(volumes, "", "pv")
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		w.Settle()
		if _, ok := w.Get(key); !ok {
			t.Fatal("a bound volume went")
		}
		released := v.DeepCopy()
		released.Status.Phase = corev1.VolumeReleased
		w.Put(released)
		w.Settle()
		if _, ok := w.Get(key); ok {
			t.Error("a released volume stays")
		}
	}, v)
}

func TestAClassStaysWhileAClaimNamesIt(t *testing.T) {
	t.Parallel()
	class := &storagev1.VolumeAttributesClass{ObjectMeta: meta("", "gold", AttributesFinalizer)}
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "da-ta"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeAttributesClassName: ptr.To("gold")}}
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		w.Settle()
		if _, ok := w.Get(messages.KeyOf(attributes, "", "gold")); !ok {
			t.Fatal("a class in use went")
		}
		w.Drop(messages.KeyOf(claims, "ns", "da-ta"))
		w.Settle()
		if _, ok := w.Get(messages.KeyOf(attributes, "", "gold")); ok {
			t.Error("the class outlives its last claim")
		}
	}, class, c)
}
