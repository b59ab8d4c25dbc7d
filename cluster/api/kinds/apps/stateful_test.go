package apps

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
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
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("1Gi")}},
			}}}},
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
			Spec: corev1.PersistentVolumeClaimSpec{VolumeMode: ptr.To(corev1.PersistentVolumeFilesystem), AccessModes: old.Spec.VolumeClaimTemplates[0].Spec.AccessModes,
				Resources: old.Spec.VolumeClaimTemplates[0].Spec.Resources}, Status: corev1.PersistentVolumeClaimStatus{Phase: "Pending"},
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

func TestStatefulSetTemplate(t *testing.T) {
	t.Parallel()
	k := StatefulSet()
	mount := func(volume string) func(*appsv1.StatefulSet) {
		return func(s *appsv1.StatefulSet) {
			s.Spec.Template.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: volume, MountPath: "/data"}}
		}
	}
	for _, tc := range []struct {
		name   string
		change func(*appsv1.StatefulSet)
		want   []string
	}{
		{"claim mounted", mount("data"), nil},
		{"names of its own", func(s *appsv1.StatefulSet) {
			s.Spec.ServiceName, s.Spec.Template.Spec.Hostname, s.Spec.Template.Spec.Subdomain = "db", "A.b", "C"
		}, nil},
		{"nothing to mount", mount("logs"), []string{"FieldValueNotFound spec.template.spec.containers[0].volumeMounts[0].name"}},
		{"service, claim and start", func(s *appsv1.StatefulSet) {
			s.Spec.ServiceName, s.Spec.Ordinals = "Db.shop", &appsv1.StatefulSetOrdinals{Start: -1}
			s.Spec.VolumeClaimTemplates[0].Spec.AccessModes = nil
		}, []string{"FieldValueInvalid spec.ordinals.start", "FieldValueInvalid spec.serviceName", "FieldValueRequired spec.volumeClaimTemplates[0].spec.accessModes"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			kindtest.Want(t, kindtest.Create(k, testStatefulSet(tc.change)), tc.want...)
		})
	}
	// What was stored with a bad template can still be scaled and mended.
	old := testStatefulSet(mount("logs"))
	k.Default(old)
	s := old.DeepCopy()
	s.Spec.Replicas = ptr.To(int32(2))
	kindtest.Want(t, kindtest.Update(k, s, old))
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
	})), "FieldValueNotSupported spec.updateStrategy", "FieldValueNotSupported spec.template.spec.restartPolicy")
	kindtest.Want(t, kindtest.Create(k, build(func(d *appsv1.DaemonSet) { d.Spec.Selector = nil })), "FieldValueInvalid spec.template.metadata.labels")

	const generation = "deprecated.daemonset.template.generation"
	same := d.DeepCopy()
	same.Annotations = map[string]string{generation: "7"}
	kindtest.Want(t, kindtest.Update(k, same, d))
	rolled := d.DeepCopy()
	rolled.Spec.Template.Spec.Containers[0].Image = "web:2"
	kindtest.Want(t, kindtest.Update(k, rolled, d))
	if got := []string{d.Annotations[generation], same.Annotations[generation], rolled.Annotations[generation]}; !cmp.Equal(got, []string{"1", "1", "2"}) {
		t.Errorf("generations of the template: %v", got)
	}
}

func TestControllerRevision(t *testing.T) {
	t.Parallel()
	k := ControllerRevision()
	kindtest.Want(t, kindtest.Create(k, &appsv1.ControllerRevision{Revision: -1}), "FieldValueRequired data", "FieldValueInvalid revision")
	old := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{Name: "db-1", OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "db", Controller: ptr.To(true)}}},
		Data:       runtime.RawExtension{Raw: []byte(`{"a":1}`)}, Revision: 2,
	}
	for data, want := range map[string]string{"null": "FieldValueRequired data", "[]": "FieldValueRequired data", "{": "FieldValueInvalid data"} {
		kindtest.Want(t, kindtest.Create(k, &appsv1.ControllerRevision{Data: runtime.RawExtension{Raw: []byte(data)}}), want)
	}
	changed := old.DeepCopy()
	changed.Data.Raw = []byte(`{"a":2}`)
	kindtest.Want(t, kindtest.Update(k, changed, old), "FieldValueInvalid data")
	if diff := cmp.Diff([]any{"db-1", "statefulset.apps/db", int64(2), "<unknown>"}, k.Row(old)); diff != "" {
		t.Error(diff)
	}
}
