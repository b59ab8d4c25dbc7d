package storage

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

func TestStorageClass(t *testing.T) {
	t.Parallel()
	k := StorageClass()
	c := &storagev1.StorageClass{ObjectMeta: named("fast"), Provisioner: "example.com/disk"}
	c.Annotations = map[string]string{DefaultAnnotation: "true"}
	kindtest.Want(t, kindtest.Create(k, c))
	if diff := cmp.Diff([]any{"fast (default)", "example.com/disk", "Delete", "Immediate", false, "<unknown>"}, k.Row(c)); diff != "" {
		t.Error(diff)
	}
	zone := corev1.TopologySelectorTerm{MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: "zone", Values: []string{"a", "a"}}, {Key: "zone"}}}
	kindtest.Want(t, kindtest.Create(k, &storagev1.StorageClass{
		Parameters: map[string]string{"": "x"}, ReclaimPolicy: ptr.To(corev1.PersistentVolumeReclaimRecycle), VolumeBindingMode: ptr.To(storagev1.VolumeBindingMode("Soon")),
		AllowedTopologies: []corev1.TopologySelectorTerm{zone},
	}), "FieldValueRequired provisioner", "FieldValueInvalid parameters", "FieldValueNotSupported reclaimPolicy", "FieldValueNotSupported volumeBindingMode",
		"FieldValueDuplicate allowedTopologies[0].matchLabelExpressions[0].values[1]", "FieldValueRequired allowedTopologies[0].matchLabelExpressions[1].values",
		"FieldValueDuplicate allowedTopologies[0].matchLabelExpressions[1].key")
	changed := c.DeepCopy()
	changed.AllowVolumeExpansion = ptr.To(true)
	kindtest.Want(t, kindtest.Update(k, changed, c))
	changed.Provisioner, changed.Parameters, changed.ReclaimPolicy = "other", map[string]string{"a": "b"}, ptr.To(corev1.PersistentVolumeReclaimRetain)
	changed.VolumeBindingMode = ptr.To(storagev1.VolumeBindingWaitForFirstConsumer)
	kindtest.Want(t, kindtest.Update(k, changed, c), "FieldValueInvalid parameters", "FieldValueInvalid provisioner", "FieldValueInvalid reclaimPolicy", "FieldValueInvalid volumeBindingMode")
}

func TestVolumeAttributesClass(t *testing.T) {
	t.Parallel()
	k := VolumeAttributesClass()
	c := &storagev1.VolumeAttributesClass{ObjectMeta: named("gold"), DriverName: "disk.example.com", Parameters: map[string]string{"iops": "9"}}
	kindtest.Want(t, kindtest.Create(k, c))
	kindtest.Want(t, kindtest.Create(k, &storagev1.VolumeAttributesClass{}), "FieldValueRequired driverName", "FieldValueRequired parameters")
	changed := c.DeepCopy()
	changed.DriverName, changed.Parameters = "other", nil
	kindtest.Want(t, kindtest.Update(k, changed, c), "FieldValueForbidden driverName", "FieldValueForbidden parameters", "FieldValueRequired parameters")
}

func TestCSIDriver(t *testing.T) {
	t.Parallel()
	k := CSIDriver()
	d := &storagev1.CSIDriver{ObjectMeta: named("disk.example.com")}
	kindtest.Want(t, kindtest.Create(k, d))
	if diff := cmp.Diff([]any{"disk.example.com", true, false, false, "<unset>", false, "Persistent", "<unknown>"}, k.Row(d)); diff != "" {
		t.Error(diff)
	}
	if *d.Spec.FSGroupPolicy != "ReadWriteOnceWithFSType" || *d.Spec.SELinuxMount {
		t.Errorf("%+v", d.Spec)
	}
	changed := d.DeepCopy()
	changed.Spec.AttachRequired, changed.Spec.VolumeLifecycleModes, changed.Spec.FSGroupPolicy = ptr.To(false), []storagev1.VolumeLifecycleMode{"Brief"}, ptr.To(storagev1.FSGroupPolicy("Any"))
	changed.Spec.TokenRequests = []storagev1.TokenRequest{{Audience: "a", ExpirationSeconds: ptr.To[int64](5)}, {Audience: "a"}}
	kindtest.Want(t, kindtest.Update(k, changed, d), "FieldValueInvalid spec.attachedRequired", "FieldValueInvalid spec.volumeLifecycleModes", "FieldValueNotSupported spec.volumeLifecycleModes",
		"FieldValueNotSupported spec.fsGroupPolicy", "FieldValueInvalid spec.tokenRequests[0].expirationSeconds", "FieldValueDuplicate spec.tokenRequests[1].audience")
}

