package core

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

func TestPersistentVolume(t *testing.T) {
	t.Parallel()
	k := PersistentVolume()
	build := func(change func(*corev1.PersistentVolumeSpec)) *corev1.PersistentVolume {
		v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{"storage": resource.MustParse("5Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv"}},
		}}
		change(&v.Spec)
		return v
	}
	good := build(func(s *corev1.PersistentVolumeSpec) { s.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: "c"} })
	kindtest.Want(t, kindtest.Create(k, good))
	if diff := cmp.Diff([]any{"v", "5Gi", "RWO", "Retain", "Pending", "ns/c", "", "<unset>", "", "<unknown>", "Filesystem"}, k.Row(good)); diff != "" {
		t.Error(diff)
	}
	for name, tc := range map[string]struct {
		change func(*corev1.PersistentVolumeSpec)
		want   []string
	}{
		"nothing": {func(s *corev1.PersistentVolumeSpec) { *s = corev1.PersistentVolumeSpec{} },
			[]string{"FieldValueRequired spec", "FieldValueRequired spec.accessModes", "FieldValueRequired spec.capacity", "FieldValueNotSupported spec.capacity"}},
		"two sources": {func(s *corev1.PersistentVolumeSpec) { s.NFS = &corev1.NFSVolumeSource{} }, []string{"FieldValueForbidden spec.nfs"}},
		"local": {func(s *corev1.PersistentVolumeSpec) {
			s.HostPath, s.Local = nil, &corev1.LocalVolumeSource{Path: "/a/../b"}
		}, []string{"FieldValueInvalid spec.local.path", "FieldValueRequired spec.nodeAffinity"}},
		"csi": {func(s *corev1.PersistentVolumeSpec) {
			s.HostPath, s.CSI = nil, &corev1.CSIPersistentVolumeSource{Driver: "d", NodeExpandSecretRef: &corev1.SecretReference{Name: "A"}, NodeStageSecretRef: &corev1.SecretReference{}}
		}, []string{"FieldValueInvalid spec.csi.nodeExpandSecretRef.name", "FieldValueRequired spec.csi.nodeExpandSecretRef.namespace", "FieldValueRequired spec.csi.volumeHandle"}},
		"host path": {func(s *corev1.PersistentVolumeSpec) { s.HostPath.Type = ptr.To(corev1.HostPathType("Hole")) }, []string{"FieldValueNotSupported spec.hostPath.type"}},
		"nfs": {func(s *corev1.PersistentVolumeSpec) {
			s.HostPath, s.NFS = nil, &corev1.NFSVolumeSource{Server: "s", Path: "a"}
		}, []string{"FieldValueInvalid spec.nfs.path"}},
		"iscsi": {func(s *corev1.PersistentVolumeSpec) {
			s.HostPath, s.ISCSI = nil, &corev1.ISCSIPersistentVolumeSource{TargetPortal: "p", IQN: "disk", Lun: 256, SessionCHAPAuth: true, InitiatorName: ptr.To("iqn.x")}
		}, []string{"FieldValueInvalid spec.iscsi.iqn", "FieldValueInvalid spec.iscsi.lun", "FieldValueRequired spec.iscsi.secretRef", "FieldValueInvalid spec.iscsi.initiatorname"}},
		"fibre": {func(s *corev1.PersistentVolumeSpec) {
			s.HostPath, s.FC = nil, &corev1.FCVolumeSource{TargetWWNs: []string{"a"}, WWIDs: []string{"b"}}
		}, []string{"FieldValueInvalid spec.fc.targetWWNs", "FieldValueRequired spec.fc.lun"}},
		"modes": {func(s *corev1.PersistentVolumeSpec) {
			s.AccessModes = []corev1.PersistentVolumeAccessMode{"Any", corev1.ReadWriteOnce, corev1.ReadWriteOncePod}
			s.VolumeMode, s.PersistentVolumeReclaimPolicy = ptr.To(corev1.PersistentVolumeMode("Tape")), "Burn"
		}, []string{"FieldValueForbidden spec.accessModes", "FieldValueNotSupported spec.accessModes", "FieldValueNotSupported spec.persistentVolumeReclaimPolicy", "FieldValueNotSupported spec.volumeMode"}},
		"size": {func(s *corev1.PersistentVolumeSpec) {
			s.Capacity = corev1.ResourceList{"storage": resource.MustParse("0"), "cpu": resource.MustParse("1")}
		}, []string{"FieldValueInvalid spec.capacity[storage]", "FieldValueNotSupported spec.capacity"}},
		"class": {func(s *corev1.PersistentVolumeSpec) {
			s.StorageClassName, s.VolumeAttributesClassName = "A", ptr.To("")
		}, []string{"FieldValueInvalid spec.storageClassName", "FieldValueRequired spec.csi", "FieldValueRequired spec.volumeAttributesClassName"}},
		"root": {func(s *corev1.PersistentVolumeSpec) {
			s.HostPath.Path, s.PersistentVolumeReclaimPolicy = "/", "Recycle"
		}, []string{"FieldValueForbidden spec.persistentVolumeReclaimPolicy"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Create(k, build(tc.change)), tc.want...)
		})
	}
	changed := good.DeepCopy()
	changed.Spec.Capacity["storage"], changed.Spec.PersistentVolumeReclaimPolicy = resource.MustParse("6Gi"), "Delete"
	kindtest.Want(t, kindtest.Update(k, changed, good))
	changed.Spec.HostPath.Path, changed.Spec.VolumeMode = "/other", ptr.To(corev1.PersistentVolumeBlock)
	kindtest.Want(t, kindtest.Update(k, changed, good), "FieldValueForbidden spec.persistentvolumesource", "FieldValueInvalid volumeMode")

	zone := func(label string) *corev1.VolumeNodeAffinity {
		return &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: label, Operator: corev1.NodeSelectorOpIn, Values: []string{"z"}}}}}}}
	}
	csi := func(change func(*corev1.PersistentVolumeSpec)) *corev1.PersistentVolume {
		v := build(func(s *corev1.PersistentVolumeSpec) {
			s.HostPath, s.CSI = nil, &corev1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: "h"}
			s.NodeAffinity, s.VolumeAttributesClassName = zone(corev1.LabelFailureDomainBetaZone), ptr.To("gold")
			change(s)
		})
		defaultVolume(v)
		return v
	}
	old := csi(func(*corev1.PersistentVolumeSpec) {})
	for name, tc := range map[string]struct {
		change func(*corev1.PersistentVolumeSpec)
		want   []string
	}{
		"secret added": {func(s *corev1.PersistentVolumeSpec) {
			s.CSI.ControllerExpandSecretRef = &corev1.SecretReference{Name: "a", Namespace: "b"}
		}, nil},
		"label by its newer name": {func(s *corev1.PersistentVolumeSpec) { s.NodeAffinity = zone(corev1.LabelTopologyZone) }, nil},
		"other label":             {func(s *corev1.PersistentVolumeSpec) { s.NodeAffinity = zone("rack") }, []string{"FieldValueInvalid nodeAffinity"}},
		"no class":                {func(s *corev1.PersistentVolumeSpec) { s.VolumeAttributesClassName = nil }, []string{"FieldValueForbidden spec.volumeAttributesClassName"}},
		"other class":             {func(s *corev1.PersistentVolumeSpec) { s.VolumeAttributesClassName = ptr.To("silver") }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Update(k, csi(tc.change), old), tc.want...)
		})
	}
}

