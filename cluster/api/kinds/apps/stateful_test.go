package apps

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

func testStatefulSet(change ...func(*appsv1.StatefulSet)) *appsv1.StatefulSet {
	s := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec: appsv1.StatefulSetSpec{Selector: &metav1.LabelSelector{MatchLabels: webLabels}, Template: webTemplate(),
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}}},
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func TestStatefulSet(t *testing.T) {
	t.Parallel()
	k := StatefulSet()
	old := testStatefulSet()
	kindtest.Want(t, kindtest.Create(k, old))
	want := appsv1.StatefulSetSpec{
		Replicas: ptr.To(int32(1)), Selector: old.Spec.Selector, Template: old.Spec.Template, PodManagementPolicy: "OrderedReady", RevisionHistoryLimit: ptr.To(int32(10)),
		UpdateStrategy:                       appsv1.StatefulSetUpdateStrategy{Type: "RollingUpdate", RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: ptr.To(int32(0))}},
		PersistentVolumeClaimRetentionPolicy: &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: "Retain", WhenScaled: "Retain"},
		VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}, ObjectMeta: metav1.ObjectMeta{Name: "data"},
			Spec: corev1.PersistentVolumeClaimSpec{VolumeMode: ptr.To(corev1.PersistentVolumeFilesystem)}, Status: corev1.PersistentVolumeClaimStatus{Phase: "Pending"},
		}},
	}
	if diff := cmp.Diff(want, old.Spec); diff != "" {
		t.Error(diff)
	}
	for _, tc := range []struct {
		name   string
		change func(*appsv1.StatefulSet)
		want   []string
	}{
		{"scale and roll", func(s *appsv1.StatefulSet) {
			s.Spec.Replicas, s.Spec.MinReadySeconds, s.Spec.Template.Spec.Containers[0].Image = ptr.To(int32(3)), 5, "web:2"
		}, nil},
		{"service", func(s *appsv1.StatefulSet) { s.Spec.ServiceName = "other" }, []string{"FieldValueForbidden spec"}},
		{"policies", func(s *appsv1.StatefulSet) {
			s.Spec.PodManagementPolicy, s.Spec.PersistentVolumeClaimRetentionPolicy.WhenScaled = "Any", "Keep"
			s.Spec.UpdateStrategy.RollingUpdate.Partition = ptr.To(int32(-1))
		}, []string{"FieldValueInvalid spec.podManagementPolicy", "FieldValueNotSupported spec.persistentVolumeClaimRetentionPolicy.whenScaled",
			"FieldValueInvalid spec.updateStrategy.rollingUpdate.partition", "FieldValueForbidden spec"}},
		{"on delete", func(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.Type = "OnDelete" }, []string{"FieldValueInvalid spec.updateStrategy.rollingUpdate"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := old.DeepCopy()
			tc.change(s)
			kindtest.Want(t, kindtest.Update(k, s, old), tc.want...)
		})
	}
}

func TestDaemonSet(t *testing.T) {
	t.Parallel()
	k := DaemonSet()
	build := func(change func(*appsv1.DaemonSet)) *appsv1.DaemonSet {
		d := &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: webLabels}, Template: webTemplate()}}
		change(d)
		return d
	}
	d := build(func(*appsv1.DaemonSet) {})
	kindtest.Want(t, kindtest.Create(k, d))
	want := appsv1.DaemonSetUpdateStrategy{Type: "RollingUpdate", RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: ptr.To(intstr.FromInt32(1)), MaxSurge: ptr.To(intstr.FromInt32(0))}}
	if diff := cmp.Diff(want, d.Spec.UpdateStrategy); diff != "" {
		t.Error(diff)
	}
	kindtest.Want(t, kindtest.Create(k, build(func(d *appsv1.DaemonSet) {
		d.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxSurge: ptr.To(intstr.FromInt32(1))}
	})), "FieldValueInvalid spec.updateStrategy.rollingUpdate.maxSurge")
	kindtest.Want(t, kindtest.Create(k, build(func(d *appsv1.DaemonSet) {
		d.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: ptr.To(intstr.FromString("0%"))}
	})), "FieldValueRequired spec.updateStrategy.rollingUpdate.maxUnavailable")
	kindtest.Want(t, kindtest.Create(k, build(func(d *appsv1.DaemonSet) {
		d.Spec.UpdateStrategy.Type, d.Spec.Template.Spec.RestartPolicy = "Never", corev1.RestartPolicyOnFailure
	})), "FieldValueNotSupported spec.updateStrategy.type", "FieldValueNotSupported spec.template.spec.restartPolicy")
}

func TestControllerRevision(t *testing.T) {
	t.Parallel()
	k := ControllerRevision()
	kindtest.Want(t, kindtest.Create(k, &appsv1.ControllerRevision{Revision: -1}), "FieldValueRequired data", "FieldValueInvalid revision")
	old := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{Name: "db-1", OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "db", Controller: ptr.To(true)}}},
		Data:       runtime.RawExtension{Raw: []byte(`{"a":1}`)}, Revision: 2,
	}
	changed := old.DeepCopy()
	changed.Data.Raw = []byte(`{"a":2}`)
	kindtest.Want(t, kindtest.Update(k, changed, old), "FieldValueInvalid data")
	if diff := cmp.Diff([]any{"db-1", "statefulset.apps/db", int64(2), "<unknown>"}, k.Row(old)); diff != "" {
		t.Error(diff)
	}
}