func TestCSINode(t *testing.T) {
	t.Parallel()
	k := CSINode()
	n := &storagev1.CSINode{ObjectMeta: named("n"), Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: "d", NodeID: "1", TopologyKeys: []string{"zone"}}}}}
	kindtest.Want(t, kindtest.Create(k, n))
	kindtest.Want(t, kindtest.Create(k, &storagev1.CSINode{Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: "d", NodeID: "1", TopologyKeys: []string{"zone", "zone"}}, {Name: "d", Allocatable: &storagev1.VolumeNodeResources{Count: ptr.To[int32](-1)}}}}}),
		"FieldValueDuplicate spec.drivers[0]", "FieldValueDuplicate spec.drivers[1].name", "FieldValueRequired spec.drivers[1].nodeID", "FieldValueInvalid spec.drivers[1].allocatable.count")
	changed := n.DeepCopy()
	changed.Spec.Drivers[0].NodeID = "2"
	kindtest.Want(t, kindtest.Update(k, changed, n), "FieldValueInvalid spec.drivers")
}

func TestVolumeAttachment(t *testing.T) {
	t.Parallel()
	k := VolumeAttachment()
	a := &storagev1.VolumeAttachment{ObjectMeta: named("a"), Spec: storagev1.VolumeAttachmentSpec{
		Attacher: "d", NodeName: "n", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: ptr.To("pv")}}}
	a.Status.Attached = true
	kindtest.Want(t, kindtest.Create(k, a))
	if diff := cmp.Diff([]any{"a", "d", "pv", "n", false, "<unknown>"}, k.Row(a)); diff != "" {
		t.Error(diff)
	}
	kindtest.Want(t, kindtest.Create(k, &storagev1.VolumeAttachment{}), "FieldValueRequired spec.attacher", "FieldValueRequired spec.attacher", "FieldValueInvalid spec.nodeName", "FieldValueRequired spec.source")
	inline := &corev1.PersistentVolumeSpec{ClaimRef: &corev1.ObjectReference{}, StorageClassName: "fast", PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete}
	kindtest.Want(t, kindtest.Create(k, &storagev1.VolumeAttachment{Spec: storagev1.VolumeAttachmentSpec{Attacher: "d", NodeName: "n", Source: storagev1.VolumeAttachmentSource{InlineVolumeSpec: inline}}}),
		"FieldValueForbidden spec.source.inlineVolumeSpec.claimRef", "FieldValueForbidden spec.source.inlineVolumeSpec.storageClassName", "FieldValueForbidden spec.source.inlineVolumeSpec.persistentVolumeReclaimPolicy",
		"FieldValueRequired spec.source.inlineVolumeSpec.csi", "FieldValueRequired spec.source.inlineVolumeSpec.accessModes")
	changed := a.DeepCopy()
	changed.Spec.NodeName = "m"
	kindtest.Want(t, kindtest.Update(k, changed, a), "FieldValueInvalid spec")
	changed.Status.Attached = true
	kindtest.Want(t, kindtest.Sub(k.Status, changed, a))
	if changed.Spec.NodeName != "n" {
		t.Error("a status update changed the spec")
	}
}

func TestCSIStorageCapacity(t *testing.T) {
	t.Parallel()
	k := CSIStorageCapacity()
	c := &storagev1.CSIStorageCapacity{ObjectMeta: named("c"), StorageClassName: "fast", Capacity: ptr.To(resource.MustParse("5Gi"))}
	kindtest.Want(t, kindtest.Create(k, c))
	changed := c.DeepCopy()
	changed.StorageClassName, changed.Capacity = "slow", ptr.To(resource.MustParse("-1"))
	kindtest.Want(t, kindtest.Update(k, changed, c), "FieldValueInvalid capacity", "FieldValueInvalid storageClassName")
}