func TestVolumeWarnings(t *testing.T) {
	t.Parallel()
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"volume.beta.kubernetes.io/storage-class": "a", "volume.beta.kubernetes.io/mount-options": "ro"}},
		Spec: corev1.PersistentVolumeSpec{PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRecycle, PersistentVolumeSource: corev1.PersistentVolumeSource{RBD: &corev1.RBDPersistentVolumeSource{}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "beta.kubernetes.io/os"}}}}}}}}
	want := []string{
		`metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use "storageClassName" attribute instead`,
		`metadata.annotations[volume.beta.kubernetes.io/mount-options]: deprecated since v1.31; use "mountOptions" attribute instead`,
		"spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
		`spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use "kubernetes.io/os" instead`,
		"spec.rbd: deprecated in v1.28, non-functional in v1.31+",
	}
	if diff := cmp.Diff(want, PersistentVolume().Warnings(t.Context(), v, nil)); diff != "" {
		t.Error(diff)
	}
	if got := PersistentVolume().Warnings(t.Context(), &corev1.PersistentVolume{}, nil); len(got) > 0 {
		t.Errorf("of nothing: %q", got)
	}
	claim := &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{Resources: corev1.VolumeResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1500m")}}}}
	want = []string{`spec.resources.requests[storage]: fractional byte value "1500m" is invalid, must be an integer`}
	if diff := cmp.Diff(want, PersistentVolumeClaim().Warnings(t.Context(), claim, nil)); diff != "" {
		t.Error(diff)
	}
}
